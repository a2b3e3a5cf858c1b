"""Many customers at once, as light as can be: raw HTTP in one event loop, beside the test, which turns the knobs.

Every question carries a tag as its first word, so that what arrived at a server can be told from its journal.
"""

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

SECONDS = 60
MODEL = "llama3.2:3b"
_numbers = itertools.count(1)


@dataclass
class Told:
    """A question and what was told. status 0: no answer at all; `broken`: it ended before its end."""

    tag: str
    plan: str
    stream: bool
    sent_at: float
    """Epoch seconds, as in the sandbox's journals."""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    broken: bool = True
    ended_at: float = 0.0

    @property
    def answered(self) -> bool:
        """A whole answer."""
        if self.status != 200 or self.broken:
            return False
        return self.body.endswith(b"data: [DONE]\n\n") and self.cut == "" if self.stream else b'"choices"' in self.body

    @property
    def refusal(self) -> str:
        """The error's code; empty where there was none."""
        if self.status in (0, 200) or self.broken:
            return ""
        return str(json.loads(self.body)["error"]["code"])

    @property
    def cut(self) -> str:
        """The code of the error event that a stream ended with; empty where it had none."""
        for line in self.body.split(b"\n"):
            if line.startswith(b'data: {"error"'):
                return str(json.loads(line[6:])["error"]["code"])
        return ""

    @property
    def request(self) -> str:
        """The request's id, as the rows have it."""
        return self.headers.get("x-request-id", "").removeprefix("req_")


@dataclass(frozen=True)
class Customer:
    plan: str
    key: str


class Crowd:
    """The loop and all that was told in it. Close it at the end."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.told: list[Told] = []
        """In the order of asking."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._running: list[Any] = []
        self._stopped = False

    def ask(self, customers: Iterable[Customer], **members: Any) -> None:
        """Each of them one question, all at once; every other one streamed."""
        for number, customer in enumerate(customers):
            self._begin(self._one(customer, number % 2 == 0, members))

    def keep_asking(self, customers: Iterable[Customer], **members: Any) -> None:
        """Each of them one question after the other until `enough`; every other one streamed."""
        for number, customer in enumerate(customers):
            self._begin(self._many(customer, number % 2 == 0, members))

    def enough(self) -> None:
        """No further question from those who keep asking."""
        self._stopped = True

    def leave(self, number: int) -> None:
        """Somebody hangs up. number: as they came."""
        self._running[number].cancel()

    def wait(self, seconds: float = SECONDS) -> list[Told]:
        """All that was told, once everybody has come to an end."""
        deadline = time.monotonic() + seconds
        for future in self._running:
            future.result(max(0.0, deadline - time.monotonic()))
        return self.told

    def close(self) -> None:
        """Whoever still waits leaves."""
        self._stopped = True
        for future in self._running:
            future.cancel()
        asyncio.run_coroutine_threadsafe(self._all_gone(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def _all_gone(self) -> None:
        me = asyncio.current_task()
        await asyncio.gather(*(task for task in asyncio.all_tasks() if task is not me), return_exceptions=True)
        await asyncio.sleep(0)  # the transports say good-bye in the loop's next turn

    def _begin(self, course: Any) -> None:
        self._running.append(asyncio.run_coroutine_threadsafe(course, self._loop))

    async def _many(self, customer: Customer, stream: bool, members: dict[str, Any]) -> None:
        while not self._stopped:
            told = await self._one(customer, stream, members)
            if not told.answered:
                await asyncio.sleep(0.05)  # as programs do after an error, on the scale of a test

    async def _one(self, customer: Customer, stream: bool, members: dict[str, Any]) -> Told:
        tag = f"q{next(_numbers)}"
        asked = {"model": MODEL, "messages": [{"role": "user", "content": tag}], "max_tokens": 20, "stream": stream}
        body = json.dumps({**asked, **members}).encode()
        told = Told(tag, customer.plan, members.get("stream", stream), time.time())
        self.told.append(told)
        try:
            await asyncio.wait_for(self._exchange(told, customer.key, body), SECONDS)
        except (OSError, asyncio.IncompleteReadError, ValueError):
            pass  # told as it stands: broken
        told.ended_at = time.time()
        return told

    async def _exchange(self, told: Told, key: str, body: bytes) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            told.headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])
            }
            told.status = int(lines[0].split()[1])
            if told.headers.get("transfer-encoding") == "chunked":
                while size := int(await reader.readuntil(b"\r\n"), 16):
                    told.body += (await reader.readexactly(size + 2))[:-2]
            else:
                told.body = await reader.readexactly(int(told.headers["content-length"]))
            told.broken = False
        finally:
            writer.close()


def tag_of(entry: dict[str, Any]) -> str:
    """The tag of a question in a sandbox's journal."""
    return str(entry["body"]["messages"][0]["content"])

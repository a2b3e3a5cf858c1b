"""How one job is answered: refuse what Ollama refuses, queue as Ollama queues, run an engine, dress its events, send.

The order is the real server's: nothing, not even headers, leaves before the first event, so everything that fails until
then has a proper status. Planned faults step in at the marked places. Doors are in `routes.py`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import gevent

from sandbox.journal import Entry
from sandbox.wire import Exchange, PeerLeft

from . import faults
from .catalogue import InvalidModelName
from .framing import Framer
from .gojson import dumps
from .job import Calls, Delta, Done, EngineFailed, Event, Job
from .knobs import FAULTS_MID
from .native_request import keep_alive_seconds
from .runners import BUSY, LeftWhileWaiting, ServerBusy, SlotTimeout, wait_any

if TYPE_CHECKING:
    from .server import OllamaServer

FAIR = 16  # deltas after which a stream without pauses lets the others, and the watch on its client, have their turn
REPEATS = 31  # more than 30 equal tokens running make the real server hang up without a word


class Refused(Exception):
    """An answer with a status instead of a generation."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Dress(Protocol):
    """Events as bytes, in one door's dialect."""

    stream_type: str
    buffered_type: str

    def delta(self, event: Delta) -> bytes: ...
    def calls(self, event: Calls) -> bytes: ...
    def done(self, event: Done, *, say_done: bool = True, say_finish: bool = True) -> list[bytes]: ...
    def crash(self, text: str) -> list[bytes]: ...
    def buffered(self, text: str, thinking: str, calls: Calls | None, done: Done | None) -> bytes: ...
    def error(self, status: int, text: str) -> tuple[bytes, str]: ...


class _Fault(Exception):
    """The planned misfortune has come."""


def admit(server: OllamaServer, job: Job, purpose: str) -> None:
    """Find the model, check what it can do, draw the knobs. Raises `Refused`."""
    if not 0 <= job.top_logprobs <= 20:
        raise Refused(400, "top_logprobs must be between 0 and 20")
    if not job.requested:
        raise Refused(400, "model is required")
    try:
        model = server.catalogue.find(job.requested)
    except InvalidModelName as error:
        raise Refused(400, str(error)) from None
    if model is None:
        raise Refused(404, f"model '{job.requested}' not found")
    job.model = model
    if job.think and "thinking" not in model.capabilities:
        raise Refused(400, f'"{job.requested}" does not support thinking')
    if "completion" not in model.capabilities:
        raise Refused(400, f'"{job.requested}" does not support {purpose}')
    if job.tools and "tools" not in model.capabilities:
        raise Refused(400, f"{model.full_name} does not support tools")
    job.knobs = server.board.draw(model.name)
    job.called = server.called(model)


class Answer:
    """One job on its way through queue, engine and dress."""

    def __init__(self, server: OllamaServer, exchange: Exchange, entry: Entry, job: Job, dress: Dress) -> None:
        self.server = server
        self.exchange = exchange
        self.entry = entry
        self.job = job
        self.dress = dress
        self.left = exchange.peer.left
        self.framer = Framer(exchange, job.knobs, dress.stream_type == "text/event-stream")
        self.sent = 0

    def run(self) -> None:
        """Answer to the end, whatever end that is; the journal's entry tells which."""
        try:
            self._queue_and_run()
        except (PeerLeft, LeftWhileWaiting):
            self.entry.stopped_ms = self.entry.since(time.time())
            self.entry.outcome = "client_left"
            self.exchange.keep_open = False
        except ServerBusy:
            self.refuse(503, BUSY)
        except SlotTimeout:
            # The cloud's own words, so in native shape at either door.
            _, body = faults.native_fault("429_slots", self.job.knobs.account) or (429, {})
            self.entry.outcome = "refused"
            self.exchange.answer(self.job.knobs.slot_refusal, dumps(body).encode(), "application/json; charset=utf-8")
        except EngineFailed as error:
            self.refuse(error.status, error.text)

    def refuse(self, status: int, text: str) -> None:
        body, content_type = self.dress.error(status, text)
        self.entry.outcome = "refused"
        self.exchange.answer(status, body, content_type)

    def _queue_and_run(self) -> None:
        job, model, knobs = self.job, self.job.model, self.job.knobs
        assert model is not None
        came = time.time()
        self.entry.load_ms = round(self.server.runners.ensure_loaded(model, knobs, self.left), 3)
        if hasattr(self.dress, "load_ms"):
            self.dress.load_ms = self.entry.load_ms
        with self.server.runners.slot(model, knobs, self.left, keep_alive_seconds(job.keep_alive)) as slot:
            # Whoever has read the last byte may ask again at once and must find the slot free.
            self.exchange.before_last.append(slot.release)
            self.server.runners.of(model).asked_num_ctx = job.options.get("num_ctx")
            self.entry.waited_ms = round((time.time() - came) * 1000, 3)
            self._hold(0)
            if knobs.fault and knobs.fault not in FAULTS_MID:
                self.left.wait(knobs.delay_first_ms / 1000)
                self._check_left()
                self.entry.fault, self.entry.outcome = knobs.fault, "fault"
                if faults.answer_before(self.exchange, knobs.fault, knobs, job.requested, self.dress.error):
                    self._check_left()
                    return
            events = self.server.engine_for(model).run(job, self.left)
            try:
                if job.stream:
                    self._stream(events)
                else:
                    self._buffer(events)
            except _Fault:
                self.entry.fault, self.entry.outcome = knobs.fault, "fault"
                self._misfortune()
            finally:
                events.close()  # type: ignore[attr-defined]

    def _check_left(self) -> None:
        if self.left.is_set() and not self.exchange.peer.closed_by_us:
            raise PeerLeft

    def _hold(self, at: int) -> None:
        if self.job.knobs.hold_after == at:
            self.framer.flush()
            wait_any(None, self.server.gate, self.left)
            self._check_left()

    def _before_event(self, event: Event) -> None:
        """Checks between two events: the client, a planned hold, a planned fault."""
        self._check_left()
        if self.sent:
            self._hold(self.sent)
        fault = self.job.knobs.fault
        if (
            fault in FAULTS_MID
            and fault not in ("no_done", "no_finish")
            and (self.sent >= self.job.knobs.fault_after or isinstance(event, Done))
        ):
            raise _Fault

    def _padded(self, event: Delta) -> Delta:
        if self.job.knobs.big_line and not self.entry.notes.get("big_line"):
            self.entry.notes["big_line"] = True
            return Delta(event.text + "x" * self.job.knobs.big_line, event.thinking)
        return event

    # -- streamed ------------------------------------------------------------------------------------------------

    def _start_stream(self) -> None:
        if self.exchange.status is None:
            self.exchange.start(200, [("Content-Type", self.dress.stream_type), *self._extra_headers()])

    def _extra_headers(self) -> list[tuple[str, str]]:
        return [(str(name), str(value)) for name, value in (self.job.knobs.headers or {}).items()]

    def _stream(self, events: Any) -> None:
        for event in events:
            self._before_event(event)
            self._start_stream()
            if isinstance(event, Delta):
                self.framer.send(self.dress.delta(self._padded(event)))
                self.sent += 1
            elif isinstance(event, Calls):
                self.framer.send(self.dress.calls(event))
                self.sent += 1
            else:
                # The model is done. A client may take any of the closing frames for the last one.
                self.exchange.about_to_end()
                fault = self.job.knobs.fault
                if fault in ("no_done", "no_finish"):
                    self.entry.fault = fault
                for frame in self.dress.done(event, say_done=fault != "no_done", say_finish=fault != "no_finish"):
                    self.framer.send(frame)
                self._count(event)
            self.entry.deltas_sent = self.sent
            if self.sent % FAIR == 0 and not isinstance(event, Done):
                gevent.sleep(0)
        self._check_complete()
        self.framer.flush()
        self.entry.outcome = "fault" if self.entry.fault else "done"
        # Many clients close at [DONE], before the last bytes of HTTP: that is no departure, all has been said.
        with contextlib.suppress(PeerLeft):
            self.exchange.end()

    def _check_complete(self) -> None:
        """An engine whose client has gone just stops; that must not pass for a finished answer."""
        if self.entry.usage is None:
            self._check_left()
            raise EngineFailed(500, faults.CRASHED)

    def _count(self, done: Done) -> None:
        self.entry.usage = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}

    # -- buffered ------------------------------------------------------------------------------------------------

    def _buffer(self, events: Any) -> None:
        text: list[str] = []
        thinking: list[str] = []
        calls: Calls | None = None
        self._collected = (text, thinking)
        for event in events:
            self._before_event(event)
            if isinstance(event, Delta):
                event = self._padded(event)
                text.append(event.text)
                thinking.append(event.thinking)
                self.sent += 1
            elif isinstance(event, Calls):
                calls = event
                self.sent += 1
            else:
                self._count(event)
                unfinished = self.job.knobs.fault == "no_finish"
                done = Done("", event.prompt_tokens, event.completion_tokens) if unfinished else event
                body = self.dress.buffered("".join(text), "".join(thinking), calls, done)
                if unfinished:
                    self.entry.fault = "no_finish"
                    body = body.replace(b'"finish_reason":""', b'"finish_reason":null')
                self._send_body(body)
        self._check_complete()
        self.entry.deltas_sent = self.sent
        self.entry.outcome = "fault" if self.entry.fault else "done"

    def _send_body(self, body: bytes, *, part: int | None = None) -> None:
        """A buffered 200; `part` sends only so many of the promised bytes."""
        self.exchange.start(200, [("Content-Type", self.dress.buffered_type), *self._extra_headers()], len(body))
        if self.job.knobs.framing == "event":
            self.exchange.send(body[:part])
        else:
            self.framer.send(body[:part])
            self.framer.flush()
        if part is None:
            self.exchange.end()

    # -- planned misfortunes in the middle ---------------------------------------------------------------------------

    def _misfortune(self) -> None:
        self.entry.deltas_sent = self.sent
        actions: dict[str, Callable[[], None]] = {
            "crash_mid": self._crash, "reset_mid": self._reset, "cut_mid": self._cut, "stall_mid": self._stall,
            "silent_end": self._silent_end, "repeat_guard": self._repeat_guard, "error_event": self._error_event,
            "error_line": self._error_line, "bad_json": self._bad_json,
        }  # fmt: skip
        if self.job.stream:
            self._start_stream()
        if self.job.knobs.fault not in ("stall_mid", "repeat_guard"):  # these go on for a while
            self.exchange.about_to_end()
        actions[self.job.knobs.fault or ""]()

    def _half(self) -> bytes:
        text, thinking = self._collected
        return self.dress.buffered("".join(text), "".join(thinking), None, Done("stop", 7, self.sent))

    def _crash(self) -> None:
        if not self.job.stream:
            body, content_type = self.dress.error(500, faults.CRASHED)
            self.exchange.answer(500, body, content_type)
            return
        for frame in self.dress.crash(faults.CRASHED):
            self.framer.send(frame)
        self._clean_end()

    def _clean_end(self) -> None:
        self.framer.flush()
        self.exchange.end()

    def _break_off(self) -> None:
        """What is sent before a rude end."""
        if self.job.stream:
            self.framer.flush()
            self.exchange.push_head()
        else:
            body = self._half()
            self._send_body(body, part=len(body) // 2)

    def _reset(self) -> None:
        self._break_off()
        self.exchange.reset()

    def _cut(self) -> None:
        self._break_off()
        self.exchange.cut()

    def _stall(self) -> None:
        self._break_off()
        self.left.wait()
        self._check_left()

    def _silent_end(self) -> None:
        if not self.job.stream:
            text, thinking = self._collected
            self._send_body(self.dress.buffered("".join(text), "".join(thinking), None, None))
            return
        self.framer.flush()
        self.exchange.push_head()
        self._clean_end()

    def _repeat_guard(self) -> None:
        for _ in range(REPEATS):
            self._check_left()
            self.sent += 1
            if self.job.stream:
                self.framer.send(self.dress.delta(Delta(" the")))
            else:
                self._collected[0].append(" the")
        self.entry.deltas_sent = self.sent
        self._silent_end()

    def _error_event(self) -> None:
        error = {"error": {"message": faults.CRASHED, "type": "server_error", "param": None, "code": None}}
        if not self.job.stream:
            self._send_body(dumps(error).encode())
            return
        self.framer.send(f"data: {dumps(error)}\n\n".encode())
        self._clean_end()

    def _error_line(self) -> None:
        line = dumps({"error": faults.CRASHED}).encode() + b"\n"
        if not self.job.stream:
            self._send_body(line)
            return
        self.framer.send(line)
        self._clean_end()

    def _bad_json(self) -> None:
        if not self.job.stream:
            body = self._half()
            self._send_body(body[: len(body) // 2])
            return
        self.framer.send(b'data: {"id":"chatcmpl-1","choices":[{"index":0,"del\n\n')
        for frame in self.dress.done(Done("stop", 7, self.sent)):
            self.framer.send(frame)
        self._clean_end()

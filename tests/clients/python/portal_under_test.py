"""What a suite in another environment knows of the portal: an address, keys by role, and what stands behind it.

Imported by test files that run on their clients' own packages, so it uses the standard library alone (and the sandbox's
own handle, which does too). It never imports the product. Roles, in `cast.py`:

customer, reader (may only look), revoked, expired: keys of one account with every model and plenty of credit
newcomer: the smallest plan · hasty: the same, to be spent in one test · poor: no credit to speak of
thrifty: credit for one request at a time
"""

from __future__ import annotations

import base64
import json
import os
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from sandbox.process import SandboxProcess

TEXT = "llama3.2:3b"
VISION = "mistral-small3.2:24b"
THINKING = "gpt-oss:20b"
PLAIN = "smollm2:135m"
"""Without tools, images or thinking; answered by the real small model."""
SLASHED = "portal/tiny:1b"
OPERATOR = "operator-account-name"
"""What a server's own errors betray of the operator, and the portal must not."""
# One red pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)

URL = os.environ["PORTAL_URL"]
BASE_URL = URL + "/v1"
KEYS: dict[str, str] = json.loads(os.environ["PORTAL_KEYS"])

sandbox = SandboxProcess()
sandbox.url = os.environ["SANDBOX_URL"]


def calm() -> None:
    """The sandbox as at its start, and nothing that it did before held against it."""
    sandbox.reset()
    recovery = urllib.request.Request(os.environ["RECOVERY_URL"], method="POST")
    with urllib.request.urlopen(recovery, timeout=10):
        pass


@dataclass
class Requests:
    """What one client received, attempt by attempt; `hook` goes into its HTTP library."""

    ids: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def hook(self, response: Any) -> None:
        self.ids.append(response.headers["x-request-id"])
        self.statuses.append(response.status_code)

    async def async_hook(self, response: Any) -> None:
        self.hook(response)


def record(request_id: str, *, settled: bool = True, seconds: float = 5) -> dict[str, Any]:
    """What `GET /v1/requests/{id}` tells; by default waits until the request is settled."""
    deadline = time.monotonic() + seconds
    while True:
        asked = urllib.request.Request(
            f"{BASE_URL}/requests/{request_id}", headers={"Authorization": f"Bearer {KEYS['customer']}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
        if not settled or told["state"] == "settled":
            return told
        assert time.monotonic() < deadline, f"{request_id} is still open after {seconds} s"
        time.sleep(0.05)


def last_chat() -> dict[str, Any]:
    """What the simulated server saw last."""
    return sandbox.chats()[-1]

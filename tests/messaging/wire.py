"""What the tests of the carrier share: a message, an answer, a fault."""

import json
from collections.abc import Callable

import pytest

from portal.providers.messaging import MessagingError
from tests.providers.saying import answer

PHONE = "+96550000001"
TEXT = "*رمز التحقق*\n\u2066123456\u2069\n\n— — —\n\n*Verification code*\n123456"
REFERENCE = "0197f0c2b7d37e95a08c4a1b2c3d4e5f"
SECOND_DEVICE = "74a1f0c2b7d3e95f08c4a1b3"


def fault_of(call: Callable[[], object]) -> MessagingError:
    """The fault that it must end in."""
    with pytest.raises(MessagingError) as caught:
        call()
    return caught.value


def json_answer(told: object, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer with a JSON body."""
    return answer(json.dumps(told).encode(), status, *headers)

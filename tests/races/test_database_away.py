"""The database goes away in the middle of an answer: the customer notices nothing, and pays the true price later."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gateway.wire import Answer, Hub, eventually
from tests.ledger.books import Threads
from tests.ledger.fragile import relayed
from tests.ledger.relay import Relay
from tests.races.street import Stream, Street, held_for, question

NO_MORE_WRITES = (
    "CREATE TRIGGER full BEFORE UPDATE ON usage_records BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
)
"""What a full disk does to SQLite, which has no line that could be cut."""
TRUE_COST = 5 + 20
"""A prompt of one word (the sandbox counts four more for the message) and twenty words of answer."""


def test_answers_arrive_while_the_books_can_not_be_written_and_are_charged_later(street: Street) -> None:
    """Never again, Money: when the settle can't be written it is loud, the hold stays, and it is settled later at its
    true cost, streamed and not. Meanwhile nobody new is let in: no hold, no answer."""
    street.sandbox.control(hold_after=3)
    account, key = street.customer(1_000_000)
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:  # pytest's own paths are too long for a socket
        url, relay = relayed(street.url, Path(folder))
        web = street.open_shop(url=url)
        hub = Hub(web.url)
        stream = Stream(web.url, key)
        stream.read_tokens(3)
        whole = Threads(lambda: hub.ask("POST", "/v1/chat/completions", key=key, body=question(20)))
        eventually(lambda: len(street.sandbox.chats()) == 2, what="the second question at the server")

        with _away(street, relay):
            street.sandbox.release()
            assert stream.rest().endswith(b"data: [DONE]\n\n"), "all of it is delivered"
            (answer,) = whole.wait()
            assert isinstance(answer, Answer)
            assert answer.json()["usage"]["credits"] == TRUE_COST / 1000
            assert answer.headers["x-portal-credits"] == "0.025"
            assert "x-portal-balance" not in answer.headers, "nobody knows it now"
            eventually(lambda: web.logged().count("settlement not written, kept for later") >= 2, what="the alarm")
            if relay is not None:
                refused = hub.ask("POST", "/v1/chat/completions", key=key, body=question(20))
                assert (refused.status, refused.error()["code"]) == (503, "service_unavailable")
                assert len(street.sandbox.chats()) == 2, "without a hold no server is asked"
            assert street.wallet(account).held == 2 * held_for(20)
            assert street.sweep() == 0, "its process lives: the settlement is its own to write"

        eventually(lambda: street.wallet(account).held == 0, 15, "the late settlements")
        assert street.wallet(account).balance == 1_000_000 - 2 * TRUE_COST
        assert {(u.state, u.outcome, u.cost) for u in street.usages(account)} == {("settled", "ok", TRUE_COST)}
        assert street.faults() == []
        stream.close()
        hub.close()
        web.stop()
        if relay is not None:
            relay.close()


@contextmanager
def _away(street: Street, relay: Relay | None) -> Iterator[None]:
    """For the gunicorn: the line is cut, or (SQLite) every settlement is refused."""
    if relay is None:
        street.execute(NO_MORE_WRITES)
        yield
        street.execute("DROP TRIGGER full")
        return
    relay.cut()
    yield
    relay.restore()

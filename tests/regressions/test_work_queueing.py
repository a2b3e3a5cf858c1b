"""One worker, as the Procfile starts it, while a mail server lets everybody wait. Found in review."""

# ruff: noqa: F811  (fixtures of the office's tests, borrowed by name)

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, Delivery, ScheduledJob, User
from portal.services import adjustments, codes
from portal.services.accounts import NewUser, register
from sandbox.process import SandboxProcess
from tests.services.databases import Engine
from tests.services.redis_server import RedisServer
from tests.work.conftest import work_sandbox, work_store  # noqa: F401
from tests.work.office import an_office

SETTLING = sa.select(ScheduledJob.run).where(ScheduledJob.name == "settle abandoned requests")


@pytest.fixture
def tarpit() -> Iterator[int]:
    """A mail server that takes every call and never says a word. Its port."""
    server = socket.create_server(("127.0.0.1", 0), backlog=200)
    held: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    taking = threading.Thread(target=take, daemon=True)
    taking.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)  # closing alone would not wake it
    taking.join(10)
    server.close()
    for one in held:
        one.close()


def test_a_silent_mail_server_keeps_no_code_and_no_hold_waiting(
    sqlite_engine: Engine, work_store: RedisServer, work_sandbox: SandboxProcess, tmp_path: Path, tarpit: int
) -> None:
    """AUTH-04 (ten minutes), CRD-01 (holds of the dead are given back): thirty e-mails are due, and a code is asked
    for. It waits for one time-out at most, not for thirty."""
    url = sqlite_engine.fresh("seeded")
    settings = {"SMTP_URL": f"smtp://127.0.0.1:{tarpit}"}
    with an_office(url, work_sandbox, work_store, tmp_path / "office", **settings) as office:
        with office.app.app_context():
            new = NewUser(email="a@example.com", phone="+96555100001", password="saffron-tide-lamp")
            user = register(new, "127.0.0.1")
            account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user)).one()
            for number in range(30):
                adjustments.adjust(account, 1000, actor="console", reason=f"gift {number}")
            now = utcnow()
            db.session.execute(sa.update(Delivery).values(due_at=now, handed_at=None))
            db.session.execute(sa.update(Delivery).where(Delivery.channel == "whatsapp").values(state="cancelled"))
            db.session.commit()
        work_store.client.flushall()
        office.start(workers=1)
        running = sa.select(Delivery.id).where(Delivery.state == "running")
        office.until(lambda: office.rows(running), 60, "the first e-mail is under way")
        settled = office.rows(SETTLING)[0].run
        with office.app.app_context():
            person = db.session.get_one(User, user)
            codes.send(person.id, person.phone, codes.RESET, "en", "203.0.113.1")
            db.session.commit()
        office.until(lambda: [m for m in office.arrived() if m.kind == "one_time_code"], 30, "the code")
        office.until(lambda: office.rows(SETTLING)[0].run > settled, 45, "holds of the dead are looked for")
        tried = office.rows(sa.select(Delivery.id).where(Delivery.channel == "email", Delivery.attempts > 0))
        assert len(tried) < 10
    sqlite_engine.server.drop(url)

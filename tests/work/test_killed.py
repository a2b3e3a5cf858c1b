"""`kill -9` of worker, scheduler and store at random moments over five hundred notifications: each arrives once."""

import datetime as dt
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from portal import money
from portal.clock import utcnow
from portal.extensions import db
from portal.models import Account, Pack, User
from portal.services import api_keys, credit_alerts, ledger, topups
from portal.services.accounts import NewUser, register
from portal.services.notifications.delivery import LEASE_SECONDS
from sandbox.process import SandboxProcess
from tests.services.databases import Engine
from tests.services.redis_server import RedisServer
from tests.work.office import Office, an_office

CUSTOMERS = 100
TOLD = {"welcome": 1, "key_created": 1, "topup_confirmed": 2, "credit_exhausted": 1}
"""What each customer is told in their short life."""
ALL = CUSTOMERS * sum(TOLD.values())
DEATHS = ("job",) * 5 + ("worker",) * 2 + ("store",) * 2 + ("scheduler",)
LOST_ANSWERS = ("reset_accepted", "502_accepted", "cut_accepted", "500")


@pytest.fixture(params=["sqlite", "mariadb"])
def office(
    request: pytest.FixtureRequest, work_store: RedisServer, work_sandbox: SandboxProcess, tmp_path: Path
) -> Iterator[Office]:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    url = engine.fresh("seeded")
    work_sandbox.reset()
    with an_office(url, work_sandbox, work_store, tmp_path / "office", SIGNUP_CREDITS=1) as office:
        yield office
    engine.server.drop(url)


def test_nothing_is_lost_or_told_twice_whoever_is_killed(office: Office) -> None:
    """NOTIF-11 (survives a crash at any point): a hundred customers live their lives through the real services while
    worker, jobs, scheduler and store are killed by chance. When all has come to rest every notification is on its
    telephone exactly once, no row waits, and whatever may have been out was looked for before it was sent again."""
    fate = random.Random(20261121)
    office.sandbox.control(server="whatsapp", delay_ms=8, answer_delay_ms=8)
    office.sandbox.next(
        *({"fault": fate.choice(LOST_ANSWERS)} if fate.random() < 0.03 else {} for _ in range(500)), server="whatsapp"
    )
    office.change(sa.update(Pack).where(Pack.id == "pack-5000").values(credits=2 * money.MILLI))
    office.start()
    lives = Lives(office, fate)
    kill_by_chance(office, fate)
    lives.end()

    power_cut(office)
    office.start(workers=2)
    office.until(lambda: not office.unfinished(), 60, "an office at rest", hurry=True)
    deliveries = office.deliveries()
    assert Counter(deliveries.values()) == {"done": ALL}
    arrived = office.arrived()
    assert Counter(message.kind for message in arrived) == {kind: CUSTOMERS * count for kind, count in TOLD.items()}
    assert Counter(message.delivery for message in arrived) == Counter(dict.fromkeys(deliveries, 1))
    assert sent_again_unseen(office) == []
    with office.app.app_context():
        assert ledger.check() == []


class Lives:
    """Customers in this process, four at a time: they register, make a key, pay twice, and run out of credit."""

    def __init__(self, office: Office, fate: random.Random) -> None:
        self._office = office
        self._numbers = iter(range(CUSTOMERS))
        self._lock = threading.Lock()
        self._faults: list[BaseException] = []
        self._pauses = [fate.uniform(0, 0.2) for _ in range(CUSTOMERS)]
        self._threads = [threading.Thread(target=self._live, daemon=True) for _ in range(4)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Once everybody has lived. Raises what a service raised: a store that is away is no customer's affair."""
        for thread in self._threads:
            thread.join(60)
        assert not self._faults, self._faults
        assert next(self._numbers, None) is None

    def _live(self) -> None:
        try:
            while (number := self._next()) is not None:
                time.sleep(self._pauses[number])
                with self._office.app.app_context():
                    a_life(number)
        except BaseException as error:  # noqa: BLE001  (the test's to judge)
            self._faults.append(error)

    def _next(self) -> int | None:
        with self._lock:
            return next(self._numbers, None)


def a_life(number: int) -> None:
    """Each step is one of the portal's own services and commits for itself."""
    new = NewUser(email=f"c{number}@example.com", phone=f"+9655101{number:04}", password="saffron-tide-lamp")
    user = register(new, f"10.0.0.{number}")
    account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user)).one()
    # They have proved it: an unproved number has few messages a day.
    db.session.execute(sa.update(User).where(User.id == user).values(phone_verified_at=utcnow()))
    db.session.commit()
    api_keys.create(account, user, label="first")
    for payment in ("a", "b"):
        topups.book(account, "pack-5000", reference=f"{number}{payment}", actor="console")
    ledger.adjust(account, -4_500, reference=f"spent:{number}", actor="console", reason="the test's")
    db.session.commit()
    assert credit_alerts.refused(account)


def kill_by_chance(office: Office, fate: random.Random) -> None:
    """Kill in the middle of the traffic and, as systemd would, start again."""
    for victim in fate.sample(DEATHS, len(DEATHS)):
        wait_for_traffic(office, office.accepted() + fate.randint(3, 60))
        time.sleep(fate.uniform(0, 0.04))
        now = utcnow()
        if victim == "job":
            office.until(office.kill_horses, 20, "a job to kill", hurry=True, dispatch=True)
            now = utcnow()
        elif victim == "worker":
            office.kill_workers()
        elif victim == "scheduler":
            office.kill_scheduler()
        else:
            office.store.stop()
            time.sleep(fate.uniform(0, 0.5))
            office.store.start()
        if victim in ("job", "worker"):  # the only worker: what was claimed before this moment is nobody's any more
            office.end_leases(now + dt.timedelta(seconds=LEASE_SECONDS))
        if not office.workers:
            office.start_worker()
        if office.scheduler is None:
            office.start_scheduler()


def wait_for_traffic(office: Office, accepted: int) -> None:
    """Until the carrier has accepted so many. It may take a new worker, and a turn of the scheduler."""
    office.until(lambda: office.accepted() >= min(accepted, ALL), 60, "traffic", hurry=True, dispatch=True)


def power_cut(office: Office) -> None:
    """Everything at once; then a minute and a half in the dark."""
    office.kill_workers()
    office.kill_scheduler()
    office.store.stop()
    office.store.start()
    office.end_leases()


def sent_again_unseen(office: Office) -> list[str]:
    """Deliveries that were posted again without having been looked for since the post before.

    A post that was refused for certain needs no look; here every fault leaves a doubt.
    """
    posted: dict[str, str] = {}
    looked: set[str] = set()
    wrong = []
    journal = office.sandbox.requests(path="/messages", server="whatsapp")
    for entry in journal:
        if entry["method"] == "GET":
            looked.add("+" + entry["notes"]["query"]["phone"])
            continue
        reference, phone = entry["body"]["reference"], entry["body"]["phone"]
        if reference in posted and phone not in looked:
            wrong.append(reference)
        posted[reference] = phone
        looked.discard(phone)
    return wrong

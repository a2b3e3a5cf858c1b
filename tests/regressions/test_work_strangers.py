"""What strangers can do with messages and codes: to numbers that nobody proved, to the portal's purse, to its staff.

Each of these was found open in review. `strict`: the mark goes with the fault.
"""

import pytest
import sqlalchemy as sa
from flask import Flask

from portal.models import Delivery, Event, EventStep
from portal.services import accounts, api_keys, bans, codes, recovery, runs, tunables, work
from portal.services.notifications import delivery as delivering
from portal.tasks.graph import GRAPH
from sandbox.process import SandboxProcess
from tests.notifications.outside import WHATSAPP, Clock, Queued, customer, deliveries, reading
from tests.services.portal_app import MakeApp

PASSWORD = "saffron-tide-lamp"
ADMINS = ("+96550000001", "+96550000002")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def portal(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setattr("portal.queue.enqueue_now", Queued().note)
    return make_app(sqlite_url, RESAYIL_API_URL=sandbox.whatsapp_url, ADMIN_PHONES=",".join(ADMINS), **WHATSAPP)


def test_a_strangers_telephone_shows_no_link_of_whoever_signed_up_with_its_number(
    portal: Flask, sandbox: SandboxProcess
) -> None:
    """NOTIF-01: a welcome is no advertising space, and the sending number is not banned for it."""
    victim = "+96555123456"
    with portal.app_context():
        name = "ربحت 500 د.ك استلمها https://evil.example/win"
        new = accounts.NewUser(email="x@example.com", phone=victim, password=PASSWORD, name=name)
        accounts.register(new, "203.0.113.9")
        for one in deliveries():
            delivering.deliver_one(one.id)
    [message] = sandbox.messages(victim)
    assert "evil.example" not in message["message"]


def test_an_unproved_number_is_not_told_of_key_after_key(portal: Flask, sandbox: SandboxProcess) -> None:
    """NOTIF-11, AUTH-04 (a daily cap per number): a key made and deleted over and over is no message each time."""
    with portal.app_context():
        user = customer()
        for number in range(30):
            row = api_keys.create(user.account, user.id, label=f"https://evil.example/{number}").row
            api_keys.delete(user.account, row.id)
        told = deliveries(Delivery.address == user.phone)
        assert len(told) == 30
        fates = delivering.deliver([one.id for one in told])
    assert len(sandbox.messages(user.phone)) == fates["done"] == delivering.UNPROVED
    assert fates["cancelled"] == 30 - delivering.UNPROVED


def test_accounts_from_one_address_cost_no_unlimited_messages(portal: Flask, sandbox: SandboxProcess) -> None:
    """AUTH-04 (daily cost ceiling): the portal may send five messages a day to numbers that nobody proved; forty
    sign-ups send no forty."""
    with portal.app_context():
        tunables.put("unproved_a_day", "5")
        for number in range(40):
            phone = f"+9655513{number:04}"
            accounts.register(
                accounts.NewUser(email=f"x{number}@example.com", phone=phone, password=PASSWORD), "203.0.113.9"
            )
        delivering.deliver([one.id for one in deliveries(Delivery.channel == "whatsapp")])
    assert len(sandbox.messages()) == 5


def test_a_crowd_of_addresses_is_not_a_message_each_to_every_administrator(portal: Flask) -> None:
    """NOTIF-09: whoever has an IPv6 /48 is banned a thousand times an hour, and staff switch WhatsApp off."""
    with portal.app_context():
        for number in range(60):
            bans.ban(f"2001:db8:0:{number:x}::1", "portal-auth", 15, 3600)
        runs.unfold_new(GRAPH)
        for step in work.due(EventStep, 500):
            runs.run_step(GRAPH, step)
        assert len(deliveries(Delivery.channel == "whatsapp")) <= 10 * len(ADMINS)


def test_strangers_cannot_spend_everybodys_codes_unseen(portal: Flask, clock: Clock) -> None:
    """AUTH-04: the day's codes are spent on accounts that nobody proved; who forgot the password gets one all the same,
    or staff at least hear of it."""
    with portal.app_context():
        tunables.put("codes_a_day", "5")
        for number in range(5):
            one = customer()
            codes.send(one.id, one.phone, codes.VERIFY, "en", f"2001:db8:0:{number:x}::1")
        layla = customer()
        before = len(deliveries())
        recovery.forgot(layla.email, "198.51.100.7")
        with reading() as connection:
            told = connection.scalar(sa.select(sa.func.count()).select_from(Event))
        assert len(deliveries()) > before or told

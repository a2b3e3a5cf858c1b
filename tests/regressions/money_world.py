"""A portal on SQLite whose money is taken in the sandbox, and one clock for both: for what went wrong with money."""

import pytest

from portal.services import refunds
from sandbox.process import SandboxProcess
from tests.payments.world import SETTINGS, World
from tests.services.portal_app import MakeApp


@pytest.fixture
def world(make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(make_app(sqlite_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, monkeypatch)


def give_back(world: World, payment_id: str, fils: int) -> None:
    """Asked for, carried out at the provider, booked."""
    refund = refunds.request(payment_id, fils, reason="طلب العميل", actor="console")
    world.sandbox.settle_refund(refund)
    assert world.sweep(minutes=1) == 1
    assert world.refund(refund).state == "done"

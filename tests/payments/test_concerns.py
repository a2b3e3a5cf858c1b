"""What people must look at: on their list until somebody says that it was seen to, told once."""

import pytest

from portal.extensions import db
from portal.services import ledger
from portal.services.payments import concerns, held
from sandbox.process import SandboxProcess
from tests.doors.typing_at import refused, said
from tests.notifications.outside import at_once, customer
from tests.payments.world import SETTINGS, World
from tests.services.portal_app import MakeApp


@pytest.fixture
def world(make_app: MakeApp, database_url: str, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> World:
    """On each of the three databases."""
    return World(make_app(database_url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS), sandbox, monkeypatch)


def test_a_concern_is_listed_until_somebody_has_seen_to_it(world: World) -> None:
    """PAY-03: at the terminal, with what to do about it; a remark is kept in the payment's trail."""
    with world.app.app_context():
        payment = world.buy(customer().account, "pack-5000").id
        assert concerns.note(payment, concerns.DISPUTED, source="webhook", key="9001")
        assert not concerns.note(payment, concerns.DISPUTED, source="sweep", key="9001")
        db.session.commit()
        assert [(one.what, one.payment) for one in held.attention()] == [("concern", payment)]
    assert "disputes it at the bank" in refused(world.app, "payments", "attention")
    assert "off the list" in said(world.app, "payments", "looked", payment, "--remark", "the bank was answered")
    assert "Nothing waits" in said(world.app, "payments", "attention")
    assert "the bank was answered" in said(world.app, "payments", "show", payment)
    assert "no concern" in refused(world.app, "payments", "looked", payment, "--remark", "again")


def test_the_same_order_in_two_tabs_at_once_is_one_invoice(world: World) -> None:
    """SUB-02, CRD-01: six presses at one moment lead to one address: two invoices could both be paid."""
    with world.app.app_context():
        layla = customer()
    found = at_once(world.app, 6, lambda: world.begin(layla.account, "pack-5000").url)
    assert {str(one) for one in found} == {found[0]}
    assert str(found[0]).startswith("http")
    assert len(world.sandbox.invoices()) == 1
    with world.app.app_context():
        assert ledger.check() == []

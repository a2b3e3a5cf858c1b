"""Two things that a customer may do at the same moment wait for each other in one order."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from portal.extensions import db
from portal.models import SavedCard
from portal.services import cards, payments, subscriptions, tunables
from sandbox.process import SandboxProcess
from tests.ledger.books import Threads
from tests.notifications.outside import customer, reading
from tests.payments.world import SETTINGS, World
from tests.services.databases import Engine
from tests.services.portal_app import MakeApp


def test_a_card_is_removed_while_an_upgrade_is_confirmed(
    make_app: MakeApp, mariadb_engine: Engine, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRD-01, SUB-04, lock order: MariaDB ends one of the two with error 1213. It was the customer's "Remove", or the
    return page of somebody who had just paid."""
    url = mariadb_engine.fresh("seeded")
    app = make_app(url, MYFATOORAH_BASE_URL=sandbox.myfatoorah_url, **SETTINGS)
    world = World(app, sandbox, monkeypatch)
    ended, removing = threading.Event(), threading.Event()
    end = subscriptions._end

    def slowly(*given: Any) -> None:
        end(*given)
        ended.set()
        removing.wait(1)

    def watch(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE saved_cards"):
            removing.set()

    with app.app_context():
        tunables.put("automatic_renewal", "1")
        account = str(customer().account)
        world.buy(account, "basic", "vm", keep_card=True)
        upgrade = world.begin(account, "pro")
        world.sandbox.pay(upgrade.invoice or "")
        with reading() as connection:
            card = connection.scalars(sa.select(SavedCard.id)).one()
        sa.event.listen(db.engine, "after_cursor_execute", watch)
        monkeypatch.setattr(subscriptions, "_end", slowly)

        def confirm() -> str:
            with app.app_context():
                return payments.confirm(upgrade.id, source="return")

        def remove() -> None:
            assert ended.wait(10)
            with app.app_context():
                cards.remove(account, card)

        calls: list[Callable[[], object]] = [confirm, remove]
        assert Threads(*calls).wait(40) == ["paid", None]
        world.books_are_right()
    mariadb_engine.server.drop(url)

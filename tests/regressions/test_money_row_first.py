"""MariaDB takes the row before any index of it: a question about a payment and its end never wait for each other."""

import sqlalchemy as sa
from flask import Flask

from portal.extensions import db
from portal.models import Delivery, Payment, Refund
from portal.models.base import beside_id
from tests.services.portal_app import MakeApp


def test_no_index_but_the_ids_serves_a_claim(make_app: MakeApp, database_url: str) -> None:
    """PAY-03: `id = … AND state = …` was looked up by the state, and twenty who came at once met in a deadlock."""
    app: Flask = make_app(database_url)
    claims = (
        sa.update(Payment).where(Payment.id == "x", beside_id(Payment.state) == "pending").values(asks=1),
        sa.update(Payment).where(Payment.id == "x", beside_id(Payment.invoice) == "").values(asks=1),
        sa.update(Refund).where(Refund.id == "x", beside_id(Refund.open_of) != "").values(asks=1),
        sa.update(Delivery).where(Delivery.id == "x", beside_id(Delivery.state) == "waiting").values(attempts=1),
    )
    with app.app_context():
        for claim in claims:
            text = str(claim.compile(db.engine, compile_kwargs={"literal_binds": True}))
            assert "coalesce" in text
            if db.engine.dialect.name in ("mysql", "mariadb"):
                possible = db.session.execute(sa.text("EXPLAIN " + text)).mappings().one()["possible_keys"]
                assert possible in ("PRIMARY", None), possible

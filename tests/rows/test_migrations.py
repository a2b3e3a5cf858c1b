"""Migrations build the same schema on every database, both ways."""

import sqlalchemy as sa
from flask_migrate import check, downgrade, upgrade

from portal.extensions import db
from portal.models import Base
from tests.services.portal_app import MakeApp


def test_migrations_build_what_the_models_say_on_every_database(make_app: MakeApp, empty_url: str) -> None:
    """OPS-02: migrations build an empty database on all three engines and equal the models."""
    app = make_app(empty_url)
    with app.app_context():
        upgrade()
        assert set(sa.inspect(db.engine).get_table_names()) == {*Base.metadata.tables, "alembic_version"}
        check()  # exits where autogenerate would still find an operation


def test_a_migration_can_be_taken_back_and_made_again(make_app: MakeApp, empty_url: str) -> None:
    """OPS-02: down to nothing and up again, on all three engines."""
    app = make_app(empty_url)
    with app.app_context():
        upgrade()
        downgrade(revision="base")
        db.engine.dispose()
        assert sa.inspect(db.engine).get_table_names() == ["alembic_version"]
        upgrade()
        check()


def test_every_constraint_has_a_name_of_ours(make_app: MakeApp) -> None:
    """OPS-02: a migration can speak of any constraint on any engine."""
    for table in Base.metadata.tables.values():
        for constraint in table.constraints:
            assert constraint.name, f"{table.name}: {constraint}"

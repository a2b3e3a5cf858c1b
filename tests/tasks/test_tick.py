"""`flask tick`: the whole clock in one command, for hosts where nothing may run for long."""

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Event, Notification, ScheduledJob
from portal.services import bans
from sandbox.process import SandboxProcess
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp


def test_one_call_does_all_that_is_due_without_store_worker_or_scheduler(
    make_app: MakeApp, sqlite_url: str, sandbox: SandboxProcess
) -> None:
    """OPS-01, NOTIF-01, NOTIF-09: on cPanel cron is all there is; messages arrive once, the timetable is kept."""
    app = make_app(
        sqlite_url, REDIS_URL="unix:///nowhere/s.sock?db=0", RESAYIL_API_URL=sandbox.whatsapp_url,
        RESAYIL_API_KEY="sandbox", ADMIN_PHONES="+96550000000", OLLAMA_URL=sandbox.ollama_url,
    )  # fmt: skip
    zaid = Cast(app).zaid
    with app.app_context():
        bans.ban("203.0.113.9", "portal-auth", 5, 3600)
    first = app.test_cli_runner().invoke(args=["tick"])
    assert first.exit_code == 0, first.output
    again = app.test_cli_runner().invoke(args=["tick"])
    assert again.output == "0 jobs, 0 steps, 0 messages\n"
    with app.app_context():
        told = sorted(db.session.scalars(sa.select(Notification.kind)))
        assert told == ["address_banned", "key_created", "welcome"]
        assert set(db.session.scalars(sa.select(Event.state))) == {"done"}
        assert db.session.scalar(sa.select(ScheduledJob.run).where(ScheduledJob.name == "probe providers")) == 1
    assert sorted(m["phone"] for m in sandbox.messages()) == ["+96550000000", zaid.phone, zaid.phone]

"""One renewal a period, whoever found it due and when."""

from portal.services import renewals as renewing
from portal.tasks import payments as jobs
from tests.payments.test_renewals import DAY, before_the_end, one, renewals, runs, subscriber  # noqa: F401
from tests.payments.world import World


def test_who_was_renewed_meanwhile_is_not_renewed_for_the_month_after(one: World) -> None:  # noqa: F811
    """SUB-04, CRD-01: a worker that had read who is due came to one whom another had just renewed, and charged the card
    for the next month as well: its end was another one, and so was the try."""
    with one.app.app_context():
        account = subscriber(one)
        before_the_end(one, account, DAY)
        due = runs(one, account).id
        assert jobs.renew() == 1
        assert not renewing.renew(due)
        assert [row.state for row in renewals(one, account)] == ["paid"]
        assert one.asked("DirectPayment") == 1

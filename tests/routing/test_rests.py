"""When a server rests, for how long, and how it is tried again."""

from portal.services.routing.line import Blame, Refused, Server
from tests.routing.clocked import Grant, pool
from tests.routing.one_worker import A, B, Worker


def test_three_faults_of_several_accounts_rest_a_server(worker: Worker, other: Worker) -> None:
    """Issue B.5: faults of all workers' requests in a row count together; the rest is told once, with its reason."""
    worker.fail(A, "mia")
    other.fail(A, "noor")
    assert worker.rested == other.rested == []
    worker.fail(A, "mia")
    assert (worker.rested, other.rested) == ([("a", "it broke", 5)], [])
    assert other.refused(pool(A)) == Refused("rest", 5)


def test_one_account_alone_needs_ten_faults(worker: Worker) -> None:
    """Issue B.5: a prompt that breaks a server, sent again as every SDK does, does not take it from everybody."""
    for _ in range(9):
        worker.fail(A, "mia")
    assert worker.rested == []
    worker.fail(A, "mia")
    assert worker.rested == [("a", "it broke", 5)]


def test_three_sure_faults_of_one_account_are_enough(worker: Worker) -> None:
    """Issue B.5: that a server can't be reached is no request's fault."""
    for _ in range(3):
        assert worker.rested == []
        worker.fail(A, "mia", sure=True)
    assert worker.rested == [("a", "it broke", 5)]


def test_an_answer_between_them_makes_faults_begin_anew(worker: Worker) -> None:
    """Issue B.5: in a row."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
        worker.fail(A, "noor", sure=True)
        worker.line.leave(worker.enter(pool(A)), "ok")
    assert (worker.rested, worker.recovered) == ([], [])


def test_a_refused_account_rests_at_once_and_for_a_minute(worker: Worker) -> None:
    """Issue B.4: one 401, 402, 403 or 429 of the cloud account is enough, whoever's request met it; the next is twice
    as long."""
    worker.fail(A, "mia", rest_seconds=60)
    assert worker.refused(pool(A)) == Refused("rest", 60)
    worker.store.now += 60_000
    worker.fail(A, "mia", sure=True, rest_seconds=60)
    assert [seconds for *_, seconds in worker.rested] == [60, 120]


def test_a_rest_grows_to_five_minutes_and_no_further(worker: Worker) -> None:
    """Issue B.5: growing rest; the trial's one fault is enough."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    for _ in range(8):
        worker.store.now += worker.rested[-1][2] * 1000 - 1
        assert worker.refused(pool(A)) == Refused("rest", 1), "a millisecond before its end it rests"
        worker.store.now += 1
        worker.fail(A, "mia", sure=True)
    assert [seconds for *_, seconds in worker.rested] == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_after_a_success_the_rest_is_short_again(worker: Worker) -> None:
    """Issue B.5: what it grew to is forgotten when the server is well."""
    for _ in range(2):
        for _ in range(3):
            worker.fail(A, "mia", sure=True)
        worker.store.now += 5_000
        worker.line.leave(worker.enter(pool(A)), "ok")
    assert ([seconds for *_, seconds in worker.rested], worker.recovered) == ([5, 5], ["a", "a"])


def test_after_a_rest_one_request_tries_the_server(worker: Worker, other: Worker) -> None:
    """Issue B.5, half-open: one for all workers; the others wait for what it finds, and all get in when it is well."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    worker.store.now += 5_000
    trial, second, third = worker.enter(pool(A)), other.enter(pool(A)), worker.enter(pool(A))
    assert (trial.server, trial.trial, second.server, third.server) == ("a", True, "", "")
    worker.line.leave(trial, "ok")
    assert worker.recovered == ["a"]
    assert {grant.trial for grant in [*worker.hear()]} == {False}
    worker.line.renew()
    other.line.renew()
    assert second.server == third.server == "a"
    other.line.leave(second, "ok")
    assert (worker.recovered, other.recovered) == (["a"], []), "it is told once"


def test_a_trials_first_byte_lets_the_others_in_at_once(worker: Worker, other: Worker) -> None:
    """Issue B: its answer may take minutes, and the slots beside it are free."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    worker.store.now += 5_000
    trial, second = worker.enter(pool(A)), other.enter(pool(A))
    worker.line.well(trial)
    assert worker.recovered == ["a"]
    assert other.hear() == [Grant(second.member, "a", False)]
    worker.line.well(trial)
    worker.line.leave(trial, "ok")
    assert worker.recovered == ["a"], "it is told once"


def test_a_trial_that_failed_rests_the_server_for_twice_as_long(worker: Worker, other: Worker) -> None:
    """Issue B.5: and who waits goes on waiting."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    worker.store.now += 5_000
    trial, second = worker.enter(pool(A)), other.enter(pool(A))
    worker.line.leave(trial, "fault", Blame("it broke again", "mia", True))
    assert worker.rested[-1] == ("a", "it broke again", 10)
    assert (worker.hear(), second.server) == ([], "")
    worker.store.now += 9_999
    other.line.renew()
    assert second.server == ""
    worker.store.now += 1
    other.line.renew()
    assert (second.server, second.trial) == ("a", True)


def test_a_trial_that_says_nothing_gives_way_to_the_next(worker: Worker, other: Worker) -> None:
    """Issue B.5: its customer left, so nobody knows; the server is neither well nor at rest."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    worker.store.now += 5_000
    trial, second, third = worker.enter(pool(A)), other.enter(pool(A)), other.enter(pool(A))
    worker.line.leave(trial, "none")
    assert other.hear() == [Grant(second.member, "a", True)]
    assert (second.trial, third.server, worker.recovered, other.recovered) == (True, "", [], [])


def test_a_trial_whose_worker_died_gives_way_within_the_lease(worker: Worker, other: Worker) -> None:
    """QUEUE-01: a server is not half-open for ever because somebody was killed."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    worker.store.now += 5_000
    worker.enter(pool(A))
    waiting = other.enter(pool(A))
    worker.store.now += 9_999
    other.line.renew()
    assert waiting.server == ""
    worker.store.now += 1
    other.line.renew()
    assert (waiting.server, waiting.trial) == ("a", True)


def test_what_began_before_a_rest_neither_lengthens_nor_ends_it(worker: Worker) -> None:
    """Issue B.5: old requests that end during the rest tell nothing new. A cloud account that was refused for its quota
    still had answers running: each one's good end woke the server, and the next request was refused."""
    place = Server("a", 9, 1)
    old = [worker.enter(pool(place)) for _ in range(4)]
    worker.fail(place, "mia", sure=True, rest_seconds=60)
    for number, verdict in enumerate(("fault", "ok", "fault", "none")):
        worker.line.leave(old[number], verdict, Blame("it broke", f"{number}", True))
        assert worker.refused(pool(place)) == Refused("rest", 60)
    assert (len(worker.rested), worker.recovered) == (1, [])


def test_a_server_at_rest_leaves_its_work_to_the_others(worker: Worker) -> None:
    """Issue B.3: the least-loaded healthy server."""
    for _ in range(3):
        worker.fail(A, "mia", sure=True)
    places = [worker.enter(pool(A, B)) for _ in range(3)]
    assert [place.server for place in places] == ["b", "b", ""]


def test_dead_requests_of_a_resting_server_are_not_counted_in_the_depth(worker: Worker, other: Worker) -> None:
    """QUEUE-01: the depth heals itself when a worker dies, also where the server rests for minutes."""
    old = worker.enter(pool(A))
    assert old.server == "a"
    other.fail(A, "mia", sure=True, rest_seconds=60)
    worker.store.now += 10_000
    for _ in range(2):
        other.enter(pool(B))
    assert other.line.enter(other.place(pool(A, B)), over=3) is None, "two run: the third in the depth is this one"

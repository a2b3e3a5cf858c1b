"""Four web processes, sixty-four customers, one wallet."""

import time
from functools import partial

from tests.gateway.wire import eventually
from tests.ledger.books import Threads
from tests.races.street import SMALL, Customer, Street, held_for, question
from tests.services.web import Web

LIMIT = 20
FULL = held_for(LIMIT)
"""What a question costs whose usage is all that its hold covers."""
THREADS, TURNS = 64, 10


def test_sixty_four_threads_offering_ten_times_what_the_wallet_affords(street: Street) -> None:
    """CRD-01, never again (parallel requests all passed the balance check), shown by: streamed and not, four web
    processes: spent ≤ granted, balance = Σ ledger, nothing negative, one usage row per admitted request."""
    street.sandbox.control("llama3.2:3b", usage={"prompt_tokens": FULL - LIMIT, "completion_tokens": LIMIT})
    street.sandbox.control("smollm2:135m", tokens=5)
    granted = FULL * THREADS * TURNS // 10
    account, key = street.customer(granted)
    web = street.open_shop(workers=4)

    threads = Threads(*[partial(_shop, web, key, number) for number in range(THREADS)])
    answers = [answer for result in threads.wait(90) for answer in _answers(result)]
    assert len(answers) == THREADS * TURNS
    answers += _buy_what_is_left(web, key)

    told = {(status, code) for status, code, _ in answers if status != 200}
    assert told <= {(402, "insufficient_credits"), (429, "credits_on_hold")}, told
    assert told >= {(402, "insufficient_credits")}, "the wallet was never empty: this proved nothing"
    admitted = {request: cost for status, request, cost in answers if status == 200}
    assert len(admitted) == sum(status == 200 for status, _, _ in answers)
    eventually(lambda: street.wallet(account).held == 0, what="the last settlement")

    usages = street.usages(account)
    assert {usage.id: usage.cost for usage in usages} == admitted, "one row each, at the cost that was told"
    assert {usage.state for usage in usages} == {"settled"}
    wallet, spent = street.wallet(account), sum(admitted.values())
    assert wallet.balance == granted - spent
    assert 0 <= wallet.balance < FULL, "not a credit too much was sold, and none that could be was left"
    assert wallet.seq == 1 + sum(1 for cost in admitted.values() if cost)
    assert street.faults() == []
    assert web.errors() == []


def _shop(web: Web, key: str, number: int) -> list[tuple[int, str, int]]:
    """A thread's questions: whole holds streamed and not, one without a limit of its own, and a cheap one."""
    kinds = (
        question(LIMIT), question(LIMIT, stream=True), question(LIMIT, model=SMALL), question(stream=number % 2 == 0),
        question(LIMIT, model=SMALL, stream=True),
    )  # fmt: skip
    customer, answers = Customer(web, key), []
    for turn in range(TURNS):
        answers.append(customer.ask(kinds[(number + turn) % len(kinds)]))
        if answers[-1][0] == 429:
            time.sleep(0.01)  # as Retry-After asks, on the scale of a test
    customer.close()
    return answers


def _answers(result: object) -> list[tuple[int, str, int]]:
    assert isinstance(result, list), result
    return result


def _buy_what_is_left(web: Web, key: str) -> list[tuple[int, str, int]]:
    """One after the other, until the wallet is too small for one more."""
    customer, answers = Customer(web, key), []
    for _ in range(THREADS * TURNS):
        answers.append(customer.ask(question(LIMIT)))
        if answers[-1][0] == 402:
            break
    customer.close()
    return answers

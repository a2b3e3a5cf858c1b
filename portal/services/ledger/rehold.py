"""A request that is open changes its way before its first byte: another provider, other rates, another hold.

Wallet and usage row change together or not at all, in a transaction of its own beside the till's; it happens to few
requests (those that go to a model's cloud twin, or come back), so it needs no group commit. The usage row is locked
before the wallet, as a settlement does: so the two never wait for each other in a circle but where they speak of the
same request, and then the database ends one, which is tried again.
"""

import random
import time

import sqlalchemy as sa

from portal.extensions import db
from portal.models import Usage, Wallet
from portal.services.ledger.till import TillAway

TRIES = 5
PATIENCE_SECONDS = 12.0
"""As the till's: after so long it is not tried again, for somebody waits for an answer."""


def rehold(
    request_id: str,
    account_id: str,
    old_amount: int,
    new_amount: int,
    *,
    provider: str,
    location: str,
    failover: bool,
    rates: tuple[int, int, int],
) -> bool:
    """Give the open request another hold and another way; durable when this returns True. Needs an app context.

    Amounts are milli-credits. rates: of prompt, of cached prompt and of answer, in milli-credits for a million tokens
    (`pricing.Rates` is such a tuple). More is set aside only where the wallet covers it; less is always possible.
    Returns False, and changes nothing, when the wallet doesn't cover it, when the request is not open, or when its hold
    is not old_amount.
    Raises TillAway when the database can't be written. Then nobody knows which of the two amounts is on hold: settle at
    nothing with old_amount; if that is the wrong one, it changes nothing and the sweep ends the request.
    """
    if new_amount < 0:
        raise ValueError("a hold is never below zero")
    way = {
        "provider": provider, "location": location, "failover": failover,
        "rate_in": rates[0], "rate_cached": rates[1], "rate_out": rates[2],
    }  # fmt: skip
    row = sa.and_(Usage.id == request_id, Usage.account_id == account_id, Usage.state == "open")
    change = sa.update(Usage).where(row, Usage.hold == old_amount).values(hold=new_amount, **way)
    arrived = sa.select(Usage.id).where(row, Usage.hold == new_amount, *(getattr(Usage, c) == way[c] for c in way))
    more = new_amount - old_amount
    cover = [Wallet.balance - Wallet.held >= more] if more > 0 else []
    move = sa.update(Wallet).where(Wallet.account_id == account_id, *cover).values(held=Wallet.held + more)

    in_doubt, deadline = False, time.monotonic() + PATIENCE_SECONDS
    for attempt in range(TRIES):
        try:
            with db.engine.connect() as connection:
                if connection.execute(change).rowcount == 1:
                    if connection.execute(move).rowcount != 1:
                        return False  # leaving without a commit undoes the row
                    connection.commit()
                    return True
                # Where a line broke, the try before this one may have been committed without a word of it.
                return in_doubt and connection.execute(arrived).first() is not None
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
            in_doubt = in_doubt or (isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated)
            if attempt + 1 == TRIES or time.monotonic() > deadline:
                raise TillAway from error
            time.sleep(random.uniform(0.005, 0.02) * (attempt + 1))  # noqa: S311
    raise AssertionError("unreachable")

"""What a token costs: the rates of a model at a provider, at an instant.

A price row is either rates of our own or what the provider asks plus the markup; both end as `Rates`, which a request
takes with it from admission to settlement. Money moves elsewhere (`ledger`).
"""

from typing import NamedTuple

from portal.models import Price

MILLION = 1_000_000


class Rates(NamedTuple):
    """Milli-credits for a million tokens: of prompt, of prompt that the upstream had cached, of answer."""

    prompt: int
    cached: int
    answer: int

    def charge(self, prompt: int, answer: int, cached: int = 0) -> int:
        """Milli-credits for so many tokens. cached: those of the prompt's; a part of a milli-credit is rounded up."""
        return -(-((prompt - cached) * self.prompt + cached * self.cached + answer * self.answer) // MILLION)


def rates(price: Price, markup_percent: int) -> Rates:
    """The rates of a price row. A dollar is 1,000 credits; what a part of a milli-credit is left is rounded up."""
    if price.kind == "cost-plus":
        asked = (price.usd_in, price.usd_in if price.usd_cached is None else price.usd_cached, price.usd_out)
        # Millionths of a dollar for a million tokens are milli-credits for a million tokens: 1e-6 $ = 1e-3 credits.
        return Rates(*(-(-(usd or 0) * (100 + markup_percent) // 100) for usd in asked))
    rate_in = price.rate_in or 0
    return Rates(rate_in, rate_in if price.rate_cached is None else price.rate_cached, price.rate_out or 0)

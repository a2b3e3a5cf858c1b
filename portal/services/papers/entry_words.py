"""How a posting of the ledger is told: the kind's name, what it was about, the id to ask for it by.

Used by the statement's page, its PDF and its CSV alike. The words are found once: rows are written when no request is
at hand any more.
"""

from typing import Final, NamedTuple

from flask_babel import LazyString, gettext as _, lazy_gettext as _l

from portal import i18n
from portal.services.papers.statements import Posting

KINDS: Final[dict[str, LazyString]] = {
    "topup": _l("Top-up"),
    "subscription": _l("Credit of a plan"),
    "usage": _l("Usage"),
    "refund": _l("Refund"),
    "adjustment": _l("Adjustment"),
    "grant": _l("Gift"),
    "expiry": _l("Expired credit"),
}
SIGN_UP: Final = "signup:"


class Words(NamedTuple):
    """language: of the names. kinds: by the ledger's own word. at_sign_up: the credit that everybody begins with."""

    language: str
    kinds: dict[str, str]
    at_sign_up: str

    def about(self, posting: Posting) -> str:
        """The model, what was bought, the reason; empty where there is nothing to say."""
        if posting.reference.startswith(SIGN_UP):
            return self.at_sign_up
        return posting.model or posting.names.get(self.language, "") or posting.reason

    @staticmethod
    def reference(posting: Posting) -> str:
        """The request's id as its answer carried it, the payment's or the refund's; `manual:…` of an adjustment."""
        return f"req_{posting.reference}" if posting.kind == "usage" else posting.reference


def words() -> Words:
    """In the language of the moment."""
    return Words(i18n.language(), {kind: str(name) for kind, name in KINDS.items()}, _("Credit to begin with"))

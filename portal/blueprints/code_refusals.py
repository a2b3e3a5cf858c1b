"""Why no code was sent, in words, and the answer's status: alike on every page that sends one."""

from flask_babel import gettext as _

from portal.errors import TooManyAttempts
from portal.services import codes

REFUSALS = (TooManyAttempts, codes.TooSoon, codes.TooManyCodes)


def words(refusal: Exception) -> str:
    """The sentence for one of REFUSALS."""
    if isinstance(refusal, codes.TooSoon):
        # The number stands after a colon: "in 42 seconds" would need six forms that a script could not count down.
        told: str = _(
            "A code was sent a moment ago. Seconds until you can ask for another one: %(seconds)s",
            seconds=refusal.seconds,
        )
        return told
    if isinstance(refusal, TooManyAttempts):
        return refusal.message
    enough: str = _("No more codes can be sent today. Nothing was changed. Please try again tomorrow.")
    return enough


def headers(refusal: Exception) -> dict[str, str]:
    """`Retry-After`, where the wait is known."""
    return {"Retry-After": str(refusal.seconds)} if isinstance(refusal, codes.TooSoon) else {}

"""Reading what comes to the provider's webhook: rightly signed, or nothing at all.

A notice says which payment to ask about (`services/reconciliation.hear`) and never that it was paid. What is not signed
with our secret costs a digest and now and then a line in the log: no row is read for it and the provider is not asked.
"""

import logging
import time
from typing import Final

from flask import current_app

from portal.errors import HookClosed, WrongToken
from portal.providers.payments import Notice, signatures

log = logging.getLogger("portal.payments")
LARGEST: Final = 256 * 1024
"""Bytes of a notice; the largest that the provider documents has some thousand."""
TOLD_EVERY: Final = 600
"""Seconds between two lines of a process about notices that were refused: who knocks here may knock all day."""
_TOLD: Final = "refused notices"


def read(raw_body: bytes, signature: str, version: str | None, secret: str) -> Notice | None:
    """What a webhook is about; None where it is rightly signed and names nothing that could be asked about.

    raw_body: exactly as it came. signature: the header, empty for none. version: the header of that, None for none;
    the body tells then. secret: ours. Raises HookClosed without one, WrongToken for all that is not signed with it.
    """
    if not secret:
        raise HookClosed
    try:
        if not signature.strip():
            raise signatures.BadSignature  # not even parsed
        return signatures.verify(raw_body, signature, secret, version)
    except signatures.NotANotice:
        log.info("a notice names no payment")
        return None
    except signatures.BadSignature as wrong:
        _tell("signed otherwise" if signature.strip() else "no signature")
        raise WrongToken from wrong


def _tell(fault: str) -> None:
    """For staff, and never a line that fail2ban counts: with a secret mistyped on either side, the provider's own
    servers would be shut out, and the payments of that day with them."""
    last, silent = current_app.extensions.get(_TOLD, (None, 0))
    now = time.monotonic()
    if last is not None and now - last < TOLD_EVERY:
        current_app.extensions[_TOLD] = last, silent + 1
        return
    current_app.extensions[_TOLD] = now, 0
    log.error(
        "a notice was refused: is MYFATOORAH_WEBHOOK_SECRET the one that the provider signs with?",
        extra={"fault": fault, "before": silent},
    )

"""Proving a number and what hangs on it: verification after signing up, a forgotten password, a new password, a new
number. Each is done with a one-time code or the present password, told to the owner, and ends the other sessions.

A stranger learns nothing here: whether an account exists shows neither in words nor in what is asked to wait.
"""

import hashlib
import time
from dataclasses import dataclass

import sqlalchemy as sa
from flask_babel import LazyString, lazy_gettext as _l

from portal import clock
from portal.errors import TooManyAttempts
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Delivery, Notification, User
from portal.services import accounts, allowances, attempts, codes, passwords, phones, sessions, sign_in
from portal.services.notifications import notify
from portal.services.sessions import Browser

ASKED_A_DAY = 10
ASKED_FROM_AN_ADDRESS_A_DAY = 100
ANSWER_SECONDS = 0.25
"""So long "a code is on its way" takes, whether one is or not."""
WRONG_CODE = _l("This code is not right. Check the newest message, or ask for another code.")


class Refused(Exception):
    """Something must change first. `problems`: a sentence for each field at fault. Nothing was changed."""

    def __init__(self, problems: dict[str, LazyString]) -> None:
        super().__init__(", ".join(sorted(problems)))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class _Person:
    user_id: str
    phone: str
    email: str
    language: str


def send_verification(user: User, address: str) -> None:
    """Send a code that proves the user's own number. Raises codes.TooSoon, codes.TooManyCodes. Commits."""
    codes.send(user.id, user.phone, codes.VERIFY, user.language, address)


def verify(user: User, typed: str, address: str) -> None:
    """The number is theirs. Raises Refused for a wrong code. Commits."""
    proved = _checked(user.id, codes.VERIFY, typed, address, user.email)
    # Not for a number that they have changed since: the code was sent to another one.
    same = sa.update(User).where(User.id == user.id, User.phone == proved).values(phone_verified_at=clock.utcnow())
    db.session.execute(same.execution_options(synchronize_session="fetch"))
    db.session.commit()


def forgot(identifier: str, address: str) -> None:
    """Send a code to whoever this is, if they are somebody. identifier: e-mail or phone, in any spelling.

    Raises codes.TooSoon and codes.TooManyCodes by what was typed and by who asks alone, so that they tell nothing; nor
    does the time that it takes.
    """
    began = time.monotonic()
    known = "codes:asked:" + _short(_normal(identifier))
    wait = allowances.seconds_to_wait(known, codes.PAUSE)
    if wait:
        raise codes.TooSoon(wait)
    if not attempts.allowed(attempts.PER_ADDRESS, attempts.by_address(address)):
        raise TooManyAttempts
    if not allowances.take("codes:asker:" + _short(attempts.by_address(address)), ASKED_FROM_AN_ADDRESS_A_DAY):
        raise codes.TooManyCodes  # else a list of names was a row each
    if not allowances.take(known, ASKED_A_DAY, apart=codes.PAUSE):
        raise codes.TooManyCodes
    try:
        if (person := _find(identifier)) is not None:
            codes.send(person.user_id, person.phone, codes.RESET, person.language, address)
    except codes.CodeRefused:
        pass  # only somebody with an account could hear of it
    # To write a code takes some milliseconds that a stranger's name did not: enough to tell the two apart.
    time.sleep(max(0.0, began + ANSWER_SECONDS - time.monotonic()))


def reset(identifier: str, typed: str, password: str, browser: Browser) -> str:
    """Set a new password with a code. Every session ends; this browser's new one begins. Returns its token. Commits.

    Raises Refused for a weak password or a wrong code, TooManyAttempts.
    """
    if not attempts.allowed(attempts.PER_ADDRESS, attempts.by_address(browser.address)):
        raise TooManyAttempts
    person = _find(identifier)
    # By what was typed alone: "do not use your e-mail address" told whether it was a known one's.
    if problem := accounts.password_problem(password, _normal(identifier), _normal(identifier)):
        raise Refused({"password": problem})
    hashed = passwords.hashed(password)  # 30 ms, for strangers too
    if person is None:
        _wrong(browser.address, identifier)
        raise Refused({"code": WRONG_CODE})
    phone = _checked(person.user_id, codes.RESET, typed, browser.address, person.email)
    if problem := accounts.password_problem(password, person.email, person.phone):
        db.session.rollback()  # a try is spent, the code is not used up
        raise Refused({"password": problem})
    # A person who changed their number meanwhile has no use for a code that went to the old one.
    values = {"password_hash": hashed, "phone_verified_at": clock.utcnow()}
    same = sa.update(User).where(User.id == person.user_id, User.phone == phone).values(**values)
    if db.session.execute(same.execution_options(synchronize_session=False)).rowcount != 1:  # type: ignore[attr-defined]
        db.session.rollback()
        raise Refused({"code": WRONG_CODE})
    sessions.end_others(person.user_id)
    token = sessions.begin(person.user_id, browser)
    _tell_password(person.user_id)
    db.session.commit()
    attempts.forget(attempts.PER_ACCOUNT, person.user_id)
    return token


def change_password(user: User, current: str, new: str, browser: Browser) -> None:
    """Set a new password with the present one; every other session ends. Commits.

    Raises Refused, TooManyAttempts.
    """
    _prove(user, current, browser.address)
    if problem := accounts.password_problem(new, user.email, user.phone):
        raise Refused({"password": problem})
    hashed = passwords.hashed(new)
    db.session.execute(sa.update(User).where(User.id == user.id).values(password_hash=hashed))
    sessions.end_others(user.id, user.session_token)
    _tell_password(user.id)
    db.session.commit()


def ask_for_number(user: User, phone: str, country: str, password: str, address: str) -> str:
    """Send a code to the number that is to become the user's. Returns it, E.164. Commits.

    Raises Refused, TooManyAttempts, codes.TooSoon, codes.TooManyCodes.
    """
    number = phones.e164(phone, country.strip().upper()) if country.strip().upper() in phones.countries() else None
    if number is None:
        raise Refused(
            {"phone": _l("This number does not exist in the chosen country. Check the digits and the country.")}
        )
    if number == user.phone:
        raise Refused({"phone": _l("This is your number already.")})
    _prove(user, password, address)
    if db.session.scalar(sa.select(User.id).where(User.phone == number)) is not None:
        raise Refused({"phone": accounts.PHONE_TAKEN})
    codes.send(user.id, number, codes.PHONE, user.language, address)
    return number


def change_number(user: User, typed: str, browser: Browser) -> None:
    """The number that the code went to is theirs from now on; every other session ends, and both numbers hear of it.

    Commits. Raises Refused.
    """
    old = user.phone
    number = _checked(user.id, codes.PHONE, typed, browser.address, user.email)
    try:
        changed = sa.update(User).where(User.id == user.id)
        db.session.execute(changed.values(phone=number, phone_verified_at=clock.utcnow()))
        sessions.end_others(user.id, user.session_token)
        account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user.id)).one()
        _send_on(account, old, number)
        at = clock.utcnow().isoformat()
        notify(account, "phone_changed", new_id(), also_to=(old,), phone=number, at=at)
        db.session.commit()
    except sa.exc.IntegrityError:
        db.session.rollback()  # somebody registered with it while the code was on its way
        raise Refused({"phone": accounts.PHONE_TAKEN}) from None


def _send_on(account: str, old: str, new: str) -> None:
    """What waits for the morning goes to the number they have then."""
    theirs = sa.select(Notification.id).where(Notification.account_id == account)
    waiting = sa.update(Delivery).where(
        Delivery.notification_id.in_(theirs), Delivery.state == "waiting", Delivery.in_doubt.is_(False),
        Delivery.channel == "whatsapp", Delivery.address == old,
    )  # fmt: skip
    db.session.execute(waiting.values(address=new).execution_options(synchronize_session=False))


def _prove(user: User, password: str, address: str) -> None:
    if not attempts.take(attempts.PER_ACCOUNT, user.id):
        sign_in.note_failure(address, "throttled", user.email, [])
        raise TooManyAttempts
    stored = user.password_hash
    db.session.commit()  # gives the connection back: the check takes 30 ms
    if not passwords.matches(stored, password):
        attempts.take(attempts.PER_ADDRESS, attempts.by_address(address))
        sign_in.note_failure(address, "bad_password", user.email, [])
        raise Refused({"current": _l("This is not your present password.")})
    attempts.forget(attempts.PER_ACCOUNT, user.id)


def _checked(user_id: str, purpose: str, typed: str, address: str, email: str) -> str:
    db.session.commit()  # gives the connection back: a try is counted in a transaction of its own
    try:
        return codes.check(user_id, purpose, typed)
    except codes.WrongCode as wrong:
        _wrong(address, email)
        over = _l("This code is no longer valid. Ask for another one.")
        raise Refused({"code": WRONG_CODE if wrong.tries or purpose == codes.RESET else over}) from wrong


def _wrong(address: str, typed: str) -> None:
    attempts.take(attempts.PER_ADDRESS, attempts.by_address(address))
    email = accounts.normal_email(typed) if "@" in typed else None
    sign_in.note_failure(address, "bad_code", email, [] if email else phones.readings(typed))


def _tell_password(user_id: str) -> None:
    account = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user_id)).one()
    notify(account, "password_changed", new_id(), at=clock.utcnow().isoformat())


def _short(value: str) -> str:
    """What people type has no place in a counter's name."""
    return hashlib.sha256(value.encode(errors="replace")).hexdigest()[:32]


def _normal(identifier: str) -> str:
    if "@" in identifier:
        return accounts.normal_email(identifier) or identifier.strip().casefold()[:200]
    return next(iter(phones.readings(identifier)), identifier.strip().casefold()[:200])


def _find(identifier: str) -> _Person | None:
    email = accounts.normal_email(identifier) if "@" in identifier else None
    numbers = [] if email else phones.readings(identifier)
    # A number that was mistyped is somebody else's, who must not be able to ask for the account: by a number nobody has
    # proved, only who also knows the e-mail address comes in.
    proved = sa.and_(User.phone.in_(numbers or [""]), User.phone_verified_at.is_not(None))
    known = User.email == email if email else proved
    suspended = sa.or_(User.suspended_at.is_not(None), Account.suspended_at.is_not(None))
    rows = db.session.execute(
        sa.select(User.id, User.phone, User.email, User.language)
        .join(Account, Account.owner_id == User.id)
        .where(known, sa.not_(suspended))
    ).all()
    db.session.commit()
    found = min(rows, key=lambda row: numbers.index(row.phone) if numbers else 0, default=None)
    return None if found is None else _Person(found.id, found.phone, found.email, found.language)

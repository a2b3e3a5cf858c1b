"""Signing up: a user, the account they own, its wallet and the sign-up credit, all in one transaction or not at all.

What a form or a JSON body brings is checked here, so that every door refuses the same things in the same words. Signing
in is `services/sign_in.py`; money is `services/ledger`.
"""

import re
import unicodedata
from dataclasses import dataclass

import sqlalchemy as sa
from email_validator import EmailNotValidError, validate_email
from flask import current_app
from flask_babel import LazyString, lazy_gettext as _l

from portal.errors import TooManyAttempts
from portal.extensions import db
from portal.ids import new_id
from portal.models import Account, Membership, User
from portal.money import MILLI
from portal.services import attempts, ledger, passwords, phones, sessions
from portal.services.notifications import notify
from portal.services.sessions import Browser

FIRST_PLAN = "basic"

EMAIL_TAKEN = _l("An account with this e-mail address already exists. Sign in instead, or use another address.")
PHONE_TAKEN = _l("An account with this phone number already exists. Sign in instead, or use another number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """What a person writes down to sign up, as they typed it. country: two letters. language: `ar` or `en`."""

    email: str
    phone: str
    password: str
    country: str = "KW"
    name: str = ""
    language: str = "ar"


class RegistrationRefused(Exception):
    """Something in the form must change first. `problems`: a sentence for each field at fault. Nothing was written."""

    def __init__(self, problems: dict[str, LazyString]) -> None:
        super().__init__(", ".join(sorted(problems)))
        self.problems = problems


def sign_up(new: NewUser, browser: Browser) -> str:
    """Register, and sign the new user in on this browser. Returns the session token.

    Raises RegistrationRefused; TooManyAttempts when this address opened too many accounts.
    """
    return _create(new, browser)[1]


def register(new: NewUser, address: str, *, welcome: bool = True) -> str:
    """Register without signing anybody in. Returns the user's id. Raises as `sign_up` does.

    welcome: whether they are told of it, as customers are.
    """
    return _create(new, Browser(address=address), signed_in=False, welcome=welcome)[0]


def normal_email(text: str) -> str | None:
    """`Layla@Example.COM` → `layla@example.com`; None for what is no address. Asks no name server."""
    try:
        # "test environment" allows the reserved name .test, and nothing else.
        address = validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError:
        return None
    return address if len(address) <= 190 else None


def _create(new: NewUser, browser: Browser, *, signed_in: bool = True, welcome: bool = True) -> tuple[str, str]:
    user = _checked(new)
    # Counted only for what is well written, so that typing errors cost nobody their turn.
    if not attempts.take(attempts.REGISTRATIONS, attempts.by_address(browser.address)):
        raise TooManyAttempts
    if problems := _taken(user):
        raise RegistrationRefused(problems)
    # The hash takes 30 ms: no transaction is open meanwhile.
    user.password_hash = passwords.hashed(new.password)
    try:
        token = _write(user, browser if signed_in else None, welcome)
        db.session.commit()
    except sa.exc.IntegrityError:
        # Two people (or one, twice) sent the same address at once: the second is told like any latecomer.
        db.session.rollback()
        if problems := _taken(user):
            raise RegistrationRefused(problems) from None
        raise
    return user.id, token


def _checked(new: NewUser) -> User:
    """The user as a row without a hash. Raises RegistrationRefused with every problem at once."""
    problems: dict[str, LazyString] = {}
    email = normal_email(new.email)
    if email is None:
        problems["email"] = _l("Write an e-mail address, such as name@example.com.")
    country = new.country.strip().upper()
    if country not in phones.countries():
        problems["country"] = _l("Choose the country of your phone number.")
        country = phones.GULF[0]
    phone = phones.e164(new.phone, country)
    if phone is None:
        problems["phone"] = _l("This number does not exist in the chosen country. Check the digits and the country.")
    name = re.sub(r"\s+", " ", "".join(c for c in new.name if unicodedata.category(c) != "Cc")).strip()
    if len(name) > 120:
        problems["name"] = _l("Use at most 120 characters.")
    if problem := password_problem(new.password, email or "", phone or ""):
        problems["password"] = problem
    if problems:
        raise RegistrationRefused(problems)
    assert email and phone
    language = new.language if new.language in ("ar", "en") else "ar"
    return User(id=new_id(), email=email, phone=phone, name=name, language=language, password_hash="")


def password_problem(password: str, email: str, phone: str) -> LazyString | None:
    """Why this password can't be taken, or None. email, phone: normalised, empty when unknown."""
    if len(password) < passwords.SHORTEST:
        return _l("Use at least 8 characters.")
    if len(password) > passwords.LONGEST:
        return _l("Use at most 1,024 characters.")
    if passwords.is_common(password) or len(set(password)) < 3:
        return _l(
            "This password is among the first that are guessed. Choose another one, for example three unrelated words."
        )
    guess = password.casefold()
    if guess in {email, email.partition("@")[0], phone, phone.lstrip("+")}:
        return _l("Do not use your e-mail address or phone number as the password.")
    return None


def _taken(user: User) -> dict[str, LazyString]:
    rows = db.session.execute(
        sa.select(User.email, User.phone).where(sa.or_(User.email == user.email, User.phone == user.phone))
    ).all()
    db.session.commit()  # gives the connection back before the slow hash
    problems: dict[str, LazyString] = {}
    if any(row.email == user.email for row in rows):
        problems["email"] = EMAIL_TAKEN
    if any(row.phone == user.phone for row in rows):
        problems["phone"] = PHONE_TAKEN
    return problems


def _write(user: User, browser: Browser | None, welcome: bool) -> str:
    db.session.add(user)
    db.session.flush()
    account = Account(owner_id=user.id, plan_id=FIRST_PLAN, name=user.name)
    db.session.add(account)
    db.session.flush()
    db.session.add(Membership(account_id=account.id, user_id=user.id, role="owner"))
    ledger.open_wallet(account.id)
    gift = current_app.config["PORTAL"].signup_credits * MILLI
    if gift:
        ledger.credit(account.id, gift, kind="grant", reference=f"signup:{account.id}", actor=f"user:{user.id}")
    if welcome:
        notify(account.id, "welcome", "registration", credits=gift)
    return sessions.begin(user.id, browser) if browser else ""

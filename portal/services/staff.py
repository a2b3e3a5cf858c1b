"""The administrator: the first of the staff comes from the environment, never from a form."""

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import User
from portal.services import accounts, passwords
from portal.services.accounts import NewUser

CONSOLE = "127.0.0.1"


class SomebodyElse(Exception):
    """The address of ADMIN_EMAIL belongs to a customer whose password is not ADMIN_PASSWORD. Nothing was changed."""


def ensure_admin(settings: Settings) -> str | None:
    """Register the user of ADMIN_EMAIL as staff, where there is none of that address.

    An existing user stays as they are, unless ADMIN_PASSWORD is theirs: an address is not proof of a person, and
    whoever signed up with it first would be made staff by the next release. Returns the id of the administrator, None
    where there is none. Raises SomebodyElse, RegistrationRefused; commits.
    """
    if not settings.admin_email:
        return None
    email = accounts.normal_email(settings.admin_email)
    user = db.session.scalar(sa.select(User).where(User.email == email))
    if user is None:
        phone = settings.admin_phones[0] if settings.admin_phones else ""
        new = NewUser(email=settings.admin_email, phone=phone, password=settings.admin_password, name="Admin")
        user = db.session.get_one(User, accounts.register(new, CONSOLE, welcome=False))
    elif not user.is_staff and not passwords.matches(user.password_hash, settings.admin_password):
        raise SomebodyElse
    user.role = "staff"
    db.session.commit()
    return user.id

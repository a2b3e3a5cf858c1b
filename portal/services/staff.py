"""The administrator: the first of the staff comes from the environment, never from a form."""

import sqlalchemy as sa

from portal.config import Settings
from portal.extensions import db
from portal.models import User
from portal.services import accounts
from portal.services.accounts import NewUser

CONSOLE = "127.0.0.1"


def ensure_admin(settings: Settings) -> str | None:
    """Make the user of ADMIN_EMAIL staff, registering them if need be. An existing user's password is left alone.

    Returns the user's id, None where ADMIN_EMAIL is not set. Raises RegistrationRefused naming what is wrong; commits.
    """
    if not settings.admin_email:
        return None
    email = accounts.normal_email(settings.admin_email)
    user = db.session.scalar(sa.select(User).where(User.email == email))
    if user is None:
        phone = settings.admin_phones[0] if settings.admin_phones else ""
        new = NewUser(email=settings.admin_email, phone=phone, password=settings.admin_password, name="Admin")
        user = db.session.get_one(User, accounts.register(new, CONSOLE))
    user.role = "staff"
    db.session.commit()
    return user.id

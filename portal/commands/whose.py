"""Whom an operator means: an account by its id, or by its owner's e-mail address."""

import click
import sqlalchemy as sa

from portal.extensions import db
from portal.models import Account, User


def account(text: str) -> Account:
    """The account of that id or owner. Raises ClickException where there is none."""
    query = sa.select(Account).join(User, User.id == Account.owner_id)
    found = db.session.scalar(query.where(sa.or_(Account.id == text, User.email == text.strip().lower())))
    if found is None:
        raise click.ClickException(f"There is no account {text}.")
    return found

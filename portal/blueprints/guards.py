"""Who may pass which door. Asked before every view; a door without a guard is closed.

`current_caller()` is what pages use to know their user and account.
"""

from typing import NamedTuple

import sqlalchemy as sa
import sqlalchemy.orm
from flask import current_app, g, redirect, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

from portal.errors import AccessDenied
from portal.extensions import db
from portal.models import Account, User, Wallet
from portal.services.notifications import centre

PUBLIC, USER, STAFF, KEY = "public", "user", "staff", "key"


class PageCaller(NamedTuple):
    """The signed-in person, the account whose pages are shown, its wallet, and how many notifications are unread."""

    user: User
    account: Account
    wallet: Wallet
    unread: int


def check() -> Response | None:
    """Let the request through, send a stranger to the sign-in page, or refuse."""
    if request.endpoint is None or request.endpoint == "static":
        return None  # an unknown address is a 404, the built assets are for everybody
    doors = current_app.extensions["doors"]
    door = doors.get(request.endpoint.rpartition(".")[0])
    guard = door.guard if door is not None else None
    if guard in (PUBLIC, KEY):
        return None
    if guard == USER or guard == STAFF:
        if not current_user.is_authenticated:
            target = request.full_path.rstrip("?") if request.method == "GET" else None
            return redirect(url_for("auth.login", next=target))
        if guard == USER or current_user.is_staff:
            return None
    raise AccessDenied


def current_caller() -> PageCaller:
    """The caller of a page behind the `user` guard; one query a request.

    Raises AccessDenied for a user without an account.
    """
    caller: PageCaller | None = g.get("page_caller")
    if caller is None:
        row = db.session.execute(
            sa.select(Account, Wallet, centre.unread_of(Account.id))
            .join(Wallet, Wallet.account_id == Account.id)
            .where(Account.owner_id == current_user.id)
            .options(sa.orm.joinedload(Account.plan))
        ).one_or_none()
        if row is None:
            raise AccessDenied
        caller = g.page_caller = PageCaller(current_user._get_current_object(), *row)
    return caller

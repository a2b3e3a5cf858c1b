"""Signing up, in and out. Each view is three moves; the rules are `services/accounts.py` and `services/sign_in.py`.

The cookie carries a session's token, never a user's id, so that signing out kills every copy of it.
"""

from urllib.parse import urlsplit

import flask
from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask_login import current_user, login_user, logout_user
from werkzeug.wrappers import Response

from portal import i18n
from portal.blueprints.auth_forms import LoginForm, RegisterForm
from portal.errors import TooManyAttempts
from portal.extensions import login_manager
from portal.models import User
from portal.services import accounts, sessions, sign_in
from portal.services.sessions import Browser

bp = Blueprint("auth", __name__)
Page = Response | str | tuple[str, int]


@login_manager.user_loader  # type: ignore[untyped-decorator]
def user_of_cookie(token: str) -> User | None:
    return sessions.user_of(token)


@bp.get("/register")
def register() -> Page:
    if current_user.is_authenticated:
        return redirect(url_for("dashboard.show"))
    return _register_page(RegisterForm())


@bp.post("/register")
def create() -> Page:
    form = RegisterForm()
    new = accounts.NewUser(
        email=form.email.data or "",
        phone=form.phone.data or "",
        country=form.country.data or "KW",
        password=form.password.data or "",
        name=form.name.data or "",
        language=i18n.language(),
    )
    try:
        token = accounts.sign_up(new, browser(remember=False))
    except accounts.RegistrationRefused as refused:
        form.show(refused.problems)
        return _register_page(form), 422
    return entered(token, url_for("dashboard.show"), remember=False)


@bp.get("/login")
def login() -> Page:
    if current_user.is_authenticated:
        return redirect(_target())
    return render_template("auth/login.html", form=LoginForm(), refused=False, next=request.args.get("next"))


@bp.post("/login")
def enter() -> Page:
    form = LoginForm()
    if not form.validate():
        return render_template("auth/login.html", form=form, refused=False, next=request.form.get("next")), 422
    remember = bool(form.remember.data)
    try:
        token = sign_in.sign_in(form.email.data or "", form.password.data or "", browser(remember=remember))
    except sign_in.SignInRefused:
        return render_template("auth/login.html", form=form, refused=True, next=request.form.get("next")), 401
    except TooManyAttempts as slow:
        return render_template(
            "auth/login.html", form=form, refused=False, slow=slow, next=request.form.get("next")
        ), 429
    return entered(token, _target(), remember=remember)


@bp.post("/logout")
def logout() -> Page:
    if current_user.is_authenticated:
        sessions.end(current_user.session_token)
        logout_user()
    flask.session.clear()
    return redirect(url_for("site.landing"))


def _register_page(form: RegisterForm) -> str:
    return render_template("auth/register.html", form=form, gift=current_app.config["PORTAL"].signup_credits > 0)


def entered(token: str, target: str, *, remember: bool) -> Response:
    """Bind this browser to its fresh session and go on. What an earlier visitor's cookie held does not survive."""
    user = sessions.user_of(token)
    flask.session.clear()
    flask.session.permanent = remember
    login_user(user)
    response = redirect(target)
    if user is not None and i18n.COOKIE not in request.cookies:
        # A new device speaks the person's own language from here on, on public pages too.
        secure = bool(current_app.config["SESSION_COOKIE_SECURE"])
        response.set_cookie(
            i18n.COOKIE, user.language, max_age=i18n.COOKIE_SECONDS, samesite="Lax", httponly=True, secure=secure
        )
    return response


def browser(*, remember: bool) -> Browser:
    return Browser(address=request.remote_addr or "", user_agent=request.user_agent.string, remember=remember)


def _target() -> str:
    """Where to go after signing in: the page that was asked for, if it is one of ours."""
    wanted = request.form.get("next") or request.args.get("next") or ""
    parts = urlsplit(wanted)
    ours = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    clean = wanted.isprintable() and "\\" not in wanted
    return wanted if ours and clean else url_for("dashboard.show")

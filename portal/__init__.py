"""The factory: a table of contents of the portal. Nothing here speaks to the database or the store."""

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from portal import commands, database, extensions, i18n, logs, pages, store
from portal.blueprints import frame, open_doors
from portal.config import ROOT, Settings, load_settings
from portal.tasks.schedule import TIMETABLE


def create_app(settings: Settings | None = None) -> Flask:
    """Build the portal.

    settings: by default read from the environment (`config.load_settings`).
    Raises SettingsError when one is wrong; opens no connection.
    """
    settings = settings or load_settings()
    logs.configure(settings.auth_log)
    app = Flask(
        "portal", instance_path=str(settings.instance_dir), static_folder="static/dist", static_url_path="/static"
    )
    app.config.from_mapping(flask_settings(settings))

    extensions.db.init_app(app)
    with app.app_context():
        database.prepare(extensions.db.engine)
    extensions.migrate.init_app(
        app, extensions.db, directory=str(ROOT / "migrations"), render_as_batch=True, compare_type=True
    )
    extensions.babel.init_app(app, locale_selector=i18n.select_locale)
    pages.init_app(app)  # before whatever may refuse: its hooks name the request, and say that a GET only reads
    extensions.csrf.init_app(app)
    store.init_app(app)

    open_doors(app)
    frame.init_app(app)
    commands.init_app(app)
    app.extensions["timetable"] = TIMETABLE  # doors show how its jobs are, and may not know the clock themselves
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=hops)  # type: ignore[method-assign]
    return app


def flask_settings(settings: Settings) -> dict[str, object]:
    """Our settings as Flask and its extensions call them."""
    return {
        "PORTAL": settings,
        "SECRET_KEY": settings.secret_key,
        "SQLALCHEMY_DATABASE_URI": settings.database_url,
        "SQLALCHEMY_ENGINE_OPTIONS": database.engine_options(settings.database_url),
        "BABEL_DEFAULT_LOCALE": i18n.DEFAULT,
        "BABEL_DEFAULT_TIMEZONE": "Asia/Kuwait",
        "SESSION_COOKIE_NAME": "portal",
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": settings.base_url.startswith("https://"),
        "PERMANENT_SESSION_LIFETIME": 30 * 86_400,
        "MAX_CONTENT_LENGTH": settings.max_request_bytes,
        "MAX_FORM_MEMORY_SIZE": 1_000_000,
        "WTF_CSRF_TIME_LIMIT": 12 * 3600,
        "JSON_AS_ASCII": False,
    }

"""The settings: one frozen record, read once from the environment.

A process with a wrong setting does not start, and says everything that is wrong at once, not the first thing.
What operators tune while the product runs is a row (`models.setting`), not an environment variable.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from dotenv import dotenv_values

ROOT = Path(__file__).resolve().parent.parent
WEAK_SECRETS = {"dev", "secret", "changeme", "change-me", "password", "admin"}


class SettingsError(Exception):
    """The environment is wrong. `problems` names every wrong setting in words an operator can act on."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The portal can't start:\n" + "\n".join(f"  - {p}" for p in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the environment decides. Field names are the variables' names in lower case."""

    portal_env: str
    secret_key: str
    base_url: str
    database_url: str
    redis_url: str
    ollama_url: tuple[str, ...]
    ollama_slots: int
    ollama_cloud_url: str
    ollama_cloud_api_key: str
    myfatoorah_base_url: str
    myfatoorah_api_key: str
    myfatoorah_webhook_secret: str
    resayil_api_url: str
    resayil_api_key: str
    resayil_device: str
    resayil_webhook_token: str
    resayil_webhook_secret: str
    admin_email: str
    admin_password: str
    admin_phones: tuple[str, ...]
    hook_token: str
    auth_log: Path
    queue_limit: int
    queue_length: int
    queue_seconds: int
    cloud_daily_limit: int
    signup_credits: int
    rate_limit_fail: str
    trusted_proxies: int
    smtp_url: str
    mail_from: str
    first_byte_seconds: int
    silence_seconds: int
    answer_seconds: int
    heartbeat_seconds: int
    max_request_bytes: int
    instance_dir: Path
    environment: Mapping[str, str] = field(repr=False, hash=False, compare=False)
    """Everything that was set, for keys that rows name (`provider_key`)."""

    def provider_key(self, variable: str) -> str:
        """A provider's key, from the variable its row names. Empty for none, and for what is no provider's business."""
        return self.environment.get(variable, "").strip() if may_hold_a_provider_key(variable) else ""

    @property
    def production(self) -> bool:
        return self.portal_env == "production"


def load_settings(environ: Mapping[str, str] | None = None, *, instance_dir: Path | None = None) -> Settings:
    """Read the settings.

    environ: the variables; by default the process environment over the `.env` beside the code (or PORTAL_ENV_FILE).
    Raises SettingsError naming every wrong one.
    """
    problems: list[str] = []
    if environ is None:
        environ = {**_env_file(problems), **os.environ}
    reader = _Reader(environ, problems)
    env = reader.choice("PORTAL_ENV", ("development", "production"), "development")
    production = env == "production"
    instance = (instance_dir or Path(reader.text("PORTAL_INSTANCE_DIR", str(ROOT / "instance")))).resolve()
    settings = Settings(
        portal_env=env,
        secret_key=reader.secret(
            "SECRET_KEY", production, minimum=32, development="development-only-key-never-for-production"
        ),
        base_url=reader.url(
            "BASE_URL", "" if production else "http://127.0.0.1:8000", ("https",) if production else ("http", "https")
        ),
        database_url=reader.database("DATABASE_URL", f"sqlite:///{instance / 'portal.db'}"),
        redis_url=reader.url("REDIS_URL", f"unix://{instance / 'redis' / 's.sock'}?db=0", ("redis", "rediss", "unix")),
        ollama_url=reader.urls("OLLAMA_URL", "http://127.0.0.1:11434"),
        ollama_slots=reader.number("OLLAMA_SLOTS", 1, 1, 1024),
        ollama_cloud_url=reader.url("OLLAMA_CLOUD_URL", "https://ollama.com", ("http", "https")),
        ollama_cloud_api_key=reader.text("OLLAMA_CLOUD_API_KEY", ""),
        myfatoorah_base_url=reader.url("MYFATOORAH_BASE_URL", "https://apitest.myfatoorah.com", ("http", "https")),
        myfatoorah_api_key=reader.text("MYFATOORAH_API_KEY", ""),
        myfatoorah_webhook_secret=reader.text("MYFATOORAH_WEBHOOK_SECRET", ""),
        resayil_api_url=reader.url("RESAYIL_API_URL", "https://api.resayil.io/v1", ("http", "https")),
        resayil_api_key=reader.text("RESAYIL_API_KEY", ""),
        resayil_device=reader.text("RESAYIL_DEVICE", ""),
        resayil_webhook_token=reader.secret("RESAYIL_WEBHOOK_TOKEN", False, minimum=16),
        resayil_webhook_secret=reader.text("RESAYIL_WEBHOOK_SECRET", ""),
        admin_email=reader.text("ADMIN_EMAIL", ""),
        admin_password=reader.secret("ADMIN_PASSWORD", False, minimum=12 if production else 8),
        admin_phones=reader.phones("ADMIN_PHONES"),
        hook_token=reader.secret("HOOK_TOKEN", False, minimum=16),
        auth_log=reader.log_file("AUTH_LOG", instance, "logs/auth.log", must_work=production),
        queue_length=reader.number("QUEUE_LENGTH", 100, 0, 10_000),
        queue_seconds=reader.number("QUEUE_SECONDS", 120, 1, 3600),
        queue_limit=reader.number("QUEUE_LIMIT", 3, 0, 10_000),
        cloud_daily_limit=reader.number("CLOUD_DAILY_LIMIT", 500, 0, 10_000_000),
        signup_credits=reader.number("SIGNUP_CREDITS", 100, 0, 1_000_000),
        rate_limit_fail=reader.choice("RATE_LIMIT_FAIL", ("open", "closed"), "open"),
        trusted_proxies=reader.number("TRUSTED_PROXIES", 0, 0, 10),
        smtp_url=reader.url("SMTP_URL", "", ("smtp", "smtps")),
        mail_from=reader.mail_address("MAIL_FROM"),
        first_byte_seconds=reader.number("FIRST_BYTE_SECONDS", 300, 1, 3600),
        silence_seconds=reader.number("SILENCE_SECONDS", 120, 1, 3600),
        answer_seconds=reader.number("ANSWER_SECONDS", 1800, 10, 86_400),
        heartbeat_seconds=reader.number("HEARTBEAT_SECONDS", 10, 1, 300),
        max_request_bytes=reader.number("MAX_REQUEST_BYTES", 20_000_000, 10_000, 1_000_000_000),
        instance_dir=instance,
        environment=environ,
    )
    if problems:
        raise SettingsError(problems)
    return settings


def may_hold_a_provider_key(variable: str) -> bool:
    """A row that could name SECRET_KEY would send it to whatever address the row has."""
    named = re.fullmatch(r"[A-Z][A-Z0-9_]*_API_KEY", variable) is not None and len(variable) <= 60
    return named and not variable.startswith(("MYFATOORAH", "RESAYIL"))


def variable_names() -> tuple[str, ...]:
    """Every environment variable that `load_settings` reads."""
    own = tuple(f.name.upper() for f in fields(Settings) if f.name not in ("instance_dir", "environment"))
    return (*own, "PORTAL_INSTANCE_DIR")


class _Reader:
    """Reads single variables; collects what is wrong instead of stopping at it."""

    def __init__(self, environ: Mapping[str, str], problems: list[str]) -> None:
        self.environ, self.problems = environ, problems

    def text(self, name: str, default: str) -> str:
        return self.environ.get(name, "").strip() or default

    def wrong(self, name: str, why: str) -> None:
        self.problems.append(f"{name}: {why}")

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name, default)
        if value not in allowed:
            self.wrong(name, f"is {value!r}; it must be one of {', '.join(allowed)}")
        return value

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self.text(name, str(default))
        if not re.fullmatch(r"-?[0-9]+", value) or not low <= int(value) <= high:
            self.wrong(name, f"is {value!r}; it must be a whole number from {low} to {high}")
            return default
        return int(value)

    def url(self, name: str, default: str, schemes: tuple[str, ...]) -> str:
        value = self.text(name, default).rstrip("/")
        if not value:
            if "smtp" not in schemes:
                self.wrong(name, "is missing")
            return value
        return self._checked_url(name, value, schemes)

    def urls(self, name: str, default: str) -> tuple[str, ...]:
        parts = [p.strip().rstrip("/") for p in self.text(name, default).split(",") if p.strip()]
        return tuple(self._checked_url(name, p, ("http", "https")) for p in parts)

    def _checked_url(self, name: str, value: str, schemes: tuple[str, ...]) -> str:
        try:
            parts = urlsplit(value)
            ok = parts.scheme in schemes and bool(parts.netloc or parts.scheme == "unix")
            _ = parts.port
        except ValueError:
            ok = False
        if not ok:  # the value itself may carry a password: it is not repeated
            self.wrong(name, f"is no address of the kind {', '.join(s + '://' for s in schemes)}")
        return value

    def database(self, name: str, default: str) -> str:
        value = self.text(name, default)
        # SQLAlchemy reads mysql:// as mysqlclient, which blocks every greenlet of a worker: the drivers are named here.
        for short, full in (
            ("mysql://", "mysql+pymysql://"),
            ("postgres://", "postgresql+psycopg://"),
            ("postgresql://", "postgresql+psycopg://"),
        ):
            if value.startswith(short):
                value = full + value[len(short) :]
        if not value.startswith(("sqlite:///", "mysql+pymysql://", "mariadb+pymysql://", "postgresql+psycopg://")):
            self.wrong(name, "must begin with sqlite:///, mysql+pymysql:// or postgresql+psycopg://")
        return value

    def secret(self, name: str, required: bool, *, minimum: int, development: str = "") -> str:
        value = self.text(name, "" if required else development)
        if not value:
            if required:
                self.wrong(name, f"is missing; production needs one of at least {minimum} characters")
        elif value != development and (len(value) < minimum or value.lower() in WEAK_SECRETS):
            self.wrong(name, f"is too weak; it needs at least {minimum} characters")
        elif required and (value == "development-only-key-never-for-production" or len(set(value)) < 8):
            self.wrong(name, "is too weak; make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'")
        return value

    def log_file(self, name: str, folder: Path, default: str, *, must_work: bool) -> Path:
        """A file that we append to; relative to `folder`. must_work: one that was asked for and can't be is wrong.

        A portal that went on without it would look guarded and be open: fail2ban would read an old file for ever.
        """
        path = folder / self.text(name, default)
        if must_work and self.text(name, ""):
            if path.is_dir():
                self.wrong(name, f"{path} is a folder; name a file in it")
            elif not path.parent.is_dir():
                self.wrong(name, f"{path} can't be written: there is no folder {path.parent}")
            elif not os.access(path if path.exists() else path.parent, os.W_OK):
                self.wrong(name, f"{path} can't be written by this user; deploy/fail2ban/README.md says how it can")
        return path

    def mail_address(self, name: str) -> str:
        """A bare address, or nothing. With a name before it every e-mail died at its first try, for good."""
        value = self.text(name, "")
        if value and not re.fullmatch(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+", value):
            self.wrong(name, f"{value!r} is no bare address such as no-reply@example.com")
        return value

    def phones(self, name: str) -> tuple[str, ...]:
        values = tuple(p.strip() for p in self.text(name, "").split(",") if p.strip())
        for value in values:
            if not re.fullmatch(r"\+[1-9][0-9]{7,14}", value):
                self.wrong(name, f"{value!r} is no international number such as +96550001234")
        return values


def _env_file(problems: list[str]) -> dict[str, str]:
    named = os.environ.get("PORTAL_ENV_FILE", "").strip()
    path = Path(named).expanduser() if named else ROOT / ".env"
    if not path.is_file():
        if named:
            problems.append(f"PORTAL_ENV_FILE: there is no file {named}")
        return {}
    values = {k: v for k, v in dotenv_values(path).items() if v is not None}
    environment = os.environ.get("PORTAL_ENV") or values.get("PORTAL_ENV")
    if environment == "production" and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        problems.append(f"{path}: others can read it, and it holds secrets; run: chmod 600 {path}")
    return values

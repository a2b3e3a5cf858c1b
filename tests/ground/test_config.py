"""Settings: a process with a wrong one does not start, and names every wrong one at once (OPS-03)."""

import os
from pathlib import Path

import pytest

from portal.config import ROOT, SettingsError, load_settings, variable_names

SECRET = "Zq8v-1mX4_tP7wL2rN9kC5bH3yD6fG0s"
PRODUCTION = {"PORTAL_ENV": "production", "SECRET_KEY": SECRET, "BASE_URL": "https://ai.example.com"}


def problems(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    for problem in caught.value.problems:
        assert problem in str(caught.value)
    return caught.value.problems


def named(environ: dict[str, str]) -> set[str]:
    return {problem.split(":")[0] for problem in problems(environ)}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The process environment without any variable of ours."""
    for name in (*variable_names(), "PORTAL_ENV_FILE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_nothing_set_is_a_working_development_portal() -> None:
    """OPS-01: `make run` needs no environment at all."""
    settings = load_settings({})
    assert not settings.production
    assert settings.database_url == f"sqlite:///{ROOT / 'instance' / 'portal.db'}"
    assert settings.redis_url == f"unix://{ROOT / 'instance' / 'redis' / 's.sock'}?db=0"
    assert settings.ollama_url == ("http://127.0.0.1:11434",)
    assert (settings.signup_credits, settings.queue_limit, settings.cloud_daily_limit) == (100, 3, 500)
    assert settings.rate_limit_fail == "open"


WRONG = {
    "PORTAL_ENV": "staging", "BASE_URL": "ftp://x", "DATABASE_URL": "oracle://x", "REDIS_URL": "http://x",
    "OLLAMA_URL": "127.0.0.1:11434", "OLLAMA_SLOTS": "0", "OLLAMA_CLOUD_URL": "nowhere", "QUEUE_LIMIT": "-1",
    "CLOUD_DAILY_LIMIT": "many", "SIGNUP_CREDITS": "1.5", "RATE_LIMIT_FAIL": "maybe", "TRUSTED_PROXIES": "99",
    "ADMIN_PHONES": "96550001234", "ADMIN_PASSWORD": "short", "HOOK_TOKEN": "short", "SECRET_KEY": "secret",
    "SMTP_URL": "http://mail", "HEARTBEAT_SECONDS": "0", "FIRST_BYTE_SECONDS": "x", "SILENCE_SECONDS": "",
    "ANSWER_SECONDS": "1", "MAX_REQUEST_BYTES": "1", "MYFATOORAH_BASE_URL": "x", "RESAYIL_API_URL": "x",
}  # fmt: skip


def test_every_wrong_setting_is_named_at_once() -> None:
    """OPS-03: not the first one, all of them; an operator fixes them in one go."""
    assert named(WRONG) == set(WRONG) - {"SILENCE_SECONDS"}  # empty is as good as absent


@pytest.mark.parametrize("name", sorted(set(WRONG) - {"SILENCE_SECONDS"}))
def test_a_wrong_setting_alone_stops_the_start(name: str) -> None:
    """OPS-03."""
    assert named({name: WRONG[name]}) == {name}


@pytest.mark.parametrize(
    "value", ["http://user:canary@[::1", "http://user:canary@host:port", "gopher://user:canary@host", "canary"]
)
def test_an_address_that_may_hold_a_password_is_not_repeated(value: str) -> None:
    """OPS-03, never-again, "Secrets … in logs"."""
    for name in ("REDIS_URL", "OLLAMA_URL", "DATABASE_URL"):
        assert "canary" not in "".join(problems({name: value}))


def test_a_secret_is_not_repeated_either() -> None:
    """OPS-03."""
    told = "".join(problems({**PRODUCTION, "SECRET_KEY": "canary", "ADMIN_PASSWORD": "canary", "HOOK_TOKEN": "canary"}))
    assert "canary" not in told


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY"), ({"SECRET_KEY": "changeme"}, "SECRET_KEY"),
        ({"SECRET_KEY": "x" * 31}, "SECRET_KEY"), ({"SECRET_KEY": "a" * 64}, "SECRET_KEY"),
        ({"SECRET_KEY": "development-only-key-never-for-production"}, "SECRET_KEY"),
        ({"BASE_URL": ""}, "BASE_URL"), ({"BASE_URL": "http://ai.example.com"}, "BASE_URL"),
        ({"ADMIN_PASSWORD": "only-eleven"}, "ADMIN_PASSWORD"), ({"HOOK_TOKEN": "x" * 15}, "HOOK_TOKEN"),
    ],
)  # fmt: skip
def test_production_refuses_what_is_weak_or_missing(change: dict[str, str], name: str) -> None:
    """OPS-03: production refuses to start on a missing or weak secret and says which."""
    assert load_settings(PRODUCTION).production
    assert named({**PRODUCTION, **change}) == {name}


@pytest.mark.parametrize(
    ("written", "meant"),
    [("mysql://u@h/d", "mysql+pymysql://u@h/d"), ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
     ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"), ("mariadb+pymysql://u@h/d", "mariadb+pymysql://u@h/d")],
)  # fmt: skip
def test_a_database_is_reached_by_the_driver_that_yields(written: str, meant: str) -> None:
    """OPS-01: mysqlclient would block every greenlet of a worker."""
    assert load_settings({"DATABASE_URL": written}).database_url == meant


def test_several_servers_are_parted_by_commas() -> None:
    """Contract: OLLAMA_URL."""
    assert load_settings({"OLLAMA_URL": " http://a:1/ , https://b/x ,"}).ollama_url == ("http://a:1", "https://b/x")


def test_blanks_around_a_value_are_not_part_of_it() -> None:
    """OPS-03: a copied key often ends with a line end."""
    assert load_settings({"MYFATOORAH_API_KEY": " key\n"}).myfatoorah_api_key == "key"


def test_settings_cannot_be_changed_after_the_start() -> None:
    """design, "one frozen dataclass"."""
    with pytest.raises(AttributeError):
        load_settings({}).queue_limit = 5  # type: ignore[misc]


def test_the_env_file_is_read_and_the_environment_wins(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Contract: the process environment, then the file that PORTAL_ENV_FILE names."""
    file = tmp_path / "portal.env"
    file.write_text('QUEUE_LIMIT=7\nSIGNUP_CREDITS="8"\n# a comment\nexport CLOUD_DAILY_LIMIT=9\n')
    clean.setenv("PORTAL_ENV_FILE", str(file))
    clean.setenv("SIGNUP_CREDITS", "80")
    settings = load_settings()
    assert (settings.queue_limit, settings.signup_credits, settings.cloud_daily_limit) == (7, 80, 9)
    assert "QUEUE_LIMIT" not in os.environ, "reading a file must not change the process's environment"


def test_an_env_file_in_the_home_folder_is_found(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Contract: such as the `~/.env` of a cPanel account."""
    (tmp_path / ".env").write_text("QUEUE_LIMIT=7\n")
    clean.setenv("HOME", str(tmp_path))
    clean.setenv("PORTAL_ENV_FILE", "~/.env")
    assert load_settings().queue_limit == 7


def test_an_env_file_that_is_named_must_be_there(clean: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """OPS-03: a typing error in its name must not start a portal with other settings."""
    clean.setenv("PORTAL_ENV_FILE", str(tmp_path / "gone.env"))
    with pytest.raises(SettingsError, match="PORTAL_ENV_FILE"):
        load_settings()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_an_env_file_others_can_read_is_refused_in_production(
    clean: pytest.MonkeyPatch, tmp_path: Path, mode: int
) -> None:
    """Contract, OPS-03: it holds every secret."""
    file = tmp_path / "portal.env"
    file.write_text("".join(f"{name}={value}\n" for name, value in PRODUCTION.items()))
    clean.setenv("PORTAL_ENV_FILE", str(file))
    file.chmod(mode)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_settings()
    file.chmod(0o600)
    assert load_settings().production
    file.write_text("QUEUE_LIMIT=7\n")
    file.chmod(mode)
    assert load_settings().queue_limit == 7  # development does not mind


def test_the_example_has_every_variable_of_the_contract() -> None:
    """Contract: `.env.example` has each with a working value."""
    example = ROOT / ".env.example"
    told = example.read_text()
    missing = [name for name in variable_names() if name not in told]
    assert missing == []

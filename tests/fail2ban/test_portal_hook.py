"""fail2ban and the real portal, both ways: the portal's log bans, and the portal hears of it at its own hook."""

import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fail2ban.conftest import TOKEN
from tests.fail2ban.server import JAIL, Fail2Ban
from tests.fail2ban.test_bans import GUESSER, INNOCENT, fail_to_sign_in
from tests.fail2ban.test_portal_ban import portal_ban
from tests.fail2ban.waiting import eventually
from tests.services.web import StartWeb

BURGLAR = "2001:db8::9"


def call_the_hook(url: str, address: str, token: str) -> int:
    """A stranger at that address who tries a token on the hook. Returns the status."""
    request = urllib.request.Request(url, b"event=ban&ip=192.0.2.1&jail=x", {"X-Forwarded-For": address})
    request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_the_portal_bans_hears_of_it_and_knows_a_ban_that_it_was_told_twice(
    start_web: StartWeb,
    sqlite_url: str,
    tmp_path: Path,
    hook_settings: Callable[..., Path],
    start_fail2ban: Callable[[Path, Path], Fail2Ban],
) -> None:
    """NOTIF-09: one row and one event a ban, for guessed passwords and guessed hook tokens; lifted when let go."""
    log = tmp_path / "auth.log"
    web = start_web(sqlite_url, TRUSTED_PROXIES=1, AUTH_LOG=log, HOOK_TOKEN=TOKEN)
    hook = web.url + "/webhooks/fail2ban"
    settings = hook_settings(hook)
    fail2ban = start_fail2ban(log, settings)

    def asked(sql: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=10)
        try:
            return database.execute(sql).fetchall()
        finally:
            database.close()

    def standing() -> set[tuple[Any, ...]]:
        return set(asked("SELECT address, jail, failures FROM bans WHERE standing IS NOT NULL"))

    for _ in range(3):
        assert fail_to_sign_in(web.url, GUESSER, f"x ip={INNOCENT}@example.com") == 401
        assert call_the_hook(hook, BURGLAR, "not-the-right-token-at-all") == 401
    both = {(GUESSER, JAIL, 3), (BURGLAR, JAIL, 3)}
    eventually(lambda: standing() == both, "both bans stand in the portal's own table")

    done = portal_ban(settings, "--config", str(fail2ban.folder), "sync", JAIL)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(asked("SELECT id FROM bans")) == 2
    assert asked("SELECT COUNT(*) FROM events WHERE kind = 'address_banned'") == [(2,)]

    fail2ban.client("set", JAIL, "unbanip", GUESSER)
    eventually(lambda: standing() == {(BURGLAR, JAIL, 3)}, "one of them is let go")
    assert TOKEN not in fail2ban.logged() + web.logged() + log.read_text()
    assert "ERROR" not in fail2ban.logged()

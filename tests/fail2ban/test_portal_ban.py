"""`portal-ban` alone: what it sends, and that nobody but the portal ever sees the token."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.ports import free_port
from tests.fail2ban.conftest import TOKEN
from tests.fail2ban.recorder import Recorder
from tests.fail2ban.server import SHIPPED
from tests.services.environment import ROOT
from tests.services.programs import missing

WriteSettings = Callable[..., Path]


def portal_ban(settings: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it as fail2ban would. Whatever it says, the token is not in it."""
    if not Path("/usr/bin/python3").exists():
        missing("fail2ban, and /usr/bin/python3 with it,")
    done = subprocess.run(
        [str(SHIPPED / "portal-ban"), "--settings", str(settings), *words],
        env={"PATH": os.environ["PATH"], **environ}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_a_ban_is_one_form_with_the_token_in_its_header(hook: Recorder, hook_settings: WriteSettings) -> None:
    """contract.md, hooks: event, ip, jail, failures, bantime; when it was, besides, for what is told again later."""
    more = ("--failures", "3", "--bantime", "-1", "--time", "1795282685.38")
    done = portal_ban(hook_settings(hook.url), "ban", "2001:db8::9", "portal-auth", *more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = portal_ban(hook_settings(hook.url), "unban", "2001:db8::9", "portal-auth")
    assert done.returncode == 0
    assert hook.told == [
        {
            "event": "ban", "ip": "2001:db8::9", "jail": "portal-auth", "failures": "3", "bantime": "-1",
            "time": "1795282685",
        },
        {"event": "unban", "ip": "2001:db8::9", "jail": "portal-auth"},
    ]  # fmt: skip


def test_values_are_text_whatever_is_in_them(hook: Recorder, hook_settings: WriteSettings) -> None:
    """Issue C, part 7: nothing in a value makes another field, another command or another line."""
    hostile = "x&event=unban&ip=198.51.100.1 $(id) `id` \"'\n%26 ياء"
    assert portal_ban(hook_settings(hook.url), "ban", "203.0.113.9", hostile, LC_ALL="C.UTF-8").returncode == 0
    assert hook.told == [{"event": "ban", "ip": "203.0.113.9", "jail": hostile}]


@pytest.mark.parametrize("status", [401, 422, 500, 503, 307, 302])
def test_a_portal_that_does_not_take_it_is_a_failure_with_one_line(
    hook: Recorder, hook_settings: WriteSettings, status: int
) -> None:
    """Issue C, part 7: exit code 1 and why; the token goes nowhere else, whatever the answer says."""
    elsewhere = Recorder(TOKEN)
    hook.status, hook.location = status, elsewhere.url if status < 400 else ""
    done = portal_ban(hook_settings(hook.url), "ban", "203.0.113.9", "portal-auth")
    elsewhere.close()
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(status) in done.stderr
    assert (hook.told, elsewhere.told, elsewhere.refused) == ([], [], [])


def test_a_wrong_token_is_told_without_it(hook: Recorder, hook_settings: WriteSettings) -> None:
    """Issue C, part 7."""
    done = portal_ban(hook_settings(hook.url, token="another-canary-token-123"), "ban", "203.0.113.9", "portal-auth")
    assert done.returncode == 1
    assert "HOOK_TOKEN in" in done.stderr
    assert "another-canary" not in done.stderr


def test_a_portal_that_is_away_is_a_failure_at_once(hook_settings: WriteSettings) -> None:
    """Issue C, part 7: fail2ban waits for its actions."""
    settings = hook_settings(f"http://127.0.0.1:{free_port()}/webhooks/fail2ban")
    done = portal_ban(settings, "ban", "203.0.113.9", "portal-auth")
    assert done.returncode == 1
    assert "can't be reached" in done.stderr


def test_no_proxy_of_the_environment_sees_the_token(hook: Recorder, hook_settings: WriteSettings) -> None:
    """Issue C, part 7: a proxy would read the header."""
    proxy = f"http://127.0.0.1:{free_port()}"
    done = portal_ban(hook_settings(hook.url), "ban", "203.0.113.9", "x", http_proxy=proxy, HTTP_PROXY=proxy)
    assert done.returncode == 0
    assert len(hook.told) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_read_is_refused(hook: Recorder, hook_settings: WriteSettings, mode: int) -> None:
    """Issue C, part 7: the secret is in a file that only root reads."""
    settings = hook_settings(hook.url)
    settings.chmod(mode)
    done = portal_ban(settings, "ban", "203.0.113.9", "portal-auth")
    assert done.returncode == 1
    assert "chmod 600" in done.stderr
    assert (hook.told, hook.refused) == ([], [])


@pytest.mark.parametrize(
    "text",
    [
        "", "HOOK_TOKEN=\nHOOK_URL=http://127.0.0.1:1/x\n", f"HOOK_TOKEN={TOKEN}\n", f"HOOK_TOKEN={TOKEN}\nHOOK_URL=x",
        f"HOOK_TOKEN={TOKEN}\nHOOK_URL=file:///etc/passwd", f"HOOK_TOKEN={TOKEN}\nHOOK_URL=http://a:b@127.0.0.1:1/",
        f"HOOK_TOKEN={TOKEN} b\nHOOK_URL=http://127.0.0.1:1/", f"HOOK_TOKEN=توكن{TOKEN}\nBASE_URL=http://127.0.0.1:1",
    ],
)  # fmt: skip
def test_settings_that_are_wrong_are_named(tmp_path: Path, text: str) -> None:
    """Issue C, part 7: in one line, and never with the token in it."""
    settings = tmp_path / "wrong.conf"
    settings.touch(0o600)
    settings.write_text(text)
    done = portal_ban(settings, "ban", "203.0.113.9", "portal-auth")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(settings) in done.stderr


def test_lines_of_the_portals_own_settings_will_do(hook: Recorder, tmp_path: Path) -> None:
    """deploy/fail2ban/README.md: `grep` them out of .env, BASE_URL and quotes and all."""
    settings = tmp_path / "portal-hook.conf"
    settings.touch(0o600)
    settings.write_text(f'HOOK_TOKEN="{TOKEN}"\nBASE_URL={hook.url.removesuffix("/webhooks/fail2ban")}/\n')
    assert portal_ban(settings, "ban", "203.0.113.9", "portal-auth").returncode == 0
    assert len(hook.told) == 1


def test_a_missing_file_and_a_fail2ban_that_does_not_run_are_told(
    hook: Recorder, hook_settings: WriteSettings, tmp_path: Path
) -> None:
    """Issue C, part 7: cron's mail says what is wrong."""
    done = portal_ban(tmp_path / "none.conf", "ban", "203.0.113.9", "portal-auth")
    assert (done.returncode, str(tmp_path / "none.conf") in done.stderr) == (1, True)
    done = portal_ban(hook_settings(hook.url), "--config", str(tmp_path / "no-fail2ban"), "sync", "portal-auth")
    assert done.returncode == 1
    assert done.stderr.startswith("portal-ban: fail2ban-client")


def test_it_is_a_program_for_the_systems_own_python() -> None:
    """deploy/fail2ban/README.md: nothing to install, and nothing of ours imported by what root runs."""
    script = SHIPPED / "portal-ban"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/python3 -I\n")
    listed = subprocess.run(["git", "ls-files", "-s", "--", str(script)], cwd=ROOT, capture_output=True, text=True)
    assert listed.stdout.startswith("100755") or not listed.stdout, "git keeps it executable"

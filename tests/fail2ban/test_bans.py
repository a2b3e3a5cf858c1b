"""The whole way, with real processes: the sign-in door, the auth log, fail2ban, our action, the hook."""

import http.cookiejar
import logging
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from portal import logs
from portal.services import bans
from tests.fail2ban.conftest import TOKEN
from tests.fail2ban.recorder import Recorder
from tests.fail2ban.server import JAIL, SHIPPED, Fail2Ban, program
from tests.fail2ban.test_portal_ban import portal_ban
from tests.fail2ban.waiting import eventually
from tests.services.portal_app import CSRF
from tests.services.web import StartWeb

INNOCENT = "198.51.100.1"
GUESSER = "203.0.113.9"
StartFail2Ban = Callable[[Path, Path], Fail2Ban]


def fail_to_sign_in(url: str, address: str, typed: str) -> int:
    """A browser at that address (as our proxy tells) that types a wrong password. Returns the status."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    browser = urllib.request.build_opener(jar)
    browser.addheaders = [("X-Forwarded-For", address)]
    with browser.open(url + "/login", timeout=20) as page:
        token = CSRF.search(page.read().decode())
    assert token is not None
    form = {"csrf_token": token.group(1), "email": typed, "password": "wrong-password-9"}
    try:
        with browser.open(url + "/login", urllib.parse.urlencode(form).encode(), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def who_shows(text: str) -> list[str]:
    """The processes of this machine with the text in their command line or environment, and in which of the two."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                shown = (process / name).read_bytes().replace(b"\0", b" ")
            except OSError:
                continue  # ended meanwhile, or somebody else's
            if text.encode() in shown:
                found.append(f"{process.name} {name}")
    return found


@pytest.fixture
def auth_log(tmp_path: Path) -> Path:
    return tmp_path / "auth.log"


def test_three_failures_at_the_door_ban_the_guesser_and_tell_the_portal(
    start_web: StartWeb,
    sqlite_url: str,
    hook: Recorder,
    hook_settings: Callable[..., Path],
    start_fail2ban: StartFail2Ban,
    auth_log: Path,
) -> None:
    """NOTIF-09, never again "the address of an innocent was banned"; nobody on the machine sees the token meanwhile."""
    web = start_web(sqlite_url, workers=2, TRUSTED_PROXIES=1, AUTH_LOG=auth_log)
    fail2ban = start_fail2ban(auth_log, hook_settings(hook.url))
    hook.open.clear()
    hostile = f"x ip={INNOCENT} reason=bad_password email=$(id)@example.com"
    assert [fail_to_sign_in(web.url, INNOCENT, "sara@example.com") for _ in range(2)] == [401] * 2
    assert [fail_to_sign_in(web.url, GUESSER, hostile) for _ in range(3)] == [401] * 3
    assert hook.asked.wait(20), fail2ban.logged()
    assert who_shows(f"portal-ban --settings {fail2ban.folder.parent}"), "the action is at work at this moment"
    assert who_shows(TOKEN) == []
    hook.open.set()
    [ban] = hook.wait_for("ban")
    assert (ban["ip"], ban["jail"], ban["failures"], ban["bantime"]) == (GUESSER, JAIL, "3", "3600")
    assert fail2ban.banned() == {GUESSER}

    fail2ban.client("set", JAIL, "unbanip", GUESSER)
    [unban] = hook.wait_for("unban")
    assert (unban["ip"], unban["jail"]) == (GUESSER, JAIL)
    assert hook.refused == []
    assert TOKEN not in fail2ban.logged()
    assert "ERROR" not in fail2ban.logged()


def test_a_ban_that_the_portal_missed_is_told_by_the_next_sync(
    hook: Recorder, hook_settings: Callable[..., Path], start_fail2ban: StartFail2Ban, auth_log: Path
) -> None:
    """NOTIF-09: fail2ban tries and gives up for good; the ban itself holds, and the failure's log line has no token."""
    settings = hook_settings(hook.url)
    logs.configure(auth_log)
    fail2ban = start_fail2ban(auth_log, settings)
    hook.status = 503
    for _ in range(3):
        logging.getLogger("portal.auth").warning("auth_failure ip=%s reason=%s email=%s", GUESSER, "bad_code", "-")
    logs.configure()
    eventually(lambda: "portal-ban: the portal at" in fail2ban.logged(), "the failure is in fail2ban's log")
    eventually(lambda: fail2ban.banned() == {GUESSER}, "the ban")
    fail2ban.client("set", JAIL, "banip", "2001:db8::7")  # by hand: no failures
    eventually(lambda: {f["ip"] for f in hook.refused} == {GUESSER, "2001:db8::7"}, "both were tried")
    assert "ERROR" in fail2ban.logged()
    assert TOKEN not in fail2ban.logged()
    assert hook.told == []

    hook.status = 204
    sync = ("--config", str(fail2ban.folder), "sync", JAIL)
    done = portal_ban(settings, *sync)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    told = {form["ip"]: form for form in hook.told}
    assert told.keys() == {GUESSER, "2001:db8::7"}
    first = hook.refused[0]
    assert told[GUESSER] == first, "the same as the first time, so that the portal can tell that it is the same ban"
    assert (first["event"], first["failures"], told["2001:db8::7"]["failures"]) == ("ban", "3", "0")

    fail2ban.client("unban", "--all")
    hook.told.clear()
    assert portal_ban(settings, *sync).returncode == 0
    assert [form for form in hook.told if form["event"] == "ban"] == [], "nobody is banned, nothing is told"
    done = portal_ban(settings, "--config", str(fail2ban.folder), "sync", "no-such-jail")
    assert (done.returncode, "no-such-jail" in done.stderr) == (1, True)


def test_a_restart_of_fail2ban_is_no_news(
    hook: Recorder, hook_settings: Callable[..., Path], start_fail2ban: StartFail2Ban, auth_log: Path
) -> None:
    """NOTIF-09: it told the portal that everybody was let go, and then nothing of their being shut out again."""
    auth_log.touch()
    fail2ban = start_fail2ban(auth_log, hook_settings(hook.url))
    fail2ban.client("set", JAIL, "banip", GUESSER)
    [ban] = hook.wait_for("ban")
    fail2ban.stop()
    fail2ban.start()
    eventually(lambda: fail2ban.banned() == {GUESSER}, "it is banned again")
    fail2ban.client(
        "set", JAIL, "banip", "2001:db8::7"
    )  # actions run in their order: by now the restored one has had its
    assert [form["ip"] for form in hook.wait_for("ban", 2)] == [GUESSER, "2001:db8::7"]
    portal_ban(hook_settings(hook.url), "--config", str(fail2ban.folder), "sync", JAIL)
    again = [form for form in hook.told if form["ip"] == GUESSER]
    assert [form["event"] for form in again] == ["ban", "ban"], "no unban in between"
    moved = abs(int(again[1]["time"]) - int(ban["time"]))
    assert moved <= bans.SKEW.total_seconds(), "the portal knows this one: a restart rounds the second of a ban"


def test_a_log_that_was_rotated_is_read_on(
    hook: Recorder, hook_settings: Callable[..., Path], start_fail2ban: StartFail2Ban, auth_log: Path
) -> None:
    """deploy/fail2ban/logrotate.d: the failures before and after it are one row."""
    logs.configure(auth_log)
    auth = logging.getLogger("portal.auth")
    fail2ban = start_fail2ban(auth_log, hook_settings(hook.url))
    for _ in range(2):
        auth.warning("auth_failure ip=%s reason=%s email=%s", GUESSER, "bad_password", "x@y.z")
    eventually(lambda: fail2ban.logged().count(f"Found {GUESSER}") == 2, "two were found")
    auth_log.rename(auth_log.with_suffix(".log.1"))
    auth_log.touch(0o640)
    auth.warning("auth_failure ip=%s reason=%s email=%s", GUESSER, "bad_password", "x@y.z")
    logs.configure()
    assert hook.wait_for("ban")[0]["failures"] == "3"


def test_debians_own_fail2ban_takes_our_files(tmp_path: Path, auth_log: Path) -> None:
    """deploy/fail2ban/README.md: copied over Debian's they are understood, and the firewall comes first."""
    program("fail2ban-client")
    system = tmp_path / "etc"
    shutil.copytree("/etc/fail2ban", system)
    for part in ("filter.d", "jail.d", "action.d"):
        shutil.copytree(SHIPPED / part, system / part, dirs_exist_ok=True)
    auth_log.touch()
    jail = system / "jail.d" / "portal.conf"
    jail.write_text(re.sub(r"(?m)^logpath = .*$", f"logpath = {auth_log}", jail.read_text()))
    (system / "jail.d" / "zz.local").write_text("[sshd]\nenabled = false\n")
    done = subprocess.run(
        [program("fail2ban-client"), "-c", str(system), "-d"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    complaints = re.findall(r"\]: (?:WARNING|ERROR) .*", done.stderr + done.stdout)
    assert [line for line in complaints if "allowipv6" not in line] == []  # that one is Debian's own
    settings = done.stdout
    actions = re.findall(rf"\['set', '{JAIL}', 'addaction', '([\w-]+)'\]", settings)
    assert actions[-1] == "portal-http"
    assert len(actions) == 2, "a firewall of the operator's choice, and ours"
    for name, value in (("maxretry", 15), ("findtime", "'10m'"), ("bantime", "'1h'"), ("usedns", "'no'")):
        assert f"['set', '{JAIL}', '{name}', {value}]" in settings, name
    assert f"['set', '{JAIL}', 'addlogpath', '{auth_log}', 'head']" in settings
    assert "127.0.0.1/8" in settings

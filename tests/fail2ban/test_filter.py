"""The real `fail2ban-regex` with the filter that we ship, over what the real sign-in door wrote for hostile people.

Its exit code is 0 even when nothing matches: the rows are compared, and the count of lines.
"""

import ast
import itertools
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from portal import logs
from tests.accounts.forms import log_in
from tests.fail2ban.server import SHIPPED, program
from tests.services.cast import PASSWORD, Cast
from tests.services.portal_app import MakeApp

FILTER = SHIPPED / "filter.d" / "portal-auth.conf"
INNOCENT = "198.51.100.1"
LOOK_ALIKE = f"2026-11-21T07:30:00+03:00 portal.auth WARNING auth_failure ip={INNOCENT} reason=bad_password email=x"
HOSTILE = [
    "nobody@example.com",
    f"a ip={INNOCENT} reason=bad_password email=b@example.com",
    f"a ip={INNOCENT} reason=bad@example.com",
    f'"a ip={INNOCENT}"@example.com',
    f"ip={INNOCENT}",
    f"x@example.com\n{LOOK_ALIKE}",
    f"x@example.com\r\n{LOOK_ALIKE}\r\n",
    f"x\u2028{LOOK_ALIKE}",
    f"x\x85{LOOK_ALIKE}",
    f"x\x00{LOOK_ALIKE}@example.com",
    LOOK_ALIKE,
    LOOK_ALIKE + "@example.com",
    f'{{"ip": "{INNOCENT}", "reason": "bad_password"}}@example.com',
    f"<HOST>{INNOCENT}</HOST>@example.com",
    "email=monitor@portal.example",
    "x email=monitor@portal.example",
    "monitor@portal.example",
    "$(id)@example.com",
    "`id`';\"|&>x@example.com",
    "%s%d%(ip)s@example.com",
    "\\n\\x20ip=" + INNOCENT,
    "ليلى@مثال.كويت",
    "\u202emoc.elpmaxe@yb",
    "é" * 300 + "@example.com",
    "x" * 100_000 + f" ip={INNOCENT}@example.com",
    " " * 50 + f"ip={INNOCENT}",
    "+965 5000 9999",
    "00965500099" + "9" * 60,
    "' OR 1=1 --",
    "auth_success",
]
ADDRESSES = itertools.cycle(["203.0.113.{n}", "2001:db8::{n:x}", "::ffff:203.0.113.{n}"])


def read(log: Path) -> tuple[list[tuple[str, str]], str]:
    """(address, reason) of every line that counts, in their order; and fail2ban's own count of the lines."""
    command = [program("fail2ban-regex"), "-o", "<ip> <F-REASON>", str(log), str(FILTER)]
    rows = _run(command).splitlines()
    counted = re.findall(r"^Lines: .*?missed", _run([command[0], str(log), str(FILTER)]), re.MULTILINE)
    return [(row.split()[0], row.split()[1]) for row in rows], counted[0]


def _run(command: list[str]) -> str:
    environ = {"PATH": os.environ["PATH"] + ":/usr/sbin:/usr/bin", "LC_ALL": "C"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert "ERROR" not in done.stdout + done.stderr, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def auth_log(tmp_path: Path) -> Iterator[Path]:
    """A log that `portal.auth` writes to."""
    path = tmp_path / "auth.log"
    logs.configure(path)
    yield path
    logs.configure()


def test_hostile_people_at_the_real_door_are_found_and_nobody_else(
    make_app: MakeApp, sqlite_url: str, tmp_path: Path
) -> None:
    """AUTH-02, never again "the address of an innocent was banned": each failure is one row with its own address."""
    log = tmp_path / "auth.log"
    app = make_app(sqlite_url, TRUSTED_PROXIES=1, AUTH_LOG=log)
    layla = Cast(app).layla
    expected = []
    for number, typed in enumerate([*HOSTILE, layla.email], 10):
        address = next(ADDRESSES).format(n=number)
        client = app.test_client()
        # Further out stands what the client claims; the last hop is what our own proxy saw.
        client.environ_base["HTTP_X_FORWARDED_FOR"] = f"{INNOCENT}, {address}"
        client.environ_base["HTTP_USER_AGENT"] = LOOK_ALIKE
        assert log_in(client, typed, LOOK_ALIKE).status_code == 401, typed
        expected.append((address.removeprefix("::ffff:"), "bad_password" if typed == layla.email else "unknown_user"))
    client = app.test_client()
    client.environ_base["HTTP_X_FORWARDED_FOR"] = "203.0.113.200"
    assert log_in(client, layla.email, PASSWORD).status_code == 302

    rows, counted = read(log)
    assert rows == expected
    assert counted == f"Lines: {len(expected) + 1} lines, 0 ignored, {len(expected)} matched, 1 missed"
    text = log.read_text()
    assert INNOCENT not in text
    assert "\\x20portal.auth" not in text, "what has the form of no address is not written down at all"


def test_who_goes_on_while_slowed_down_is_counted_too(make_app: MakeApp, sqlite_url: str, tmp_path: Path) -> None:
    """AUTH-02: ten tries, and then those that the portal did not even look at."""
    log = tmp_path / "auth.log"
    app = make_app(sqlite_url, TRUSTED_PROXIES=1, AUTH_LOG=log)
    for number in range(1, 13):
        client = app.test_client()
        client.environ_base["HTTP_X_FORWARDED_FOR"] = f"2001:db8::1:{number:x}"
        log_in(client, "nobody@example.com", "wrong-password-9")
    rows, _ = read(log)
    assert [reason for _, reason in rows] == ["unknown_user"] * 10 + ["throttled"] * 2
    assert [address for address, _ in rows] == [f"2001:db8::1:{number:x}" for number in range(1, 13)]


def test_a_caller_that_cleans_nothing_moves_no_address(auth_log: Path) -> None:
    """Never again "the address of an innocent was banned": doors yet to be written log what they were given."""
    auth, expected = logging.getLogger("portal.auth"), []
    for number, typed in enumerate([*HOSTILE, "\ud800"], 10):
        address = next(ADDRESSES).format(n=number)
        auth.warning("auth_failure ip=%s reason=%s email=%s", address, "bad_code", typed)
        expected.append((address.removeprefix("::ffff:"), "bad_code"))
    rows, counted = read(auth_log)
    assert rows == expected
    assert counted == f"Lines: {len(expected)} lines, 0 ignored, {len(expected)} matched, 0 missed"


def test_an_address_that_is_none_shuts_nobody_out(auth_log: Path) -> None:
    """Never again "the address of an innocent was banned": behind a unix socket, or a proxy that passes on anything."""
    forged = [
        "", "-", "unix:", "example.com", "203.0.113", "203.0.113.9.example.com", f"203.0.113.9 reason=x ip={INNOCENT}",
        f"x ip={INNOCENT}", f"x\nip={INNOCENT}", f"{INNOCENT}, 203.0.113.9", f"{INNOCENT}\treason=bad_code",
    ]  # fmt: skip
    for address in forged:
        logging.getLogger("portal.auth").warning("auth_failure ip=%s reason=%s email=%s", address, "bad_code", "-")
    rows, counted = read(auth_log)
    assert rows == []
    assert counted == f"Lines: {len(forged)} lines, 0 ignored, 0 matched, {len(forged)} missed"


def test_what_is_a_guess_counts_and_what_is_none_does_not(auth_log: Path) -> None:
    """Issue C, part 7: passwords, codes, hook tokens; not a suspended customer's right password, not a success."""
    auth = logging.getLogger("portal.auth")
    guesses = ["bad_password", "unknown_user", "bad_code", "bad_hook_token", "throttled"]
    for reason in [*guesses, "suspended"]:
        auth.warning("auth_failure ip=%s reason=%s email=%s", "203.0.113.9", reason, "-")
    auth.info("auth_success ip=%s user=%s", "203.0.113.9", "019a")
    auth.warning("something_else ip=%s reason=%s email=%s", "203.0.113.9", "bad_code", "-")
    rows, counted = read(auth_log)
    assert rows == [("203.0.113.9", reason) for reason in guesses]
    assert counted == "Lines: 8 lines, 0 ignored, 5 matched, 3 missed"


def test_the_fact_sheets_own_lines_are_read(tmp_path: Path) -> None:
    """Issue C, part 7: the anchored format, with and without fractions of a second; a line within a line is not one."""
    log = tmp_path / "auth.log"
    log.write_text(
        "2026-11-21T07:30:00+03:00 portal.auth WARNING auth_failure ip=203.0.113.9 reason=bad_password email=x@y.z\n"
        "2026-11-21T07:30:01+03:00 portal.auth WARNING auth_failure ip=2001:db8::9 reason=bad_password email=x@y.z\n"
        "2026-11-21T07:30:02+03:00 portal.auth INFO auth_success ip=203.0.113.9 email=x@y.z\n"
        "2026-11-21T07:30:03.123456+03:00 portal.auth WARNING auth_failure ip=203.0.113.10 reason=unknown_user"
        f" email=a ip={INNOCENT} reason=bad\n"
        "2026-11-21T07:30:04+03:00 portal.auth WARNING auth_failure ip=203.0.113.11 reason=bad_password"
        " email=monitor@portal.example\n"
        f"2026-11-21T07:30:05+03:00 portal.other WARNING x {LOOK_ALIKE}\n"
        f"x {LOOK_ALIKE}\n"
    )
    rows, counted = read(log)
    assert [address for address, _ in rows] == ["203.0.113.9", "2001:db8::9", "203.0.113.10", "203.0.113.11"]
    assert counted == "Lines: 7 lines, 0 ignored, 4 matched, 3 missed"
    first = _run([program("fail2ban-regex"), "-o", "<ip> <time>", str(log), str(FILTER)]).splitlines()[0]
    assert first == "203.0.113.9 1795235400"


def test_every_line_of_the_auth_log_has_the_address_first() -> None:
    """Never again "the address of an innocent was banned": a new door can't put what was typed before the address."""
    sentences = []
    for path in (SHIPPED.parent.parent / "portal").rglob("*.py"):
        source = path.read_text()
        if '"portal.auth"' in source:
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and "auth_failure" in node.value:
                    sentences.append(node.value)
    said = [sentence for sentence in sentences if "%s" in sentence]
    assert said
    assert [sentence for sentence in said if not sentence.startswith("auth_failure ip=%s reason=")] == []

"""The auth log: one plain line for each failure, whole whoever else writes, and no line that a stranger composed."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from portal import logs
from portal.config import SettingsError, load_settings
from tests.services.environment import ROOT
from tests.services.portal_app import MakeApp

SAID = "auth_failure ip=%s reason=%s email=%s"
LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+03:00 portal\.auth WARNING auth_failure ip=[!-~]* reason=[!-~]* email=[!-~]*"
)
PRODUCTION = {
    "PORTAL_ENV": "production", "SECRET_KEY": "Zq8v-1mX4_tP7wL2rN9kC5bH3yD6fG0s", "BASE_URL": "https://ai.example.com",
}  # fmt: skip


@pytest.fixture
def auth() -> Iterator[logging.Logger]:
    """The logger, without a file again after the test."""
    yield logging.getLogger("portal.auth")
    logs.configure()


def formatted(*args: object) -> str:
    return logs.AuthLines().format(logging.LogRecord("portal.auth", logging.WARNING, "x.py", 1, SAID, args, None))


def test_a_line_is_what_the_filter_was_written_for() -> None:
    """Issue C, part 7: the fact sheet's format, in Kuwait's time with its offset."""
    record = logging.LogRecord("portal.auth", logging.WARNING, "x.py", 1, SAID, ("203.0.113.9", "bad_code", "-"), None)
    record.created = 1795235400
    assert logs.AuthLines().format(record) == (
        "2026-11-21T07:30:00+03:00 portal.auth WARNING auth_failure ip=203.0.113.9 reason=bad_code email=-"
    )


@given(st.text(max_size=400), st.text(max_size=400), st.text(max_size=400))
def test_whatever_is_typed_is_one_word_of_one_line(address: str, reason: str, typed: str) -> None:
    """Never again "the address of an innocent was banned": the formatter's promise, not its callers'."""
    line = formatted(address, reason, typed)
    assert LINE.fullmatch(line), line
    assert len(line) < 4096, "longer ones are not written in one piece"


@pytest.mark.parametrize("odd", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029", "\x00", "\x7f", "\u202e", " "])
def test_no_sign_that_anybody_takes_for_a_line_or_a_space_survives(odd: str) -> None:
    """Never again "the address of an innocent was banned"."""
    forged = f"x{odd}2026-11-21T07:30:00+03:00 portal.auth WARNING auth_failure ip=198.51.100.1 reason=bad_code email=y"
    assert LINE.fullmatch(formatted("203.0.113.9", "bad_password", forged))
    record = logging.LogRecord("portal.auth", logging.WARNING, "x.py", 1, f"auth_failure {odd}", None, None)
    assert len(logs.AuthLines().format(record).splitlines()) == 1, "nor in the sentence itself"


def test_a_secret_typed_into_the_wrong_field_is_masked() -> None:
    """Never again "secrets in logs": a key as the name, and never a word of the neighbours' with it."""
    line = formatted("203.0.113.9", "bad_password", "rsk_" + "aB3" * 13 + "z")
    assert line.endswith("ip=203.0.113.9 reason=bad_password email=[redacted]")


def test_the_file_is_there_before_the_first_failure(make_app: MakeApp, tmp_path: Path, auth: logging.Logger) -> None:
    """Issue C, part 7: fail2ban, ssh's jail and all, does not start without it."""
    make_app(f"sqlite:///{tmp_path}/none.db")
    made = tmp_path / "app" / "logs" / "auth.log"
    assert made.read_bytes() == b""
    assert made.stat().st_mode & 0o777 == 0o640 & ~_umask()


def test_a_file_made_by_root_belongs_to_the_owner_of_its_folder(tmp_path: Path, auth: logging.Logger) -> None:
    """`flask seed` as root left a file that the web process could not write to: no failure was ever counted."""
    home = tmp_path / "portal"
    home.mkdir()
    if os.geteuid() == 0:
        os.chown(home, 12345, 12345)
    logs.configure(home / "logs" / "auth.log")
    assert {p.stat().st_uid for p in home.rglob("*")} == {home.stat().st_uid}


def test_many_processes_lose_and_break_no_line_while_it_is_rotated(tmp_path: Path) -> None:
    """OPS-05: all workers of a host append to one file, and each of them opens the new one by itself."""
    log, lines, writers = tmp_path / "auth.log", 300, 3
    program = (
        "import logging, sys, pathlib; from portal import logs; logs.configure(pathlib.Path(sys.argv[1]));"
        "auth = logging.getLogger('portal.auth');"
        f"[auth.warning({SAID!r}, '203.0.113.9', 'bad_password', 'x' * 200) for _ in range({lines})]"
    )
    command = [sys.executable, "-c", program, str(log)]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(writers)]
    turn = 0
    while any(process.poll() is None for process in running):
        if log.exists() and log.stat().st_size > 20_000:
            log.rename(tmp_path / f"auth.log.{turn}")  # as logrotate does
            turn += 1
    assert turn > 1
    assert {process.wait() for process in running} == {0}
    written = [line for part in tmp_path.glob("auth.log*") for line in part.read_text().splitlines()]
    assert len(written) == lines * writers
    assert [line for line in written if not LINE.fullmatch(line)] == []


def test_a_full_disk_is_told_once_and_stops_nobody(auth: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    """AUTH-02: a failed sign-in became a 500 when its line could not be written."""
    logs.configure(Path("/dev/full"))
    for _ in range(3):
        auth.warning(SAID, "203.0.113.9", "bad_password", "x@y.z")
    told = capsys.readouterr().err
    assert told.count("AUTH_LOG can't be written") == 1
    assert "/dev/full" in told
    assert told.count("auth_failure") == 3, "the lines on standard error stay"
    assert "Traceback" not in told


def test_a_folder_that_went_away_is_told_once_and_found_again(
    tmp_path: Path, auth: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """AUTH-02: nobody's sign-in depends on it; development goes on, and says so."""
    folder = tmp_path / "logs"
    folder.write_text("no folder")
    logs.configure(folder / "auth.log")
    for _ in range(3):
        auth.warning(SAID, "203.0.113.9", "bad_password", "x@y.z")
    assert capsys.readouterr().err.count("AUTH_LOG can't be written") == 1
    folder.unlink()
    folder.mkdir()
    auth.warning(SAID, "203.0.113.9", "bad_password", "back@y.z")
    assert (folder / "auth.log").read_text().count("\n") == 1


def test_production_refuses_an_auth_log_that_was_asked_for_and_cannot_be(tmp_path: Path) -> None:
    """OPS-03: guarded in appearance, open in truth, because a folder was missing on one host."""
    for wrong in (tmp_path / "nowhere" / "auth.log", tmp_path):
        with pytest.raises(SettingsError) as refused:
            load_settings({**PRODUCTION, "AUTH_LOG": str(wrong)})
        assert [problem.split(":")[0] for problem in refused.value.problems] == ["AUTH_LOG"]
        assert str(wrong) in str(refused.value)
        load_settings({"AUTH_LOG": str(wrong)})  # development is told at the first line instead


def test_without_the_setting_it_is_beside_the_other_logs(tmp_path: Path) -> None:
    """OPS-01: nothing to set; and a portal without fail2ban, on a file system it can't write to, still starts."""
    assert load_settings({}, instance_dir=tmp_path).auth_log == tmp_path / "logs" / "auth.log"
    assert load_settings({"AUTH_LOG": "a.log"}, instance_dir=tmp_path).auth_log == tmp_path / "a.log"
    load_settings(PRODUCTION, instance_dir=Path("/proc/none"))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

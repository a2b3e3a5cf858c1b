"""`make clients`: sets up what is missing, starts a portal, lets every suite loose on it, and adds up.

    python tests/clients/run.py             all suites
    python tests/clients/run.py node        those named

Exit code 1 when anything failed, could not be installed, or (with REQUIRE_SERVICES) was skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.clients.environments import NotInstalled
from tests.clients.stage import Stage, StageError
from tests.clients.suites import SUITES, Play, Suite
from tests.services.environment import KEPT
from tests.services.programs import services_are_required

LONGEST = 300
"""Seconds a suite may take; then it hangs."""


@dataclass
class Count:
    """What became of the tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def add(self, other: Count) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def main(arguments: Sequence[str]) -> int:
    """Run the suites named, or all. Returns the exit code."""
    known = {suite.name: suite for suite in SUITES}
    if unknown := [name for name in arguments if name not in known]:
        print(f"There is no suite {', '.join(unknown)}. There are: {', '.join(known)}", file=sys.stderr)
        return 2
    chosen = [known[name] for name in arguments] or list(SUITES)
    total = Count()
    with ThreadPoolExecutor(2) as installers:
        installs = {suite.name: installers.submit(suite.install) for suite in chosen}
        try:
            with (
                Stage(suite.name for suite in chosen) as stage,
                tempfile.TemporaryDirectory(prefix="portal-clients-") as scratch,
            ):
                for suite in chosen:
                    total.add(_suite(suite, stage, installs[suite.name], Path(scratch) / suite.name))
                total.add(_afterwards(stage))
        except StageError as error:
            print(f"The portal could not be started for these suites:\n{error}", file=sys.stderr)
            return 1
    print(f"\n{total}", flush=True)
    if services_are_required() and total.skipped:
        print("REQUIRE_SERVICES is set, and tests were skipped: that is a failure.")
        return 1
    return 1 if total.failed or not total.passed else 0


def _suite(suite: Suite, stage: Stage, install: Future[object], folder: Path) -> Count:
    began = time.monotonic()
    try:
        install.result()
        folder.mkdir()
        play = Play(stage.url, stage.keys[suite.name], folder, folder / "report.xml")
        command = suite.command(play)
    except NotInstalled as error:
        _title(suite.title)
        print(f"could not be installed:\n{error}")
        return Count(failed=1)
    _title(suite.title)
    environ = {name: os.environ[name] for name in KEPT if name in os.environ}
    environ |= {"PORTAL_URL": stage.url, "PORTAL_KEYS": json.dumps(play.keys), "SANDBOX_URL": stage.sandbox_url}
    environ["RECOVERY_URL"] = stage.recovery_url
    environ |= {"PYTHONDONTWRITEBYTECODE": "1"}
    try:
        code = subprocess.run(command, cwd=folder, env=environ, timeout=LONGEST, check=False).returncode
    except subprocess.TimeoutExpired:
        print(f"not done after {LONGEST} s")
        code = 1
    count = _read(play.report)
    if code and not count.failed:
        print(f"ended with exit code {code}")
        count.failed += 1
    print(f"{count} ({time.monotonic() - began:.0f} s)", flush=True)
    return count


def _read(report: Path) -> Count:
    """Add up a JUnit report. One that is missing or broken counts as nothing: the exit code tells why."""
    count = Count()
    try:
        cases = list(Xml.parse(report).iter("testcase"))
    except (OSError, Xml.ParseError):
        return count
    for case in cases:
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            count.failed += 1
        elif "skipped" in kinds:
            count.skipped += 1
        else:
            count.passed += 1
    return count


def _afterwards(stage: Stage) -> Count:
    """What must be true of the portal after so many strange requests."""
    _title("The portal, afterwards")
    checks: dict[str, Callable[[], object]] = {
        "the books are right": lambda: stage.flask("ledger-check"),
        "nothing is left on hold": stage.expect_nothing_open,
        "the log tells of no crash": stage.expect_no_crash,
    }
    count = Count()
    for claim, check in checks.items():
        try:
            check()
        except StageError as error:
            count.failed += 1
            print(f"FAILED: {claim}\n{error}")
        else:
            count.passed += 1
            print(claim)
    return count


def _title(text: str) -> None:
    print(f"\n== {text} {'=' * max(3, 90 - len(text))}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

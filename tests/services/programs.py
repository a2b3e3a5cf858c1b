"""Finds installed programs, and decides what a missing one means: a skipped test here, a failure in CI."""

import os
import shutil
from pathlib import Path

import pytest


def services_are_required() -> bool:
    """Whether a skipped suite is a failure (`.ci/run`)."""
    return os.environ.get("REQUIRE_SERVICES", "") not in ("", "0")


def find(*names: str, folders: str = "") -> str | None:
    """The first of the programs that is on the PATH, in /usr/sbin, or in a folder matching the pattern."""
    for name in names:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found:
            return found
        for folder in sorted(Path("/").glob(folders.lstrip("/")), reverse=True) if folders else []:
            if os.access(folder / name, os.X_OK):
                return str(folder / name)
    return None


def missing(what: str) -> None:
    """Skip the test, or fail it where services are required. Does not return."""
    reason = f"{what} is not installed (make services installs it)"
    if services_are_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)

"""A worker that stops kills its greenlets wherever they are; the till must neither hang nor lose what they brought."""

import subprocess
import sys
from pathlib import Path

from tests.services.environment import ROOT


def test_whoever_is_killed_the_others_go_on_and_no_credit_is_lost(database_url: str, tmp_path: Path) -> None:
    """CRD-01, never again (holds leaked when a worker died): leader, waiter and settlement killed at each place.

    A killed waiter that had become the leader left everybody behind it waiting for ever; a killed leader's open
    transaction was committed by the next one.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.ledger.killed_greenlets", database_url, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-4000:]}"

"""What of a child's log reaches the terminal."""

from pathlib import Path

from dev.log_watch import LogWatch


def _shown(folder: Path, *chunks: str) -> list[str]:
    log = folder / "log"
    log.touch()
    watch = LogWatch(log)
    shown = []
    for chunk in chunks:
        with log.open("a") as file:
            file.write(chunk)
        shown += watch.errors()
    return shown


def test_errors_are_shown_and_the_rest_is_not(tmp_path: Path) -> None:
    """contract.md, make run: quiet, but never about an error."""
    lines = (
        '{"level":"info","logger":"portal","event":"fine"}\n',
        '{"level":"error","logger":"portal.till","event":"lost","exception":"Traceback\\n  Boom"}\n',
        "worker: job done\n[ERROR] Worker failed\n",
    )
    assert _shown(tmp_path, *lines) == ["portal.till: lost\nTraceback\n  Boom", "[ERROR] Worker failed"]


def test_a_traceback_is_shown_whole_however_it_is_cut_into_reads(tmp_path: Path) -> None:
    """Half a traceback hides the one line that matters, the last."""
    text = 'Traceback (most recent call last):\n  File "x.py", line 1\n    boom\nValueError: boom\nback to work\n'
    assert _shown(tmp_path, text[:50], text[50:70], text[70:]) == text.splitlines()[:4]

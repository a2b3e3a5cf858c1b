"""The fonts of PDFs: those that the pages are built with, unpacked once a process.

Browsers get them packed (woff2); reading them packed for every receipt took longer than all the rest of it.
"""

import tempfile
import threading
from pathlib import Path
from typing import Final

SUBSETS: Final = {"arabic": "arabic", "latin": "latin", "more": "latin-ext"}
"""By the name that a PDF knows it under: which part of IBM Plex Sans Arabic."""
WEIGHTS: Final = {"": "400", "B": "600"}
_lock = threading.Lock()
_unpacked: dict[Path, tempfile.TemporaryDirectory[str]] = {}


def files(built: Path) -> dict[tuple[str, str], Path]:
    """The fonts by family and style. built: the folder `fonts` of the built front end.

    Raises FileNotFoundError when the front end was not built.
    """
    with _lock:
        folder = _unpacked.get(built)
        names = {
            (family, style): f"ibm-plex-sans-arabic-{subset}-{weight}-normal"
            for family, subset in SUBSETS.items()
            for style, weight in WEIGHTS.items()
        }
        if folder is not None:
            found = {key: Path(folder.name, name + ".ttf") for key, name in names.items()}
            if all(path.is_file() for path in found.values()):  # some hosts empty their folder of temporary files
                return found
            folder.cleanup()
        _unpacked[built] = fresh = tempfile.TemporaryDirectory(prefix="portal-fonts-", ignore_cleanup_errors=True)
        return {key: _unpack(built / f"{name}.woff2", Path(fresh.name)) for key, name in names.items()}


def _unpack(packed: Path, target: Path) -> Path:
    from fontTools.ttLib import TTFont

    path = target / f"{packed.stem}.ttf"
    with TTFont(packed, recalcTimestamp=False) as font:
        font.flavor = None
        font.save(path)
    return path

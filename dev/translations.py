"""Keeps the catalogues complete: `python -m dev.translations check|update`.

Complete means: every sentence of the code is translated, in every plural form, with the placeholders it has, and an
Arabic sentence is written in Arabic (a stray Cyrillic or Persian look-alike letter is found here, not by a customer).
"""

import re
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
TRANSLATIONS = ROOT / "portal" / "translations"
KEYWORDS = ("-k", "_l", "-k", "lazy_gettext", "-k", "lazy_ngettext:1,2", "-k", "pgettext:1c,2")
PLAIN = ("--no-fuzzy-matching", "--ignore-obsolete", "--no-wrap")
"""A guess of the tool is worse than a gap, and what is gone is in git."""
PLACEHOLDER = re.compile(r"%\((\w+)\)[a-z]")
SCRIPTS = ("ARABIC", "LATIN")
NOT_ARABIC = {"ی", "ک", "گ", "چ", "پ", "ژ", "ۀ", "ہ", "ە"}
"""Letters of Persian and Urdu that look like Arabic ones on screen and are found by no search."""


def extract(target: Path) -> Catalog:
    """All sentences of the code and the templates."""
    _pybabel("extract", "-F", "babel.cfg", *KEYWORDS, "--no-location", "--sort-output", "-o", str(target), ".")
    with target.open("rb") as file:
        return read_po(file)


def _pybabel(*arguments: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("pybabel")), "--quiet", *arguments], cwd=ROOT, check=True)


def check(template: Catalog, path: Path) -> list[str]:
    """What is wrong with one catalogue, a line each."""
    with path.open("rb") as file:
        catalogue = read_po(file)
    language = path.parent.parent.name
    gone = [m for m in catalogue if m.id and template.get(m.id, m.context) is None]
    problems = [f"not in the code any more: {_short(m)}" for m in gone]
    for message in template:
        if message.id:
            found = catalogue.get(message.id, message.context)
            faults = _faults(message, found, catalogue.num_plurals, language)
            problems += [f"{fault}: {_short(message)}" for fault in faults]
    return [f"{path.relative_to(ROOT)}: {p}" for p in problems]


def _faults(message: Message, found: Message | None, plurals: int, language: str) -> list[str]:
    if found is None:
        return ["missing"]
    texts = _texts(found.string)
    if not all(texts) or (message.pluralizable and len(texts) != plurals):
        return ["not translated in every form" if message.pluralizable else "not translated"]
    faults = ["marked fuzzy"] if found.fuzzy else []
    names = set(PLACEHOLDER.findall(" ".join(_texts(message.id))))
    used = [set(PLACEHOLDER.findall(t)) for t in texts]
    # The forms for one and two may say the number in words; all others carry every placeholder.
    if any(u - names for u in used) or set().union(*used) != names or (not message.pluralizable and used[0] != names):
        faults.append("other placeholders than the sentence")
    if language == "ar" and (strange := {c for text in texts for c in text if _strange(c)}):
        faults.append(f"letters that are not Arabic ({' '.join(sorted(strange))})")
    return faults


def _strange(character: str) -> bool:
    if character in NOT_ARABIC:
        return True
    return unicodedata.category(character).startswith("L") and not unicodedata.name(character, "").startswith(SCRIPTS)


def _texts(value: str | Sequence[str] | None) -> list[str]:
    return [value or ""] if isinstance(value, str) or value is None else list(value)


def _short(message: Message) -> str:
    text = _texts(message.id)[0]
    return repr(text if len(text) < 90 else text[:87] + "…")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "messages.pot"
        sentences = extract(template)
        catalogues = sorted(TRANSLATIONS.glob("*/LC_MESSAGES/messages.po"))
        if sys.argv[1:] == ["update"]:
            for path in catalogues:
                language = path.parent.parent.name
                _pybabel("update", "-i", str(template), "-o", str(path), "-l", language, *PLAIN)
        problems = [p for path in catalogues for p in check(sentences, path)]
        if not catalogues:
            problems = ["portal/translations/ has no catalogue"]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""House rules of the front end that a reader of one file can't see."""

import json
import re
from pathlib import Path

from tests.services.environment import ROOT

SOURCE = ROOT / "portal/static/src"
STYLES = sorted((SOURCE / "css").glob("*.css"))
PHYSICAL = re.compile(
    r"(?<![\w-])(?:margin|padding|border|inset|scroll-margin|scroll-padding)-(?:left|right|top|bottom)\b"
    r"|^\s*(?:left|right|top|bottom|width|height|min-width|max-width|min-height|max-height)\s*:"
    r"|(?:text-align|float|clear)\s*:\s*(?:left|right)",
    re.M,
)
COLOUR = re.compile(r"#[0-9a-fA-F]{3,8}\b|\b(?:rgb|hsl|oklch|oklab)a?\(|:\s*(?:white|black|red|gold|gray|grey)\b")
PHYSICAL_UTILITY = re.compile(
    r'(?<=[\s"])-?(?:ml|mr|pl|pr|left|right|border-l|border-r|rounded-l|rounded-r|text-left|text-right)(?:-[\w.\[\]]+)?(?=[\s"])'
)


def _bare(path: Path) -> str:
    return re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)


def test_styles_know_no_left_and_right() -> None:
    """Habit 12: logical properties only, so that one style sheet serves both directions."""
    assert len(STYLES) >= 6
    for path in STYLES:
        assert PHYSICAL.findall(_bare(path)) == [], path.name


def test_templates_know_no_left_and_right() -> None:
    """Habit 12: the same for the utility classes in templates."""
    for path in sorted((ROOT / "portal/templates").rglob("*.html")):
        classes = " ".join(f'"{c}"' for c in re.findall(r'class="([^"]*)"', path.read_text()))
        assert PHYSICAL_UTILITY.findall(classes) == [], path.name


def test_colours_are_named_in_one_file() -> None:
    """look.md: one file defines the tokens; nothing else names a colour."""
    for path in STYLES:
        found = COLOUR.findall(_bare(path))
        assert (found == []) is (path.name != "tokens.css"), f"{path.name}: {found}"
    for path in sorted((ROOT / "portal/templates").rglob("*.html")):
        assert COLOUR.findall(path.read_text().replace("&#", "")) == [], path.name


def test_no_template_names_a_price_or_a_limit() -> None:
    """SUB-01: plans' prices, limits and credit are rows; no template and no translation repeats one."""
    figures = re.compile(r"\b(?:5\.000|15\.000|45\.000|15,000|60,000|250,000|2\.000)\b")
    sources = [*(ROOT / "portal/templates").rglob("*.html"), *(ROOT / "portal/translations").rglob("*.po")]
    for path in sources:
        assert figures.findall(path.read_text()) == [], path.name


def test_the_build_is_whole_and_small() -> None:
    """Every file of the manifest is there; a first visit stays light on a phone."""
    built = ROOT / "portal/static/dist"
    manifest = json.loads((built / "manifest.json").read_text())
    assert {"app.css", "app.js", "icons.svg", "logo.svg"} <= set(manifest)
    assert sum(1 for name in manifest if name.endswith(".woff2")) == 8
    for name in manifest:
        assert (built / name).is_file(), name
    assert (built / "app.css").stat().st_size < 60_000
    assert (built / "app.js").stat().st_size < 20_000
    style = (built / "app.css").read_text()
    assert "http" not in re.sub(r"http://www\.w3\.org/\S*", "", re.sub(r"/\*!.*?\*/", "", style, flags=re.S))
    assert style.count("font-display:swap") == 4


def test_every_icon_that_is_asked_for_is_drawn() -> None:
    """An unknown icon is an empty box that nobody notices."""
    drawn = {path.stem for path in (SOURCE / "icons").glob("*.svg")}
    asked = set()
    for path in [*(ROOT / "portal/templates").rglob("*.html"), ROOT / "portal/blueprints/frame.py"]:
        text = path.read_text()
        asked |= set(re.findall(r'icon(?:_name=|\()"([\w-]+)"', text))
        asked |= set(re.findall(r'Way\("[\w.]+", _l\("[^"]*"\), "([\w-]+)"\)', text))
        asked |= set(re.findall(r'badge\(_\([^)]*\), "\w*", "([\w-]+)"', text))
        asked |= set(re.findall(r'(?:empty|menu)\((?:_\([^)]*\), )?"([\w-]+)"', text))
    assert asked <= drawn, asked - drawn
    assert drawn - asked <= {"minus", "alert", "info", "check"}, f"nobody asks for {drawn - asked}"

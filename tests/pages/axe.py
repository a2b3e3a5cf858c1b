"""axe-core, mended: as it comes, it takes joined Arabic letters for an icon font and never looks at their contrast."""

from functools import lru_cache
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.services.environment import ROOT
from tests.services.programs import missing

HOOK = "function hasRealTextChildren(virtualNode) {"
MENDED = (
    HOOK
    + r" return virtualNode.children.some(c => c.props.nodeName === '#text' && /\S/.test(c.props.nodeValue || ''));"
)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@lru_cache(maxsize=1)
def _source() -> str:
    path = ROOT / "node_modules/axe-core/axe.js"
    if not path.is_file():
        missing("axe-core (npm ci)")
    source = path.read_text()
    if source.count(HOOK) != 1:
        pytest.fail("axe-core has changed: its contrast check on Arabic must be mended anew", pytrace=False)
    return source.replace(HOOK, MENDED)


def faults(page: Page, within: str = "") -> list[str]:
    """What axe finds on this page, or in one part of it, one line each; an undecided contrast counts.

    So does a place where it measured no contrast at all: that is how it used to pass Arabic.
    The page must bypass the content policy.
    """
    page.evaluate("scrollTo(0, 0)")  # what lies under the sticky line can't be measured
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    where = repr(within) if within else "document"
    result: dict[str, list[dict[str, Any]]] = page.evaluate(f"axe.run({where}, {{runOnly: {RULES}}})")
    found = result["violations"] + [r for r in result["incomplete"] if r["id"] == "color-contrast"]
    lines = [f"{rule['id']}: {node['html'][:160]} {_why(node)}" for rule in found for node in rule["nodes"]]
    measured = sum(len(rule["nodes"]) for rule in result["passes"] if rule["id"] == "color-contrast")
    return lines if measured or lines else [f"no contrast was measured in {where}"]


def _why(node: dict[str, Any]) -> str:
    checks = node.get("any") or node.get("all") or node.get("none") or [{}]
    return str(checks[0].get("message", ""))[:160]

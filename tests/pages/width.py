"""What a browser's page has that is wider than its window."""

from playwright.sync_api import Page


def too_wide(page: Page) -> list[str]:
    """The elements that stand out sideways, a line each; first by how many pixels the page scrolls, if it does."""
    wide: list[str] = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => {"
        " const r = e.getBoundingClientRect();"
        " if (!r.width || e.closest('pre, .sr-only, .wide-only, .skip, thead')) return false;"
        " return r.right > innerWidth + 1 || r.left < -1 }).map(e => e.outerHTML.slice(0, 120))"
    )
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return ([f"{over} px"] if over else []) + wide

"""Receipts and statements in a real Chromium: on a phone, for those who can't see, and on white paper."""

import io

import pypdf
import pytest

from portal import clock
from portal.services.papers.months import Month
from tests.pages import axe
from tests.pages.conftest import NewContext, Site, sign_in
from tests.papers.past import give_papers, name_the_seller, write

SIDEWAYS = "document.documentElement.scrollWidth > innerWidth"


@pytest.fixture(scope="module")
def ways(site: Site) -> list[str]:
    """A receipt, a credit note and a statement of Layla's."""
    app, layla = site.cast.app, site.cast.layla
    name_the_seller(app, vat_number="300000000000003", vat_percent="5")
    receipt, note = give_papers(app, layla.account_id)
    write(app, layla.account_id, [(clock.utcnow(), "usage", -57), (clock.utcnow(), "adjustment", -5_000)])
    of = f"/billing/payments/{receipt.payment_id}"
    return [f"{of}/receipt", f"{of}/credit-notes/{note.number}", f"/billing/statement/{Month.of(clock.utcnow())}"]


@pytest.mark.parametrize(("lang", "width", "scheme"), [("ar", 360, "dark"), ("en", 1280, "light")])
def test_papers_fit_and_axe_finds_nothing(
    site: Site, new_context: NewContext, ways: list[str], lang: str, width: int, scheme: str
) -> None:
    """SUB-20, SUB-21, look.md: nothing scrolls sideways, contrast AA, every part has its name; two languages on one."""
    page = new_context(width=width, lang=lang, site=site, color_scheme=scheme, bypass_csp=True).new_page()
    sign_in(page, site, site.cast.layla)
    for way in ways:
        page.goto(site.url + way)
        assert not page.evaluate(SIDEWAYS), way
        assert axe.faults(page) == [], way


def test_a_dark_page_is_printed_white_and_alone(site: Site, new_context: NewContext, ways: list[str]) -> None:
    """SUB-20: what comes out of the printer is the paper, dark on white, without the portal's frame around it."""
    page = new_context(lang="en", site=site, color_scheme="dark").new_page()
    sign_in(page, site, site.cast.layla)
    page.goto(site.url + ways[0])
    page.emulate_media(media="print", color_scheme="dark")
    ground = "e => getComputedStyle(e).backgroundColor"
    assert page.locator("body").evaluate(ground) == page.locator(".paper").evaluate(ground) == "rgba(0, 0, 0, 0)"
    ink = page.locator(".paper dd").first.evaluate("e => getComputedStyle(e).color")
    assert max(map(int, ink.removeprefix("rgb(").removesuffix(")").split(", "))) < 80
    for frame in (".app-side", ".app-top", ".page-head .actions"):
        assert page.locator(frame).first.is_hidden(), frame


def test_the_file_is_a_click_away(site: Site, new_context: NewContext, ways: list[str]) -> None:
    """SUB-20: the button of the page gives the PDF of the same paper."""
    page = new_context(lang="en", site=site).new_page()
    sign_in(page, site, site.cast.layla)
    page.goto(site.url + ways[0])
    href = page.get_by_role("link", name="Save as PDF").get_attribute("href")
    answer = page.request.get(f"{site.url}{href}")
    number = page.locator("h1 bdi").inner_text()
    assert answer.headers["content-disposition"] == f"inline; filename=receipt-{number}.pdf"
    assert number in pypdf.PdfReader(io.BytesIO(answer.body())).pages[0].extract_text()

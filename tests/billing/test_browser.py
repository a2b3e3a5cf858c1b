"""A real Chromium, real gunicorn, the sandbox's payment page: out with a choice, back with what became of it."""

import datetime as dt
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, Route, expect

from portal.extensions import db
from portal.models import Payment, SavedCard, Wallet
from sandbox.process import SandboxProcess
from tests.billing import past
from tests.pages import axe
from tests.pages.conftest import NewContext, Site, sign_in
from tests.pages.width import too_wide
from tests.services.cast import Cast
from tests.services.portal_app import MakeApp
from tests.services.web import StartWeb

pytestmark = pytest.mark.browser
OpenSite = Callable[..., Site]


@pytest.fixture
def site(make_app: MakeApp, start_web: StartWeb, sqlite_url: str, sandbox: SandboxProcess) -> Site:
    """Layla's portal, served by gunicorn; it takes its money at the sandbox, and nobody tells it by webhook."""
    sandbox.control(server="myfatoorah", webhook_timing="never")
    money = {"MYFATOORAH_BASE_URL": sandbox.myfatoorah_url, "MYFATOORAH_API_KEY": "sandbox"}
    cast = Cast(make_app(sqlite_url, **money))
    assert cast.layla
    return Site(start_web(sqlite_url, **money).url, cast)


def _credits(site: Site) -> int:
    """Layla's, in whole credits."""
    with site.cast.app.app_context(), db.engine.connect() as connection:
        balance = sa.select(Wallet.balance).where(Wallet.account_id == site.cast.layla.account_id)
        return int(connection.execute(balance).scalar_one()) // 1000


def _page(site: Site, new_context: NewContext, **options: Any) -> tuple[Page, list[str]]:
    """Layla's window, signed in, and what it complains about."""
    page = new_context(site=site, **options).new_page()
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    sign_in(page, site, site.cast.layla)
    return page, troubles


def test_from_the_balance_to_the_credit_by_keyboard(site: Site, new_context: NewContext) -> None:
    """SUB-02, TOP-01, TOP-02, DASH-04: Arabic, on a telephone, without a mouse: no refusal of the policy on the way."""
    page, troubles = _page(site, new_context, width=360)

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.locator(f"{selector}:focus").count():
                outline = page.evaluate("e => getComputedStyle(e.closest('.option') ?? e).outlineStyle", _focused(page))
                assert outline != "none", f"one can't see that {selector} has the focus"
                return
        raise AssertionError(f"{selector} can't be reached with the Tab key")

    tab_to("a.top-up")
    page.keyboard.press("Enter")
    page.wait_for_url("**/billing#choose")
    tab_to("[name=item]")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(page.locator("#item-pack-5000")).to_be_checked()
    tab_to("[name=method]")
    expect(page.locator("#method-kn")).to_be_checked()
    tab_to("form[action='/billing/checkout'] button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/myfatoorah/Ar/**")
    expect(page.locator("main")).to_contain_text("2.000")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.locator("button[value=pay]:focus").count():
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/billing/return/*")
    expect(page.locator("h1")).to_have_text("تم الدفع. شكرًا لك.")
    expect(page.locator("main")).to_contain_text("أُضيف إلى رصيدك: 5,000 وحدة")
    expect(page.locator(".balance")).to_contain_text("6,100")
    assert _credits(site) == 6_100
    assert troubles == []


def _focused(page: Page) -> Any:
    return page.evaluate_handle("document.activeElement")


def test_a_card_that_fails_and_a_second_try_without_a_script(site: Site, new_context: NewContext) -> None:
    """SUB-02: the reason in words; the same choice again; the plan runs. Nothing of it needs a script."""
    page, troubles = _page(site, new_context, width=360, java_script_enabled=False)
    page.goto(site.url + "/billing?item=pro")
    page.locator(".option", has=page.locator("#method-vm")).click(position={"x": 150, "y": 8})
    page.locator("form[action='/billing/checkout'] button").click()
    page.wait_for_url("**/myfatoorah/Ar/**")
    page.locator("select[name=error]").select_option("MF007")
    page.locator("button[value=fail]").click()
    page.wait_for_url("**/billing/return/*")
    expect(page.locator("main")).to_contain_text("السبب: انتهت صلاحية البطاقة.")
    expect(page.locator("main")).to_contain_text("لم يصلنا أي مبلغ عنها")
    assert _credits(site) == 1_100
    page.get_by_role("link", name="حاول من جديد").click()
    expect(page.locator("#item-pro")).to_be_checked()
    expect(page.locator("#method-vm")).to_be_checked()
    page.locator("form[action='/billing/checkout'] button").click()
    page.wait_for_url("**/myfatoorah/Ar/**")
    page.locator("button[value=pay]").click()
    page.wait_for_url("**/billing/return/*")
    expect(page.locator("main")).to_contain_text("باقتك: احترافي، حتى")
    page.get_by_role("link", name="إلى لوحة التحكم").click()
    expect(page.locator("main")).to_contain_text("فعّال")
    assert _credits(site) == 61_100
    assert troubles == []


def test_who_closes_the_payment_page_finds_it_paid_later(
    site: Site, new_context: NewContext, sandbox: SandboxProcess
) -> None:
    """PAY-03: left without a word; the page says that it asks, and turns by itself once the money is there."""
    page, troubles = _page(site, new_context, lang="en")
    page.goto(site.url + "/billing?item=pack-5000")
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/myfatoorah/En/**")
    page.locator("button[value=close]").click()
    expect(page.locator("[role=status]")).to_contain_text("You were not sent back to the shop")
    page.goto(site.url + "/billing/payments")
    page.get_by_role("link", name=re.compile("^Details")).click()
    expect(page.locator("h1")).to_contain_text("Asking whether it is paid…")
    sandbox.pay(sandbox.invoices()[0]["id"])
    expect(page.locator("h1")).to_have_text("Paid. Thank you.", timeout=20_000)
    assert _credits(site) == 6_100
    assert troubles == []


def test_a_double_click_makes_one_invoice(site: Site, new_context: NewContext, sandbox: SandboxProcess) -> None:
    """PAY-01: two could both be paid. Back with the browser's button, and once more: still the same one."""
    sandbox.control(server="myfatoorah", endpoint="ExecutePayment", delay_ms=300)
    page, _ = _page(site, new_context, lang="en")
    for _ in range(2):
        page.goto(site.url + "/billing?item=pro")
        page.get_by_role("button", name="Continue to payment").dblclick()
        page.wait_for_url("**/myfatoorah/En/**")
        page.go_back()
        page.get_by_role("button", name="Continue to payment").click()
        page.wait_for_url("**/myfatoorah/En/**")
    assert len(sandbox.invoices()) == 1
    with site.cast.app.app_context():
        assert db.session.scalar(sa.select(sa.func.count()).select_from(Payment)) == 1


def test_the_strict_policy_would_have_stopped_the_payment(site: Site, new_context: NewContext) -> None:
    """The tests above can fail: with every other page's policy Chromium stops silently at the redirect."""
    page, troubles = _page(site, new_context, lang="en")

    def strictly(route: Route) -> None:
        answer = route.fetch()
        strict = re.sub(r"form-action [^;]*", "form-action 'self'", answer.headers["content-security-policy"])
        route.fulfill(response=answer, headers=answer.headers | {"content-security-policy": strict})

    page.route("**/billing?item=pro", strictly)
    page.goto(site.url + "/billing?item=pro")
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_timeout(1500)
    assert "/billing" in page.url
    assert any("form-action" in line for line in troubles)


@pytest.mark.parametrize(("width", "lang", "scheme"), [(360, "ar", "dark"), (1280, "en", "light")])
def test_every_page_of_money_fits_and_can_be_read(
    site: Site, new_context: NewContext, width: int, lang: str, scheme: str
) -> None:
    """look.md: full and empty, every state: nothing scrolls sideways, and axe finds nothing."""
    ids = past.give_everything(site.cast.app, site.cast.layla)
    with site.cast.app.app_context():
        past.end_in(site.cast.layla, dt.timedelta(days=12, hours=5))
        card_id = db.session.scalars(sa.select(SavedCard.id)).one()
    paths = ["/billing?item=enterprise", "/billing/payments", "/billing/payments?state=held&kind=plan"]
    paths += ["/dashboard", "/billing/cancel", "/billing/renewal/stop", f"/billing/cards/{card_id}/remove"]
    paths += [f"/billing/return/{payment_id}" for payment_id in ids] + [f"/billing/return/{ids[2]}?asked=24"]
    found: dict[str, list[str]] = {}

    def look(who: str) -> None:
        # The policy is bypassed for axe's own script alone.
        page = new_context(width=width, lang=lang, site=site, bypass_csp=True, color_scheme=scheme).new_page()
        sign_in(page, site, getattr(site.cast, who))
        for path in paths if who == "layla" else paths[:2]:
            page.goto(site.url + path)
            found[f"{who} {path}"] = too_wide(page) + axe.faults(page)
        if who == "zaid":
            page.goto(site.url + "/billing")
            page.locator("form[action='/billing/checkout'] button").click()
            page.wait_for_selector("#choose-error")
            found["a form without a choice"] = too_wide(page) + axe.faults(page)

    for who in ("layla", "zaid"):
        look(who)
    assert {path: faults for path, faults in found.items() if faults} == {}

"""A real Chromium: a number verified and a password reset on a telephone, in Arabic, by keyboard, script or not."""

import re
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from portal.extensions import db
from portal.models import Account
from portal.services import accounts
from tests.accounts.code_forms import ARABIC_DIGITS, a_minute_later, code_of
from tests.pages.conftest import NewContext, Site, sign_in
from tests.services.cast import PASSWORD, Person

pytestmark = pytest.mark.browser
NUMBERS = iter(range(66_003_000, 66_004_000))
NEW_PASSWORD = "three-lamps-by-the-sea"


def _somebody(site: Site) -> Person:
    """Registered a moment ago, verified nothing yet."""
    number = next(NUMBERS)
    email = f"{number}@example.com"
    with site.cast.app.app_context():
        new = accounts.NewUser(email=email, phone=str(number), password=PASSWORD, name="سارة")
        user_id = accounts.register(new, "127.0.0.1")
        account_id = db.session.scalars(sa.select(Account.id).where(Account.owner_id == user_id)).one()
        db.session.commit()
    a_minute_later(site.cast.app)
    return Person("sara", email, f"+965{number}", user_id, account_id, "")


def _tabs(page: Page) -> Callable[[str], None]:
    def tab_to(name: str) -> None:
        for _ in range(40):
            if page.locator(f"{name}:focus").count():
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{name} can't be reached with the Tab key")

    return tab_to


@pytest.mark.parametrize("scripts", [True, False])
def test_a_number_is_verified_by_keyboard(site: Site, new_context: NewContext, scripts: bool) -> None:
    """AUTH-04, look.md: from the banner on; the field is where one types already; Arabic digits; a mistake is told."""
    person = _somebody(site)
    page = new_context(width=360, site=site, java_script_enabled=scripts).new_page()
    sign_in(page, site, person)
    tab_to = _tabs(page)
    expect(page.locator("main")).to_contain_text("لم يُوثّق رقم هاتفك بعد")
    tab_to("main a[href='/verify']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/verify")
    tab_to("main form button")
    page.keyboard.press("Enter")
    page.wait_for_url("**/verify?step=sent")
    code = code_of(site.cast.app, person.user_id)
    expect(page.locator("[name=code]")).to_be_focused()
    page.keyboard.type("١٢")
    page.keyboard.press("Enter")
    expect(page.locator("[name=code][aria-invalid=true]")).to_be_focused()
    expect(page.locator(".field-error")).to_contain_text("هذا الرمز غير صحيح")
    page.locator("[name=code]").select_text()
    page.keyboard.type(code.translate(ARABIC_DIGITS))
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard?saved=phone")
    expect(page.locator("main [role=status]")).to_contain_text("تم توثيق رقم هاتفك")
    page.goto(site.url + "/dashboard")
    expect(page.locator("main")).not_to_contain_text("لم يُوثّق رقم هاتفك بعد")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_password_is_reset_by_keyboard(site: Site, new_context: NewContext, scripts: bool) -> None:
    """AUTH-04, look.md: from the sign-in page on, to the dashboard, signed in; the other window is signed out."""
    person = _somebody(site)
    elsewhere = new_context(site=site).new_page()
    sign_in(elsewhere, site, person)
    page = new_context(width=360, site=site, java_script_enabled=scripts).new_page()
    tab_to = _tabs(page)
    page.goto(site.url + "/login")
    tab_to("main a[href='/forgot']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/forgot")
    expect(page.locator("[name=email]")).to_be_focused()
    page.keyboard.type(person.email)
    page.keyboard.press("Enter")
    page.wait_for_url("**/reset?step=sent")
    expect(page.locator("main [role=status]")).to_contain_text("إن كان هناك حساب بهذه البيانات")
    expect(page.locator("[name=code]")).to_be_focused()
    page.keyboard.type(code_of(site.cast.app, person.user_id))
    page.keyboard.press("Tab")
    page.keyboard.type("12345678")
    page.keyboard.press("Enter")
    expect(page.locator("[name=password][aria-invalid=true]")).to_be_focused()
    page.keyboard.type(NEW_PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard?saved=password")
    expect(page.locator("main [role=status]")).to_contain_text("تم اعتماد كلمة مرورك الجديدة")
    elsewhere.goto(site.url + "/dashboard")
    assert "/login" in elsewhere.url


def test_the_seconds_are_counted_down(site: Site, new_context: NewContext) -> None:
    """AUTH-04: the button waits with its reader; without a script it can be pressed and the answer says how long."""
    person = _somebody(site)
    page = new_context(site=site).new_page()
    page.clock.install()
    sign_in(page, site, person)
    page.goto(site.url + "/verify")
    page.locator("main form button").click()
    page.wait_for_url("**/verify?step=sent")
    button, seconds = page.locator(".resend button"), page.locator("[data-countdown]")
    expect(button).to_be_disabled()
    first = int(seconds.inner_text())
    page.clock.run_for(10_000)
    assert int(seconds.inner_text()) <= first - 9
    page.clock.run_for(60_000)
    expect(button).to_be_enabled()
    expect(seconds).to_be_hidden()


def test_the_bell_leads_to_what_is_new(site: Site, new_context: NewContext) -> None:
    """NOTIF-21: by keyboard, on a telephone; its name says how many are unread; all read with one press."""
    person = _somebody(site)
    page = new_context(width=360, lang="en", site=site, java_script_enabled=False).new_page()
    sign_in(page, site, person)
    tab_to = _tabs(page)
    expect(page.get_by_role("link", name=re.compile(r"^Notifications\s+Unread:\s+1$"))).to_be_visible()
    tab_to("a.bell")
    page.keyboard.press("Enter")
    page.wait_for_url("**/notifications")
    expect(page.locator(".note")).to_have_count(1)
    tab_to("form[action='/notifications/read'] button")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator(".bell-count")).to_have_count(0)
    expect(page.locator(".note[data-unread]")).to_have_count(0)

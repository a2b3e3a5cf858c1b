"""A real Chromium: the way from nothing to a key, with and without scripts, by keyboard, narrow and wide."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.pages import axe
from tests.pages.conftest import NewContext, Site, sign_in
from tests.pages.width import too_wide

pytestmark = pytest.mark.browser
PHONES = iter(range(66_002_000, 66_003_000))


def _fill_registration(page: Page, name: str) -> None:
    page.fill("[name=name]", name)
    page.fill("[name=email]", f"{next(PHONES)}@example.com")
    page.fill("[name=phone]", str(next(PHONES)))
    page.fill("[name=password]", "saffron-tide-lamp")


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("lang", ["ar", "en"])
@pytest.mark.parametrize("width", [360, 1280])
def test_from_nothing_to_a_key(site: Site, new_context: NewContext, lang: str, width: int, scripts: bool) -> None:
    """AUTH-01, KEY-01, KEY-04, KEY-03, AUTH-03: the whole way; no error, nothing from elsewhere."""
    page = new_context(width=width, lang=lang, site=site, java_script_enabled=scripts).new_page()
    troubles: list[str] = []
    page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda r: troubles.append(r.url) if not r.url.startswith(site.url) else None)

    page.goto(site.url)
    page.locator("main a[href='/register']").click()
    _fill_registration(page, "سارة" if lang == "ar" else "Sara")
    page.locator("main button[type=submit]").click()
    page.wait_for_url("**/dashboard")
    page.locator("main a[href^='/keys']").first.click()
    page.fill("[name=label]", "متجر العطور" if lang == "ar" else "Perfume shop")
    page.locator("main form button[type=submit]").click()
    secret = page.locator("#secret").inner_text()
    assert re.fullmatch(r"rsk_[A-Za-z0-9]{40}", secret)
    for example in ("#curl", "#python", "#javascript"):
        assert secret in page.locator(example).inner_text()
        assert f"{site.url}/v1" in page.locator(example).inner_text()
    assert page.locator("[data-copy]").first.is_visible() is scripts
    page.locator("main a[href='/keys']").click()
    assert secret not in page.content()
    page.locator("a.button-danger").click()
    if scripts:
        expect(page.locator("dialog[open]")).to_contain_text("متجر العطور" if lang == "ar" else "Perfume shop")
        page.locator("dialog[open] button[type=submit]").click()
    else:
        page.locator("main button[type=submit]").click()
    page.wait_for_url("**/keys?deleted=*")
    assert page.locator("a.button-danger").count() == 0
    page.locator("details.menu > summary").click()
    page.locator("form[action='/logout'] button").click()
    page.wait_for_url(site.url + "/")
    page.goto(site.url + "/dashboard")
    assert "/login" in page.url
    assert troubles == []


def _everywhere(page: Page, site: Site) -> Iterator[str]:
    """Every page that Layla can see, one after the other."""
    for path in (
        "/",
        "/dashboard",
        "/keys",
        "/settings",
        "/billing",
        "/billing/payments",
        "/notifications",
        "/verify",
        "/verify?step=code",
        "/there-is-nothing-here",
    ):
        page.goto(site.url + path)
        yield path
    page.goto(site.url + "/settings")
    page.locator("form[action='/settings/phone'] button[type=submit]").click()
    page.wait_for_selector("[aria-invalid=true]")
    yield "/settings with a mistake"
    page.goto(site.url + "/keys")
    page.locator("a.button-danger").first.evaluate("link => location.assign(link.href)")
    page.wait_for_url("**/delete")
    yield "/keys/…/delete"
    page.goto(site.url + "/keys")
    page.locator("main form button[type=submit]").click()
    page.wait_for_selector("[aria-invalid=true]")
    yield "/keys with a mistake"
    page.fill("[name=label]", "a very long name of a key that nobody would give but somebody will give one day")
    page.locator("main form button[type=submit]").click()
    page.wait_for_selector("#secret")
    yield "/keys with a new key"


def _outside(page: Page, site: Site) -> Iterator[str]:
    for path in ("/", "/login", "/forgot", "/reset", "/register"):
        page.goto(site.url + path)
        yield path
    page.locator("main button[type=submit]").click()
    page.wait_for_selector("[aria-invalid=true]")
    yield "/register with mistakes"


@pytest.mark.parametrize("lang", ["ar", "en"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_scrolls_sideways(site: Site, new_context: NewContext, lang: str, width: int) -> None:
    """Never again "horizontal scroll on phones": 360, 768 and 1280 in both directions, with long names."""
    page = new_context(width=width, lang=lang, site=site).new_page()

    def check(path: str) -> None:
        assert too_wide(page) == [], f"{path} at {width} in {lang}"

    for path in _outside(page, site):
        check(path)
    sign_in(page, site, site.cast.layla)
    for path in _everywhere(page, site):
        check(path)


@pytest.mark.parametrize(
    ("width", "lang", "scheme"),
    [(360, "ar", "dark"), (1280, "ar", "light"), (360, "en", "light"), (1280, "en", "dark")],
)
def test_axe_finds_nothing(site: Site, new_context: NewContext, lang: str, width: int, scheme: str) -> None:
    """look.md: contrast AA, names, order, in both themes; Arabic contrast is measured too."""
    # The policy is bypassed for axe's own script alone; every other test runs under it.
    page = new_context(width=width, lang=lang, site=site, bypass_csp=True, color_scheme=scheme).new_page()
    found: dict[str, list[str]] = {}
    for path in _outside(page, site):
        found[path] = axe.faults(page)
    sign_in(page, site, site.cast.layla)
    for path in _everywhere(page, site):
        found[path] = axe.faults(page)
        for menu in ("details.menu", "details.sheet") if path == "/dashboard" else ():  # the same on every page
            if page.locator(f"{menu} > summary").is_visible():
                page.locator(f"{menu} > summary").click()
                found[path] += axe.faults(page, within=menu)
                page.locator(f"{menu} > summary").click()
    assert {path: faults for path, faults in found.items() if faults} == {}


def test_axe_sees_pale_arabic(site: Site, new_context: NewContext) -> None:
    """The check above can fail: grey Arabic on grey is found."""
    page = new_context(site=site, bypass_csp=True).new_page()
    page.goto(site.url + "/login")
    page.add_style_tag(content="h1 { color: #30343c !important }")
    assert any("color-contrast" in fault and "<h1" in fault for fault in axe.faults(page))


def test_the_fonts_are_ours_and_arabic_is_set_right_to_left(site: Site, new_context: NewContext) -> None:
    """look.md: self-hosted fonts, all loaded; the page is right to left."""
    page = new_context(site=site).new_page()
    page.goto(site.url)
    page.evaluate("document.fonts.ready")
    assert page.evaluate("getComputedStyle(document.body).direction") == "rtl"
    loaded = page.evaluate(
        "[...document.fonts].filter(f => f.status === 'loaded').map(f => f.family.replaceAll('\"', ''))"
    )
    assert {"IBM Plex Sans Arabic", "Inter Variable"} <= set(loaded)


def test_the_whole_way_by_keyboard_alone(site: Site, new_context: NewContext) -> None:
    """look.md: focus is visible, every control can be reached and used without a mouse."""
    page = new_context(lang="en", site=site).new_page()

    def tab_to(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("s => !!document.activeElement && document.activeElement.matches(s)", selector)
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none" or page.evaluate("document.activeElement === document.body"), page.evaluate(
                "document.activeElement.outerHTML"
            )
            if focused:
                return
        raise AssertionError(f"{selector} can't be reached with the Tab key")

    page.goto(site.url + "/register")
    tab_to(".skip")
    page.keyboard.press("Enter")
    for field, text in (
        ("email", f"{next(PHONES)}@example.com"),
        ("phone", str(next(PHONES))),
        ("password", "saffron-tide-lamp"),
    ):
        tab_to(f"[name={field}]")
        page.keyboard.type(text)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard")
    tab_to("main a[href^='/keys']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/keys#new")
    tab_to("[name=label]")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    page.wait_for_selector("#secret")
    tab_to("[data-copy=secret]")
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).not_to_be_empty()
    tab_to("main a[href='/keys']")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    tab_to("a.button-danger")
    page.keyboard.press("Enter")
    expect(page.locator("dialog[open]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert page.evaluate("document.activeElement.matches('a.button-danger')"), (
        "focus returns to where the question began"
    )


@pytest.mark.parametrize("scripts", [True, False])
def test_switches_are_turned_by_keyboard_with_and_without_scripts(
    site: Site, new_context: NewContext, scripts: bool
) -> None:
    """QUEUE-02, look.md: the account's switch and a key's; Tab, Space and Enter are enough."""
    page = new_context(lang="en", site=site, java_script_enabled=scripts).new_page()
    sign_in(page, site, site.cast.layla)

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.locator(f"{name}:focus").count():
                return
        raise AssertionError(f"{name} can't be reached with the Tab key")

    for on in (True, False):
        page.goto(site.url + "/settings")
        switch = page.get_by_role("switch", name="Stay on our own servers")
        expect(switch).to_be_checked(checked=not on)
        tab_to("[name=local_only]")
        page.keyboard.press("Space")
        tab_to("main form button")
        page.keyboard.press("Enter")
        page.wait_for_url("**/settings?saved=where")
        expect(page.locator("[role=status].banner")).to_contain_text("leaves for" if on else "not kept from")
        expect(switch).to_be_checked(checked=on)
    for word, now in (("Forbid", "Not allowed"), ("Allow", "Allowed")):
        page.goto(site.url + "/keys")
        expect(page.get_by_role("button", name=f"{word} the cloud: “layla's key”")).to_be_visible()
        tab_to("""td button[aria-label$="“layla's key”"]""")
        page.keyboard.press("Enter")
        page.wait_for_url("**/keys?changed=*")
        expect(page.locator("tr", has_text="layla's key").locator(".beside > span")).to_have_text(now)


def test_the_sheet_opens_and_closes_without_a_script(site: Site, new_context: NewContext) -> None:
    """Never again "menu could not be closed": by pressing its button again, script or not."""
    page = new_context(width=360, site=site, java_script_enabled=False).new_page()
    sign_in(page, site, site.cast.zaid)
    ways = page.locator(".sheet a[href='/keys']")
    expect(ways).to_be_hidden()
    page.locator(".sheet > summary").click()
    expect(ways).to_be_visible()
    page.locator(".sheet > summary").click()
    expect(ways).to_be_hidden()
    page.locator(".sheet > summary").click()
    ways.click()
    page.wait_for_url("**/keys")


def test_menus_close_on_escape_and_beside_them(site: Site, new_context: NewContext) -> None:
    """With a script: as one expects of a menu."""
    page = new_context(width=360, site=site).new_page()
    sign_in(page, site, site.cast.zaid)
    for name in ("details.menu", "details.sheet"):
        page.locator(f"{name} > summary").click()
        expect(page.locator(name)).to_have_attribute("open", "")
        page.keyboard.press("Escape")
        expect(page.locator(name)).not_to_have_attribute("open", "")
        page.locator(f"{name} > summary").click()
        page.locator("main").click(position={"x": 10, "y": 700})
        expect(page.locator(name)).not_to_have_attribute("open", "")


def test_the_copy_button_copies_the_key(site: Site, new_context: NewContext) -> None:
    """KEY-04: what lands in the clipboard is the key, without a blank around it."""
    context = new_context(lang="en", site=site)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
    page = context.new_page()
    sign_in(page, site, site.cast.zaid)
    page.goto(site.url + "/keys")
    page.fill("[name=label]", "copied")
    page.locator("main form button[type=submit]").click()
    page.locator("[data-copy=secret]").click()
    expect(page.locator("[data-copy=secret]")).to_contain_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#secret").inner_text()
    page.locator("[data-copy=python]").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    compile(copied, "example.py", "exec")


def test_light_or_dark_is_remembered_and_never_flashes(site: Site, new_context: NewContext) -> None:
    """look.md: the system decides until the person does; the server writes the choice into the page."""
    page = new_context(site=site, color_scheme="dark").new_page()
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    page.goto(site.url + "/login")
    dark = page.evaluate(ground)
    page.locator("[data-theme-switch]").click()
    light = page.evaluate(ground)
    assert light != dark
    answer = page.goto(site.url + "/register")
    assert answer is not None
    assert 'data-theme="light"' in answer.text()
    assert page.evaluate(ground) == light


def test_the_system_decides_light_or_dark_without_a_script(site: Site, new_context: NewContext) -> None:
    """look.md: prefers-color-scheme."""
    grounds = set()
    for scheme in ("dark", "light"):
        page = new_context(site=site, color_scheme=scheme, java_script_enabled=False).new_page()
        page.goto(site.url + "/login")
        grounds.add(page.locator("html").evaluate("e => getComputedStyle(e).backgroundColor"))
        expect(page.locator("[data-theme-switch]")).to_be_hidden()
    assert len(grounds) == 2


def test_a_pressed_button_says_so_and_sends_once(site: Site, new_context: NewContext) -> None:
    """look.md: a double click does not create two keys."""
    page = new_context(site=site, lang="en").new_page()
    sign_in(page, site, site.cast.zaid)
    page.goto(site.url + "/keys")
    page.fill("[name=label]", "pressed twice")
    page.locator("main form button[type=submit]").dblclick()
    page.wait_for_selector("#secret")
    page.goto(site.url + "/keys")
    assert page.locator("th", has_text="pressed twice").count() == 1

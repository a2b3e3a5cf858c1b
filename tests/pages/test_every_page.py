"""Every page of the URL map, in both languages, for everybody: well formed, translated, safe, and with a way on."""

import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import clock
from portal.blueprints import DOORS
from portal.extensions import db
from portal.models import ApiKey, Paper, SavedCard
from tests.billing.past import give_everything
from tests.pages.history import give_cloud_history, give_history, give_notifications
from tests.pages.reading import ISOLATED, Page
from tests.services.cast import Cast
from tests.services.portal_app import csrf_token

ROLES = ("nobody", "layla", "omar", "zaid", "noor")
LATIN_WORDS = re.compile(r"[A-Za-z]{2,}")
ARABIC_LETTERS = re.compile(r"[\u0621-\u064a]")
REFUSED_OUTSIDE: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("/login", "/login", {"email": "x", "password": "y" * 9}),
    ("/register", "/register", {"email": "x"}),
    ("/forgot", "/forgot", {"email": " "}),
    ("/reset", "/reset", {"email": "x", "code": "1", "password": "abc"}),
)
REFUSED_INSIDE: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("/keys", "/keys", {"label": ""}),
    ("/verify", "/verify", {"code": "1"}),
    ("/settings/password", "/settings", {"current": "x", "password": ""}),
    ("/settings/phone", "/settings", {"phone": "1", "country": "KW", "current": "x"}),
    ("/settings/phone/code", "/settings", {"code": "1"}),
)
"""Address, the page that its form stands on, and what is refused."""
NAMES = {"LLM", "Portal", "API", "curl", "Python", "JavaScript"}
"""What is written in Latin letters in an Arabic page too."""


ID = re.compile(r"[0-9a-f]{32}")


def _paths(app: Flask, owned: dict[str, str]) -> list[str]:
    """Every address of a page that can be opened with GET, from the URL map. owned: what stands for a name in one."""
    doors = {door.blueprint.name for door in DOORS if door.errors == "page"}
    paths = []
    for rule in app.url_map.iter_rules():
        page = "GET" in (rule.methods or ()) and not rule.rule.endswith((".pdf", ".csv"))
        if page and rule.endpoint.partition(".")[0] in doors:
            paths.append(re.sub(r"<(?:\w+:)?(\w+)>", lambda name: owned.get(name[1], name[0]), rule.rule))
    assert not [p for p in paths if "<" in p], "teach this test how to fill the address of the new page"
    return [*paths, "/there-is-nothing-here"]


def _visit(app: Flask, cast: Cast, role: str) -> tuple[FlaskClient, dict[str, str]]:
    owner = cast.layla if role in ("nobody", "layla") else getattr(cast, role)
    payments = give_everything(app, owner)
    with app.app_context():
        key_id = db.session.scalars(sa.select(ApiKey.id).where(ApiKey.account_id == owner.account_id)).first()
        card_id = db.session.scalars(sa.select(SavedCard.id).where(SavedCard.account_id == owner.account_id)).first()
        note = db.session.scalars(sa.select(Paper.number).where(Paper.kind == "credit_note")).first()
        month = str(clock.kuwait_day())[:7]
    assert key_id and card_id and note
    owned = {"key_id": key_id, "payment_id": payments[0], "card_id": card_id, "number": note, "month": month}
    return (app.test_client() if role == "nobody" else cast.sign_in(owner)), owned


_read: dict[str, list[tuple[str, str, Page]]] = {}
"""By role: the pages are fetched once and looked at by every test of this file."""


@pytest.fixture(params=ROLES)
def pages(request: pytest.FixtureRequest) -> list[tuple[str, str, Page]]:
    """(address, language, page) of everything this person can see, with a past and without."""
    role: str = request.param
    if role not in _read:
        _read[role] = _everything(request.getfixturevalue("app"), request.getfixturevalue("cast"), role)
    return _read[role]


def _everything(app: Flask, cast: Cast, role: str) -> list[tuple[str, str, Page]]:
    client, owned = _visit(app, cast, role)
    if role == "layla":
        give_history(app, cast.layla)
        give_cloud_history(app, cast.layla)
        give_notifications(app, cast.layla)
    seen = []
    for language in ("ar", "en"):
        for path in _paths(app, owned):
            answer = client.get(f"{path}?lang={language}")
            if answer.status_code != 302:
                assert answer.status_code == (404 if "nothing" in path else 200), path
                seen.append((path, language, Page(answer.get_data(as_text=True))))
        for path, page, form in REFUSED_OUTSIDE if role == "nobody" else REFUSED_INSIDE:
            answer = client.post(path, data={"csrf_token": csrf_token(client, page), **form})
            assert answer.status_code in (401, 422), path
            seen.append((f"POST {path}", language, Page(answer.get_data(as_text=True))))
        if role != "nobody":
            answer = client.post("/keys", data={"csrf_token": csrf_token(client, "/keys"), "label": "x"})
            seen.append(("POST /keys new", language, Page(answer.get_data(as_text=True))))
    assert len(seen) >= 8
    return seen


def test_no_page_shows_an_untranslated_string(pages: list[tuple[str, str, Page]]) -> None:
    """Never again "170 missing Arabic strings": no Latin word in an Arabic page, no Arabic letter in an English one."""
    for path, language, page in pages:
        if language == "ar":
            strange = sorted(set(LATIN_WORDS.findall(page.text)) - NAMES)
        else:
            strange = [word for word in page.words if ARABIC_LETTERS.search(ISOLATED.sub("", word))]
        assert not strange, f"{path} in {language}: {strange}"
        assert "%(" not in page.html, path


def test_every_page_says_its_language_and_the_way_to_the_other(pages: list[tuple[str, str, Page]]) -> None:
    """Arabic first and right to left; English a click away on every page; hreflang for those who search."""
    for path, language, page in pages:
        (html,) = page.all("html")
        assert (html["lang"], html["dir"]) == (language, "rtl" if language == "ar" else "ltr"), path
        other = "en" if language == "ar" else "ar"
        ways = [a["href"] for a in page.all("a") if a.get("hreflang") == other]
        assert ways, path
        assert all(f"lang={other}" in way for way in ways), path
        if not path.startswith("POST"):
            alternates = {link["hreflang"]: link["href"] for link in page.all("link") if link.get("rel") == "alternate"}
            assert set(alternates) == {"ar", "en"}, path
            assert all(href == f"http://127.0.0.1:8000{path}?lang={lang}" for lang, href in alternates.items()), (
                alternates
            )


def test_every_page_is_well_formed(pages: list[tuple[str, str, Page]]) -> None:
    """Tags close what they open, an id is one element's, each page has a title of its own and one first heading."""
    for path, language, page in pages:
        assert page.unclosed == [], path
        ids = [a["id"] for _, a in page.elements if "id" in a]
        assert len(ids) == len(set(ids)), f"{path}: {sorted(i for i in ids if ids.count(i) > 1)}"
        assert len(page.all("h1")) == 1, path
        assert page.title.endswith(" · LLM Portal"), path
        assert len(page.title) > len(" · LLM Portal") + 2, path
        targets = {a["for"] for a in page.all("label")} | {
            i
            for _, a in page.elements
            for i in a.get("aria-describedby", "").split() + a.get("aria-labelledby", "").split()
        }
        assert targets <= set(ids), f"{path} in {language}: {targets - set(ids)}"


def test_every_form_carries_its_token_and_every_control_a_name(pages: list[tuple[str, str, Page]]) -> None:
    """The contract: every form carries csrf_token; look.md: every control has a name."""
    for path, _, page in pages:
        labelled = {a["for"] for a in page.all("label")}
        for form in page.forms:
            assert form[0][1].get("method") == "post", path
            tokens = [a for tag, a in form if tag == "input" and a.get("name") == "csrf_token" and a.get("value")]
            assert len(tokens) == 1, f"{path}: {form[0][1]}"
            for tag, a in form:
                if tag in ("input", "select") and a.get("type") != "hidden":
                    assert a.get("id") in labelled, f"{path}: {a}"


def test_no_page_needs_what_the_policy_forbids(pages: list[tuple[str, str, Page]]) -> None:
    """OPS-03: no inline script, style or handler, and nothing from another place."""
    for path, _, page in pages:
        for tag, attributes in page.elements:
            assert tag != "style", path
            assert "style" not in attributes, f"{path}: {tag}"
            assert not [a for a in attributes if a.startswith("on")], f"{path}: {tag}"
            loaded = attributes.get("src") or (attributes.get("href") if tag in ("use",) else None)
            if tag == "link" and attributes.get("rel") != "alternate":
                loaded = attributes["href"]
            assert loaded is None or loaded.startswith("/static/"), f"{path}: {loaded}"
        assert all(script.get("src") for script in page.all("script")), path


def test_no_page_leads_nowhere(app: Flask, pages: list[tuple[str, str, Page]], cast: Cast) -> None:
    """Only links to what exists: nothing is announced that is not there."""
    client = cast.sign_in(cast.noor)  # whom staff's links are for as well
    links = {a["href"].partition("#")[0] for _, _, page in pages for a in page.all("a")}
    for link in sorted(links - {""}):
        assert link.startswith("/"), link
        if ID.search(link):  # another person's key, payment or card: there is a page for those of one's own
            app.url_map.bind("").match(link.partition("?")[0], method="GET")
        elif "nothing-here" not in link:  # the address that is wrong on purpose
            assert client.get(link).status_code in (200, 302), link


def test_the_strict_policy_is_sent_with_every_page(client: FlaskClient) -> None:
    """OPS-03: content policy, no sniffing, no frames, nothing cached of what is personal."""
    for path in ("/", "/login", "/there-is-nothing-here"):
        headers = client.get(path).headers
        assert "script-src 'self';" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def test_built_files_may_be_kept_for_a_year(app: Flask, client: FlaskClient) -> None:
    """A file's address changes with its content; asked for without its hash it is not kept."""
    page = Page(client.get("/").get_data(as_text=True))
    (style,) = [link["href"] for link in page.all("link") if link.get("rel") == "stylesheet"]
    kept = client.get(style)
    assert kept.status_code == 200
    assert kept.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    bare = client.get(style.partition("?")[0])
    assert "max-age" not in bare.headers.get("Cache-Control", "")
    kept.close()
    bare.close()

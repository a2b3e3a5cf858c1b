"""The house rules that no linter knows. Who may import whom is import-linter's (pyproject.toml, `make check`).

Each rule is looked for in the source, so a new file is held to it the day it is written.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from portal import create_app, errors
from portal.blueprints import DOORS, guards
from portal.config import load_settings
from tests.services.environment import ROOT, portal_environment

PORTAL = ROOT / "portal"
OURS = ("portal", "sandbox", "dev", "tests", "bench", "migrations")
BUILT = ("node_modules", "dist", "build", "__pycache__")
LINES = 420
"""About 400; a file that passes it becomes a folder of the same name."""

SPEAKS_OF_THE_REQUEST = {"portal/assets.py", "portal/i18n.py", "portal/pages.py"}
"""Ground that every page stands on. Everything else outside the doors takes and gives plain things."""
REQUEST_NAMES = {"request", "g", "session", "current_user"}

# The contract's table of errors, by status.
CONTRACT = {
    400: {"invalid_request", "context_length_exceeded", "unsupported_capability"},
    401: {"missing_api_key", "invalid_api_key", "key_expired", "key_revoked"},
    402: {"insufficient_credits", "key_budget_exceeded"},
    403: {
        "model_not_in_plan", "scope_missing", "model_not_allowed_for_key", "address_not_allowed", "account_suspended",
    },
    404: {"model_not_found", "not_found"},
    413: {"request_too_large"},
    429: {"rate_limit_exceeded", "credits_on_hold"},
    502: {"upstream_error"},
    503: {"queue_full", "cloud_budget_exhausted", "no_provider"},
    504: {"upstream_timeout"},
}  # fmt: skip
NOT_BUILT_YET = {
    "key_budget_exceeded",  # spend caps of keys (KEY-06)
    "model_not_allowed_for_key",
    "address_not_allowed",
}


def _files(*suffixes: str, under: tuple[str, ...] = OURS) -> list[Path]:
    found = []
    for top in under:
        for folder, inner, names in os.walk(ROOT / top):
            inner[:] = sorted(set(inner) - set(BUILT))
            found += [Path(folder, name) for name in sorted(names) if name.endswith(suffixes)]
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import in the file; name is empty for `import module`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """A portal with nothing behind it."""
    return create_app(load_settings(portal_environment(tmp_path_factory.mktemp("portal"))))


# --- files ----------------------------------------------------------------------------------------------------------


def test_no_file_is_called_after_nothing_in_particular() -> None:
    """design.md: a file named utils grows by whatever nobody found a place for."""
    vague = re.compile(r"^(utils?|helpers?|common|managers?|misc|base_.*)\.\w+$")
    assert [_name(p) for p in _files(".py", ".js", ".mjs", ".css", ".html") if vague.match(p.name)] == []


def test_files_stay_small_enough_to_be_read_at_once() -> None:
    """design.md: past about 400 lines a file becomes a folder of the same name."""
    files = _files(".py", ".js", ".mjs", ".css", ".html", ".c", ".h", ".sh")
    lengths = {_name(p): len(p.read_text().splitlines()) for p in files}
    assert {name: lines for name, lines in lengths.items() if lines > LINES} == {}


def test_every_module_says_why_it_exists() -> None:
    """design.md, habit 9."""
    silent = [
        _name(p)
        for p in _files(".py", under=("portal", "sandbox", "dev"))
        if p.read_text().strip() and ast.get_docstring(ast.parse(p.read_text())) is None
    ]
    assert silent == []


def test_lock_files_name_no_host() -> None:
    """A lock that names a registry's host works for nobody whose registry is another."""
    locks = [*ROOT.glob("requirements*.txt"), ROOT / "sandbox/model-requirements.txt", ROOT / "package-lock.json"]
    host = re.compile(r'"resolved"|--index-url|--extra-index-url|--find-links|@ http')
    assert len(locks) >= 5
    assert [p.name for p in locks if host.search(p.read_text())] == []


# --- layers ---------------------------------------------------------------------------------------------------------


def test_only_doors_know_the_request() -> None:
    """design.md: flask's request, g, session and the signed-in person are banned outside the doors."""
    knowing = {
        f"{_name(p)}: {name}"
        for p in _files(".py", under=("portal",))
        for module, name in _imports(p)
        if module in ("flask", "flask_login") and name in REQUEST_NAMES
        if not _name(p).startswith("portal/blueprints/") and _name(p) not in SPEAKS_OF_THE_REQUEST
    }
    assert knowing == set()


def test_only_the_queue_and_the_clock_know_rq() -> None:
    """design.md: whoever enqueues does it by name, through portal.queue."""
    knowing = {
        _name(p)
        for p in _files(".py", under=("portal",))
        for module, _ in _imports(p)
        if module.split(".")[0] in ("rq", "rq_scheduler")
        if not _name(p).startswith("portal/tasks/") and _name(p) != "portal/queue.py"
    }
    assert knowing == set()


def test_money_knows_no_other_rule() -> None:
    """design.md: the ledger is at the bottom and knows nobody."""
    known = {
        module
        for p in _files(".py", under=("portal/services/ledger",))
        for module, _ in _imports(p)
        if module.startswith("portal.services") and not module.startswith("portal.services.ledger")
    }
    assert known == set()


def test_the_product_does_not_know_that_it_is_tested() -> None:
    """design.md: nothing in portal/ knows the sandbox, the tests or the developer's tools but by URL."""
    strangers = {"sandbox", "tests", "dev", "bench", "pytest", "hypothesis"}
    files = _files(".py", under=("portal",))
    assert {_name(p) for p in files for module, _ in _imports(p) if module.split(".")[0] in strangers} == set()


# --- doors ----------------------------------------------------------------------------------------------------------


def test_every_rule_of_the_url_map_belongs_to_a_door(built: Flask) -> None:
    """design.md, habit 3: an address that is in no door's line has no guard, and is shut."""
    doors: dict[str, Any] = built.extensions["doors"]
    rules = [rule for rule in built.url_map.iter_rules() if rule.endpoint != "static"]
    assert len(rules) > 10
    assert [rule.rule for rule in rules if rule.endpoint.rpartition(".")[0] not in doors] == []


def test_every_door_is_in_the_list_and_has_a_guard(built: Flask) -> None:
    """design.md, habit 3: a blueprint registered elsewhere would pass no guard."""
    listed = {id(door.blueprint) for door in DOORS}
    assert {id(bp) for bp in built.blueprints.values()} == listed
    assert {door.guard for door in DOORS} <= {guards.PUBLIC, guards.USER, guards.STAFF, guards.KEY}
    assert {door.errors for door in DOORS} <= {"page", "openai"}


def test_pages_that_change_something_carry_the_form_token() -> None:
    """A door for people is never exempt from the token; only programs with a key, or nobody at all, are."""
    for_people = [door for door in DOORS if door.guard in (guards.USER, guards.STAFF) or door.errors == "page"]
    assert [door.blueprint.name for door in for_people if not door.csrf] == []


def test_every_form_that_posts_carries_the_token() -> None:
    """contract.md: every form carries csrf_token."""
    form = re.compile(r"<form\b[^>]*method=[\"']post[\"'].*?</form>", re.IGNORECASE | re.DOTALL)
    token = re.compile(r"csrf_token|hidden_tag|csrf_field|\bcsrf\b")
    forms = [(p, text) for p in _files(".html", under=("portal/templates",)) for text in form.findall(p.read_text())]
    assert forms
    assert [_name(p) for p, text in forms if not token.search(text)] == []


@pytest.mark.parametrize("database", ["sqlite:///never-opened.db", "mysql+pymysql://nobody@127.0.0.1:9/none"])
def test_building_the_app_speaks_to_nobody(tmp_path: Path, database: str) -> None:
    """design.md, habit 5: a portal starts while its database and its store are down, and says so on /readyz."""
    environ = portal_environment(tmp_path, DATABASE_URL=database, REDIS_URL="redis://127.0.0.1:9/0")
    with _Eavesdropper() as heard:
        create_app(load_settings(environ))
    assert heard.spoken == []
    with _Eavesdropper() as heard:  # and the eavesdropper is not deaf
        app = create_app(load_settings(environ))
        app.test_client().get("/readyz")
    assert heard.spoken != []


class _Eavesdropper:
    """Hears every connection this process opens, whichever library opens it."""

    current: "_Eavesdropper | None" = None
    hooked = False

    def __init__(self) -> None:
        self.spoken: list[str] = []

    def __enter__(self) -> "_Eavesdropper":
        if not _Eavesdropper.hooked:
            sys.addaudithook(_hear)
            _Eavesdropper.hooked = True
        _Eavesdropper.current = self
        return self

    def __exit__(self, *_: object) -> None:
        _Eavesdropper.current = None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _Eavesdropper.current is not None and event in ("socket.connect", "sqlite3.connect", "socket.getaddrinfo"):
        _Eavesdropper.current.spoken.append(f"{event} {arguments}")


# --- errors ---------------------------------------------------------------------------------------------------------


def test_the_error_tree_has_every_code_of_the_contract_with_its_status() -> None:
    """contract.md, errors: programs of customers branch on these codes."""
    promised = {(status, code) for status, codes in CONTRACT.items() for code in codes - NOT_BUILT_YET}
    told = {(error.status, error.code) for error in errors.API_ERRORS}
    assert promised - told == set()


def test_a_code_that_was_built_is_not_called_missing() -> None:
    """The list of gaps above may only shrink."""
    assert {error.code for error in errors.API_ERRORS} & NOT_BUILT_YET == set()


def test_every_error_has_openais_four_members(built: Flask) -> None:
    """contract.md: message, type, param and code are always there."""
    with built.test_request_context("/v1/models"):
        for error in errors.API_ERRORS:
            names = re.findall(r"%\((\w+)\)s", str(error.sentence))
            values: dict[str, Any] = dict.fromkeys(names, "x")
            body = error(**values).body()["error"]
            assert {"message", "type", "param", "code"} <= body.keys(), error
            assert body["message"], error


# --- pages ----------------------------------------------------------------------------------------------------------

PHYSICAL_CSS = re.compile(
    r"\b(?:margin|padding|border|scroll-margin|scroll-padding)-(?:left|right)\b"
    r"|\bborder-(?:top|bottom)-(?:left|right)-radius\b"
    r"|(?:^|[;{\s])(?:left|right)\s*:"
    r"|\b(?:text-align|float|clear|caption-side)\s*:\s*(?:left|right)\b"
)
PHYSICAL_CLASS = re.compile(
    r"^-?(?:[mp][lr]|scroll-[mp][lr]|left|right)-|^(?:text|float|clear)-(?:left|right)$"
    r"|^(?:rounded)-(?:l|r|tl|tr|bl|br)(?:-|$)|^border-[lr](?:-|$)"
)


def test_styles_know_no_left_and_right() -> None:
    """design.md, habit 12: Arabic runs the other way; a left margin is on the wrong side of half our pages."""
    sheets = _files(".css", under=("portal/static/src",))
    assert sheets
    found = []
    for sheet in sheets:
        text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), sheet.read_text(), flags=re.DOTALL)
        lines = enumerate(text.splitlines(), 1)
        found += [f"{_name(sheet)}:{number}: {line.strip()}" for number, line in lines if PHYSICAL_CSS.search(line)]
    assert found == []


def test_templates_use_no_class_of_left_and_right() -> None:
    """design.md, habit 12."""
    found = []
    for path in _files(".html", under=("portal/templates",)):
        for attribute in re.findall(r"class=\"([^\"]*)\"", path.read_text()):
            found += [f"{_name(path)}: {c}" for c in attribute.split() if PHYSICAL_CLASS.search(c.rpartition(":")[2])]
    assert found == []


def test_the_left_and_right_finders_find() -> None:
    """What the two tests above would let pass, they would let pass for ever."""
    for style in ("margin-left: 1px", "  left: 0;", "a{right:0}", "text-align: right", "border-top-left-radius: 2px"):
        assert PHYSICAL_CSS.search(style), style
    for style in ("margin-inline-start: 1px", "inset-inline-start: 0", "text-align: start", "--right-of-way: 1"):
        assert not PHYSICAL_CSS.search(style), style
    for name in ("ml-2", "-mr-1", "pl-4", "left-0", "text-right", "rounded-tl-lg", "border-r"):
        assert PHYSICAL_CLASS.search(name), name
    for name in ("ms-2", "pe-4", "text-start", "rounded-lg", "border-red", "border-s", "mx-auto"):
        assert not PHYSICAL_CLASS.search(name), name


def test_pages_need_nothing_their_own_content_policy_forbids() -> None:
    """Inline script, inline style and handlers in attributes are refused by the browser without a word."""
    forbidden = re.compile(r"<script(?![^>]*\bsrc=)[^>]*>|<style\b|\sstyle=\"|\son[a-z]+=\"", re.IGNORECASE)
    pages = _files(".html", under=("portal/templates",))
    assert [f"{_name(p)}: {m.group()}" for p in pages for m in forbidden.finditer(p.read_text())] == []

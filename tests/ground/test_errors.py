"""One tree of errors: four members always, a sentence in the language of the moment, one list for docs and answers."""

from typing import Any

import pytest
from flask import Flask
from flask_babel import force_locale

from portal import errors
from portal.errors import API_ERRORS, PortalError

VALUES: dict[str, Any] = {
    "reason": "x", "limit": 5, "model": "m", "capability": "tools", "balance": "1", "required": "2", "plan": "Pro",
    "scope": "write", "nearest": "n", "seconds": 3, "reset": "3s", "waited": 120,
}  # fmt: skip
CONTRACT = {
    "invalid_request": 400, "context_length_exceeded": 400, "unsupported_capability": 400, "missing_api_key": 401,
    "invalid_api_key": 401, "key_expired": 401, "key_revoked": 401, "insufficient_credits": 402,
    "model_not_in_plan": 403, "queue_full": 503, "cloud_budget_exhausted": 503,
    "scope_missing": 403, "account_suspended": 403, "model_not_found": 404, "not_found": 404, "request_too_large": 413,
    "rate_limit_exceeded": 429, "credits_on_hold": 429, "upstream_error": 502, "upstream_timeout": 504,
    "no_provider": 503,
}  # fmt: skip


def every_error() -> list[type[PortalError]]:
    found: list[type[PortalError]] = []

    def walk(kind: type[PortalError]) -> None:
        for child in kind.__subclasses__():
            if not child.__name__.startswith("_"):
                found.append(child)
            walk(child)

    walk(PortalError)
    return found


def test_the_contracts_codes_have_the_contracts_status() -> None:
    """Contract, the table of errors: other people's scripts rely on it."""
    told = {error.code: error.status for error in API_ERRORS}
    assert {code: told.get(code) for code in CONTRACT} == CONTRACT


@pytest.mark.parametrize("language", ["en", "ar"])
@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_each_error_has_four_members_and_a_sentence_in_both_languages(
    app: Flask, kind: type[PortalError], language: str
) -> None:
    """API-01, never-again, "170 missing Arabic strings": SDKs read message, type, param, code."""
    with app.test_request_context(), force_locale(language):
        body = kind(param="p", extra={"more": 1}, **VALUES).body()["error"]
    assert {"message", "type", "param", "code", "more"} == set(body)
    assert isinstance(body["message"], str)
    assert "%(" not in body["message"]
    assert any("\u0600" <= letter <= "\u06ff" for letter in body["message"]) is (language == "ar")
    assert body["param"] == "p"


def test_a_wait_is_never_less_than_a_second() -> None:
    """facts 16: the Node SDK answers `Retry-After: 0` with an immediate retry."""
    assert errors.RateLimitExceeded(retry_after=0, **VALUES).retry_after == 1
    assert ("Retry-After", "1") in errors.NoProvider(retry_after=-5).headers()
    assert errors.NoProvider().headers() == []


def test_every_401_says_how_to_authenticate() -> None:
    """Contract: `WWW-Authenticate: Bearer`."""
    for error in API_ERRORS:
        if error.status == 401:
            assert ("WWW-Authenticate", "Bearer") in error().headers()


def test_only_out_of_credit_is_402_and_nothing_of_it_says_429() -> None:
    """never-again, "Out-of-credit told as 429: every SDK retried it"."""
    assert [error.code for error in API_ERRORS if error.status == 402] == ["insufficient_credits"]
    assert [error.type for error in API_ERRORS if error.type == "insufficient_quota"] == ["insufficient_quota"]

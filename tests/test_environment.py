"""`.env.example` and the settings: the same variables, each with a value that works."""

import itertools
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from portal.config import SettingsError, load_settings, variable_names
from tests.services.environment import ROOT

EXAMPLE = ROOT / ".env.example"
LINE = re.compile(r"^([A-Z_]+)=")


def test_the_example_has_every_variable_of_the_settings_and_no_other() -> None:
    """OPS-03: what the portal reads is what the example shows."""
    shown = [m.group(1) for line in EXAMPLE.read_text().splitlines() if (m := LINE.match(line))]
    assert sorted(shown) == sorted(variable_names())


def test_every_variable_of_the_example_is_explained() -> None:
    """OPS-03: one comment above each."""
    lines = EXAMPLE.read_text().splitlines()
    pairs = itertools.pairwise(lines)
    assert [line for before, line in pairs if LINE.match(line) and not before.startswith("# ")] == []


def test_the_example_as_it_stands_is_accepted(tmp_path: Path) -> None:
    """OPS-01: `cp .env.example .env && make run` works."""
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    assert load_settings(values, instance_dir=tmp_path).portal_env == "development"


def test_the_example_holds_no_secret_that_production_would_take(tmp_path: Path) -> None:
    """OPS-03: whoever goes live with the example's values is stopped, not served with a key the world knows."""
    values = {name: value or "" for name, value in dotenv_values(EXAMPLE).items()}
    values |= {"PORTAL_ENV": "production", "BASE_URL": "https://portal.example.com"}
    with pytest.raises(SettingsError) as refused:
        load_settings(values, instance_dir=tmp_path)
    assert any(problem.startswith("SECRET_KEY") for problem in refused.value.problems)


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    """OPS-03: an operator with three mistakes starts the portal twice, not four times."""
    wrong = {"PORTAL_ENV": "production", "SECRET_KEY": "short", "BASE_URL": "http://x", "QUEUE_LIMIT": "many"}
    with pytest.raises(SettingsError) as refused:
        load_settings(wrong, instance_dir=tmp_path)
    named = {problem.partition(":")[0] for problem in refused.value.problems}
    assert {"SECRET_KEY", "BASE_URL", "QUEUE_LIMIT"} <= named
    assert "short" not in str(refused.value)

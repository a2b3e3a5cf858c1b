"""What holds for every test: no way off this machine, fixtures from `tests/services`, no silent skip in CI."""

from collections.abc import Generator

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.services")  # before anything of it is imported

from tests.services import offline  # noqa: E402
from tests.services.programs import services_are_required  # noqa: E402

pytest_plugins = [
    "tests.services.browser",
    "tests.services.cast",
    "tests.services.databases",
    "tests.services.portal_app",
    "tests.services.redis_server",
    "tests.services.sandbox",
    "tests.services.web",
]

# A slow neighbour on the same two cores is no failure of ours; the same examples on every machine are a help. Without
# the phase that explains a failure by tracing every line: it made what passes many times slower.
_PHASES = [phase for phase in hypothesis.Phase if phase is not hypothesis.Phase.explain]
hypothesis.settings.register_profile("portal", deadline=None, derandomize=True, print_blob=True, phases=_PHASES)
hypothesis.settings.load_profile("portal")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Half of a character in a captured line ended the whole run: what its processes tell each other is UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


LONG = ("work", "races", "tasks", "dev", "payments", "billing", "routing", "pages")
"""Folders whose tests drive real processes or a browser."""


def pytest_configure(config: pytest.Config) -> None:
    offline.shut()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: with two files at a time, the last one was waited for by an idle core."""
    items.sort(key=lambda item: item.path.parent.name not in LONG)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failure, whoever skipped it and why: nobody reads the reasons of a green run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if services_are_required() and exitstatus == 0 and reporter is not None and reporter.stats.get("skipped"):
        reporter.write_line("REQUIRE_SERVICES is set, and tests were skipped: that is a failure.", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

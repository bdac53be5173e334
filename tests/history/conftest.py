"""One place for all runs, and a line on each of them at the end of the test session."""

from collections.abc import Callable, Iterator

import pytest

from tests.history.database import Place, place

RUNS = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def where() -> Iterator[Place]:
    with place() as found:
        yield found


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a line for the end."""
    return request.config.stash.setdefault(RUNS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Whoever ran the tests sees what the runs were."""
    lines = config.stash.get(RUNS, [])
    if lines:
        terminalreporter.section("history checker")
    for line in lines:
        terminalreporter.write_line(line)

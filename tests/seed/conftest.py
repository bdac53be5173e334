"""The numbers of the two runs, at the end of the test session: whoever runs the tests sees them."""

from collections.abc import Callable

import pytest

LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Keeps a line for the end."""
    return request.config.stash.setdefault(LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Shows the lines, if the test was run."""
    lines = config.stash.get(LINES, [])
    if lines:
        terminalreporter.section("the seed's failure")
    for line in lines:
        terminalreporter.write_line(line)

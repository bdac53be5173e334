"""The command line, run in this process in a folder of its own, with a database that is there already."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from sluicegate.cli.app import app
from sluicegate.settings import CONFIG
from sluicegate.store import migrate

WORLD = """\
teams:
  - {slug: payments, name: Payments}
users:
  - {email: alice@example.com, teams: {payments: developer}}
  - {email: bob@example.com}
upstreams:
  - {slug: clock, url: "http://127.0.0.1:1/mcp", team: payments, visibility: team, enabled: false}
servers:
  - {slug: support, team: payments, visibility: team, tools: ["clock__*"]}
"""
"""Its upstream is not enabled, so nothing is listed."""

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "sluicegate.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def home(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one, with a data folder; no setting comes from outside."""
    for name in [name for name in os.environ if name.upper().startswith("SLUICEGATE_")]:
        monkeypatch.delenv(name)
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copy(template, data / "sluicegate.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLUICEGATE_DATA_DIR", str(data))
    monkeypatch.setenv("SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS", "true")
    monkeypatch.setenv(CONFIG, "")  # so that what `--config` puts there is undone
    return tmp_path


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Undoes what commands do to the logging of their process, which here is the tests'."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def run(home: Path, own_logging: None) -> Run:
    """Runs `sluicegate` with these arguments."""

    def run_(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return run_


@pytest.fixture
def peopled(home: Path, run: Run) -> Run:
    """`run`, with the small world applied."""
    (home / "world.yaml").write_text(WORLD)
    assert run("apply", "world.yaml").exit_code == 0
    return run

from pathlib import Path

import pytest

from sluicegate.settings import Settings, variable
from tests.cli.conftest import Run


def line_of(output: str, name: str) -> list[str]:
    return next(line.split() for line in output.splitlines() if line.startswith(f"{name} "))


def test_every_setting_is_listed_with_its_value_and_its_origin(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_PORT", "5000")
    output = run("config").stdout
    assert line_of(output, "SLUICEGATE_PORT")[1:3] == ["5000", "environment"]
    assert line_of(output, "SLUICEGATE_WORKERS")[1:3] == ["1", "default"]
    assert {row.split()[0] for row in output.splitlines()[1:]} == set(map(variable, Settings.model_fields))


def test_the_origin_of_a_setting_in_the_file_is_its_line(run: Run, home: Path) -> None:
    (home / "gateway.env").write_text("SLUICEGATE_WORKERS=3\n")
    output = run("--config", "gateway.env", "config").stdout
    assert line_of(output, "SLUICEGATE_WORKERS")[1:3] == ["3", "gateway.env:1"]


@pytest.mark.parametrize("name", ["SLUICEGATE_JWT_KEYS", "SLUICEGATE_ENCRYPTION_KEY", "SLUICEGATE_METRICS_TOKEN"])
def test_a_secret_is_never_shown(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "swordfish")
    result = run("config")
    assert line_of(result.stdout, name)[1:3] == ["(hidden)", "environment"]
    assert "swordfish" not in result.output


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:swordfish@db:5432/gate", "postgresql://me:***@db:5432/gate"),
        ("postgresql://me@db/gate?password=swordfish", "postgresql://me@db/gate"),
        ("sqlite:////srv/gate.db", "sqlite:////srv/gate.db"),
        ("swordfish", "(hidden)"),
        ("postgresql://me:swordfish@db:port/gate", "(hidden)"),
    ],
)
def test_of_a_database_url_all_but_the_password_is_shown(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, shown: str
) -> None:
    monkeypatch.setenv("SLUICEGATE_DATABASE_URL", url)
    result = run("config")
    assert line_of(result.stdout, "SLUICEGATE_DATABASE_URL")[1] == shown
    assert "swordfish" not in result.output


def test_wrong_settings_end_every_command_with_a_line_each(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICEGATE_PROT", "1")
    monkeypatch.setenv("SLUICEGATE_WORKERS", "0")
    result = run("migrate")
    assert result.exit_code == 1
    assert [line.partition(" ")[0] for line in result.stderr.splitlines()] == ["error:", "error:"]

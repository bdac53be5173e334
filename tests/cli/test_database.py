"""A database that cannot be used ends every command with one line and code 1."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Run

CREATE = ("token", "create", "--user", "alice@example.com")


def refusal(run: Run, *arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.mark.parametrize("arguments", [CREATE, ("migrate",), ("serve", "--port", "0")])
def test_a_database_from_a_newer_version_is_left_alone(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SLUICEGATE_PORT", "0")  # so that what `--port` puts there is undone
    with sqlite3.connect(home / "data" / "sluicegate.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "has a schema that this version does not know" in refusal(run, *arguments)


@pytest.mark.parametrize("arguments", [CREATE, ("serve", "--port", "0")])
def test_more_than_a_worker_may_load_is_refused_before_anything_starts(
    peopled: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("SLUICEGATE_PORT", "0")
    monkeypatch.setenv("SLUICEGATE_MAX_ENTITIES", "1")
    assert "set SLUICEGATE_MAX_ENTITIES to" in refusal(peopled, *arguments)


def test_a_file_that_is_no_database_is_named(run: Run, home: Path) -> None:
    (home / "data" / "sluicegate.db").write_bytes(b"no database" * 1000)
    assert "is not an SQLite database: choose another file" in refusal(run, *CREATE)


LOCK = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(path: Path) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        yield
        assert process.stdin is not None
        process.stdin.close()


def test_a_database_that_another_process_has_locked_is_named(
    peopled: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEGATE_DB_DEADLINE", "0.3")
    with locked_by_another_process(home / "data" / "sluicegate.db"):
        assert "is locked by another process" in refusal(peopled, *CREATE)


def test_a_data_folder_that_cannot_be_made_is_named(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv("SLUICEGATE_DATA_DIR", str(home / "file" / "data"))
    assert refusal(run, *CREATE).startswith(f"error: data directory {home / 'file' / 'data'} cannot be made")


def test_migrate_says_what_it_found(run: Run, home: Path) -> None:
    assert run("migrate").stdout == "the schema is current\n"
    (home / "data" / "sluicegate.db").unlink()
    assert run("migrate").stdout == "the schema was empty: it is current now\n"

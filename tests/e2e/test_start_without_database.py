"""A worker that has to start while the database is away serves 503, lives, and heals by itself."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import Bouncer, Postgres
from tests.e2e.running import command, http, serving, wait_until, workers_of
from tests.support.servers import free_port, fresh_database

PATIENCE = 60.0
DECLARATION = "users:\n  - {email: root@example.com, platform_admin: true}\n"


@pytest.fixture
def bouncer(postgres: Postgres) -> Iterator[Bouncer]:
    """One of its own, so that the others' gateways do not notice."""
    found = Bouncer(postgres.cluster)
    yield found
    found.close()


@pytest.fixture
def settings(postgres: Postgres, bouncer: Bouncer) -> Iterator[Mapping[str, str]]:
    with fresh_database(postgres.cluster) as database:
        url = f"postgresql://sluicegate@127.0.0.1:{bouncer.port}/{database}"
        found = {"SLUICEGATE_DATABASE_URL": url}
        assert command(found, "migrate").returncode == 0
        yield found


def answer(client: httpx2.Client, url: str) -> tuple[int, str]:
    """Status and code; 0 while nobody listens."""
    try:
        got = client.get(url)
    except httpx2.TransportError:
        return 0, ""
    return got.status_code, got.json().get("code", "") if got.status_code >= 400 else ""


def test_a_worker_that_is_killed_while_the_database_is_away_comes_back_and_heals_with_it(
    bouncer: Bouncer, settings: Mapping[str, str], tmp_path: Path
) -> None:
    with serving(tmp_path, settings) as gateway:
        gateway.apply(tmp_path, DECLARATION)
        token = gateway.token("root@example.com")
        with http(token) as client:
            (killed,) = workers_of(gateway.pid)
            teams, ready, health = (f"{gateway.url}/{path}" for path in ("v1/teams", "ready", "health"))
            with bouncer.away():
                os.kill(killed, signal.SIGKILL)
                wait_until(lambda: answer(client, health) == (200, ""), PATIENCE, "another worker lives")
                (successor,) = workers_of(gateway.pid)
                assert successor != killed
                for url in (teams, ready):
                    assert answer(client, url) == (503, "authz_stale")
                assert "retry-after" in client.get(teams).headers
            wait_until(lambda: answer(client, teams) == (200, ""), PATIENCE, "it decides again")
            assert answer(client, ready) == (200, "")
            assert workers_of(gateway.pid) == [successor], "the same one: it was never started anew"


def test_serve_itself_does_not_start_without_the_database_and_names_it(tmp_path: Path) -> None:
    port = free_port()
    nobody = {"SLUICEGATE_DATABASE_URL": f"postgresql://sluicegate@127.0.0.1:{port}/sluicegate"}
    refused = command({**nobody, "SLUICEGATE_DATA_DIR": str(tmp_path)}, "serve", "--port", "0")
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(f"error: PostgreSQL at `127.0.0.1:{port}` cannot be used")

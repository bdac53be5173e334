"""Two instances on one PostgreSQL through PgBouncer: what a client learns of the other one, and how it waits for it."""

import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx2
import pytest
from msgspec import Struct

from tests.e2e.conftest import Postgres
from tests.e2e.running import Caller, Gateway, claims_of, command, end, http, serving, wait_until, workers_of
from tests.support.servers import fresh_database

TRUST = 20
"""Seconds that these instances go on without the database at most."""
PATIENCE = 30.0
FAR = 9_000_000_000
"""A revision that no test comes to."""
WORLD = """
teams:
  - {slug: payments, name: Payments}
users:
  - {email: root@example.com, platform_admin: true}
  - {email: alice@example.com, teams: {payments: developer}}
"""
numbers = count()


class Pair(Struct, frozen=True):
    """Two gateways, and an admin's token."""

    one: Gateway
    other: Gateway
    root: str


@pytest.fixture(scope="module")
def pair(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    with fresh_database(postgres.cluster) as database:
        settings = {
            "SLUICEGATE_DATABASE_URL": f"postgresql://sluicegate@127.0.0.1:{postgres.bouncer.port}/{database}",
            "SLUICEGATE_OUTAGE_BOUND": str(TRUST),
        }
        migrated = command(settings, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        with serving(home, settings) as one, serving(tmp_path_factory.mktemp("other"), one.environment) as other:
            one.apply(home, WORLD)
            yield Pair(one, other, one.token("root@example.com"))


@pytest.fixture
def root(pair: Pair) -> Iterator[httpx2.Client]:
    with http(pair.root) as client:
        client.timeout = PATIENCE
        yield client


@contextmanager
def asleep(gateway: Gateway) -> Iterator[None]:
    workers = workers_of(gateway.pid)
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def revoke(pair: Pair, root: httpx2.Client) -> tuple[str, Any]:
    """A token of alice's that is revoked by way of the first gateway, and what the answer says of instances."""
    token = pair.one.issue(pair.root, "alice@example.com")
    answer = root.post(f"{pair.one.url}/v1/tokens/{claims_of(token)['jti']}/revoke").raise_for_status()
    instances = answer.json()["instances"]
    assert answer.headers["sluicegate-applied"] == f"{instances['applied']} of {instances['known']}"
    return token, instances


def known_to(pair: Pair, root: httpx2.Client) -> int:
    """How many instances a change that is waited for knows of."""
    answer = root.patch(f"{pair.one.url}/v1/teams/payments?wait=all", json={"name": f"Payments {next(numbers)}"})
    return int(answer.headers["sluicegate-applied"].split(" of ")[1])


def test_a_revocation_is_answered_when_both_refuse_the_token(pair: Pair, root: httpx2.Client) -> None:
    for _ in range(3):
        token, instances = revoke(pair, root)
        assert instances == {"applied": 2, "known": 2, "away": []}
        for gateway in (pair.one, pair.other):
            with Caller(f"{gateway.url}/mcp", token) as alice:
                refused = alice.rpc("tools/list")
            assert (refused.status_code, refused.json()["code"]) == (401, "token_revoked")


def test_a_change_that_is_waited_for_is_there_on_the_other_one(pair: Pair, root: httpx2.Client) -> None:
    for _ in range(3):
        email = f"waited-for-{next(numbers)}@example.com"
        made = root.post(f"{pair.one.url}/v1/users?wait=all", json={"email": email})
        assert (made.status_code, made.headers["sluicegate-applied"]) == (201, "2 of 2")
        assert root.get(f"{pair.other.url}/v1/users/{email}").status_code == 200
        gone = root.delete(f"{pair.one.url}/v1/users/{email}?wait=all")
        assert (gone.status_code, gone.headers["sluicegate-applied"]) == (204, "2 of 2")
        assert root.get(f"{pair.other.url}/v1/users/{email}").status_code == 404


def test_who_names_the_revision_reads_its_own_writes_on_the_other_one(pair: Pair, root: httpx2.Client) -> None:
    for _ in range(6):
        slug = f"own-{next(numbers)}"
        revision = root.post(f"{pair.one.url}/v1/teams", json={"slug": slug}).headers["sluicegate-revision"]
        read = root.get(f"{pair.other.url}/v1/teams/{slug}", headers={"Sluicegate-Min-Revision": revision})
        assert read.status_code == 200, read.text
        assert 0 <= float(read.headers["sluicegate-authz-age"]) < PATIENCE


def test_a_token_that_was_just_revoked_is_refused_by_who_is_told_the_revision(pair: Pair, root: httpx2.Client) -> None:
    token = pair.one.issue(pair.root, "alice@example.com")
    revision = root.delete(f"{pair.one.url}/v1/tokens/{claims_of(token)['jti']}").headers["sluicegate-revision"]
    with Caller(f"{pair.other.url}/mcp", token) as alice:
        alice.http.headers["Sluicegate-Min-Revision"] = revision
        assert alice.rpc("tools/list").json()["code"] == "token_revoked"


def test_a_revision_that_does_not_come_is_503_and_nothing_is_decided(pair: Pair, root: httpx2.Client) -> None:
    refused = root.get(f"{pair.one.url}/v1/teams", headers={"Sluicegate-Min-Revision": str(FAR)})
    assert (refused.status_code, refused.json()["code"]) == (503, "revision_not_reached")
    assert int(refused.headers["retry-after"]) >= 1


def test_one_that_sleeps_is_named_with_the_end_of_its_trust_and_comes_back(pair: Pair, root: httpx2.Client) -> None:
    with asleep(pair.other):
        before = time.time()
        _, instances = revoke(pair, root)
        after = time.time()
    assert (instances["applied"], instances["known"]) == (1, 2)
    (away,) = instances["away"]
    assert away["name"].endswith(f":{workers_of(pair.other.pid)[0]}")
    assert before + TRUST <= away["trusted_until"] <= math.ceil(after + TRUST)
    wait_until(lambda: revoke(pair, root)[1]["applied"] == 2, PATIENCE, "the one that slept has caught up")


def test_one_that_has_ended_is_not_known_any_more(pair: Pair, root: httpx2.Client) -> None:
    """The last test of the module: the other instance is gone afterwards."""
    assert known_to(pair, root) == 2
    end(pair.other)
    assert known_to(pair, root) == 1

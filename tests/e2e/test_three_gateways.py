"""Three gateways on one PostgreSQL behind a PgBouncer with four server connections: fault 25 of the list.

As many users as once brought a gateway down, and not one of their requests takes a database connection.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest
from msgspec import Struct

from tests.auth import forge
from tests.e2e.conftest import Postgres
from tests.e2e.forging import signing_key
from tests.e2e.running import Caller, Gateway, claims_of, command, http, serving, unb64, wait_until
from tests.support.servers import Server, fresh_database, pgbouncer, run_as_superuser
from tests.upstream.hostile import Exchange, Hostile, modern

POOL = 4
USERS = 4000
AT_ONCE = 48
READ_EVERY = 10
PATIENCE = 30.0
LIMIT = 110.0
WORLD = """
teams: [{slug: crowd, name: Crowd}]
users: [{email: root@example.com, platform_admin: true}, {email: alice@example.com, teams: {crowd: developer}}]
"""
IMPORT = f"""
BEGIN;
INSERT INTO users (id, email, active, platform_admin)
SELECT 'usr_' || number, number || '@example.com', true, false FROM generate_series(1, {USERS}) AS number;
INSERT INTO memberships (id, user_id, team_id, role)
SELECT users.id || '/' || teams.id, users.id, teams.id, 'developer' FROM users, teams
WHERE users.id IN (SELECT 'usr_' || number FROM generate_series(1, {USERS}) AS number);
UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid();
COMMIT;
"""
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "quick__work", "arguments": {}}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Site(Struct, frozen=True):
    """The gateways, the database behind them, and an admin's token."""

    gateways: list[Gateway]
    cluster: Server
    database: str
    root: str


@pytest.fixture(scope="module")
def site(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("three")
    with (
        fresh_database(postgres.cluster) as database,
        pgbouncer(postgres.cluster, default_pool_size=POOL) as bouncer,
        ExitStack() as running,
    ):
        settings = {
            "SLUICEGATE_DATABASE_URL": bouncer.url(database),
            "SLUICEGATE_DATA_DIR": str(home),
            "SLUICEGATE_PUBLIC_URL": "http://gateway.example",
            "SLUICEGATE_DB_POOL_SIZE": str(POOL),
        }
        migrated = command(settings, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        with ThreadPoolExecutor() as side_by_side:
            folders = [tmp_path_factory.mktemp("instance") for _ in range(3)]
            starting = [side_by_side.submit(running.enter_context, serving(each, settings)) for each in folders]
            gateways = [each.result() for each in starting]
        gateways[0].apply(home, WORLD)
        yield Site(gateways, postgres.cluster, database, gateways[0].token("root@example.com"))


def test_a_revocation_is_answered_with_3_of_3_when_all_three_refuse_the_token(site: Site) -> None:
    for gateway in site.gateways:
        token = gateway.issue(site.root, "alice@example.com")
        with http(site.root) as admin:
            revoke = f"{gateway.url}/v1/tokens/{claims_of(token)['jti']}/revoke"
            answer = admin.post(revoke, timeout=PATIENCE).raise_for_status()
        assert answer.headers["sluicegate-applied"] == "3 of 3"
        assert answer.json()["instances"] == {"applied": 3, "known": 3, "away": []}
        for each in site.gateways:
            with Caller(f"{each.url}/mcp", token) as caller:
                assert caller.rpc("tools/list").json()["code"] == "token_revoked"


def test_a_change_that_waits_is_answered_with_3_of_3(site: Site) -> None:
    with http(site.root) as admin:
        made = admin.post(f"{site.gateways[0].url}/v1/teams?wait=all", json={"slug": "made"}, timeout=PATIENCE)
        assert made.headers["sluicegate-applied"] == "3 of 3"
        for gateway in site.gateways:
            assert admin.get(f"{gateway.url}/v1/teams/made").status_code == 200


async def work(exchange: Exchange) -> None:
    if exchange.rpc == "tools/list":
        await exchange.result({"tools": [{"name": "work", "inputSchema": {"type": "object"}}]})
    else:
        await exchange.result({"content": [{"type": "text", "text": "done"}]})


async def test_4000_users_of_three_gateways_take_no_connection_and_wait_for_none(site: Site) -> None:
    """Changes are made meanwhile: they are the only ones who take any."""
    async with Hostile(modern(work)) as upstream:
        tokens = await asyncio.to_thread(prepared, site, upstream.url)
        before = await asyncio.to_thread(metrics, site)
        done = asyncio.Event()
        async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as group:
            writing = group.create_task(changes(site, done))
            answers = await all_call(site, tokens)
            done.set()
        after = await asyncio.to_thread(metrics, site)
    print(f"{sum(answers.values())} answers to {USERS} users, {writing.result()} changes meanwhile")
    assert answers == {"done": USERS, "read": USERS // READ_EVERY}
    assert writing.result() > 0
    assert total(after, "db_checkouts_total", owner="request") == 0
    admin = [total(each, "db_checkouts_total", owner="admin") for each in (before, after)]
    assert admin[1] - admin[0] == writing.result()
    assert total(after, "db_timeouts_total") == total(before, "db_timeouts_total") == 0


def prepared(site: Site, upstream: str) -> list[str]:
    """Imports the users, with a new epoch; registers the upstream; a token for each user, when all gateways know."""
    with http(site.root) as admin:
        wanted = {"slug": "quick", "url": upstream, "team": "crowd", "visibility": "team"}
        registered = admin.post(f"{site.gateways[0].url}/v1/upstreams", json=wanted, timeout=PATIENCE)
        assert registered.json()["sync"]["ok"], registered.text
        run_as_superuser(site.cluster, IMPORT, site.database)
        last = f"/v1/users/{USERS}@example.com"
        for gateway in site.gateways:
            wait_until(lambda: admin.get(gateway.url + last).status_code == 200, PATIENCE, "all are known")  # noqa: B023
    jwk = signing_key(site.gateways[0])
    header = json.dumps({"alg": "EdDSA", "kid": jwk["kid"], "typ": "at+jwt"}).encode()
    claims = [claims_of(site.root) | {"sub": f"usr_{number}", "jti": f"tok_{number}"} for number in range(1, USERS + 1)]
    return [forge.sealed(header, json.dumps(each).encode(), unb64(jwk["d"])) for each in claims]


async def all_call(site: Site, tokens: list[str]) -> Counter[str]:
    """Each user calls a tool on one of the gateways, and some read an object; what was answered."""
    free, answers = asyncio.Semaphore(AT_ONCE), Counter[str]()
    limits = httpx2.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx2.AsyncClient(verify=False, headers=ACCEPT, timeout=LIMIT, limits=limits) as client:

        async def user(number: int, token: str) -> None:
            url, as_user = site.gateways[number % 3].url, {"Authorization": f"Bearer {token}"}
            async with free:
                answer = await client.post(f"{url}/mcp", json=CALL, headers=as_user)
                answers["done" if '"done"' in answer.text else f"{answer.status_code} {answer.text[:200]}"] += 1
                if number % READ_EVERY == 0:
                    read = await client.get(f"{url}/v1/upstreams/quick", headers=as_user)
                    answers["read" if read.status_code == 200 else f"{read.status_code} {read.text[:200]}"] += 1

        async with asyncio.TaskGroup() as users:
            for number, token in enumerate(tokens):
                users.create_task(user(number, token))
    return answers


async def changes(site: Site, done: asyncio.Event) -> int:
    """How many teams were made, on one gateway after the other, until it is done."""
    made = 0
    async with httpx2.AsyncClient(verify=False, headers={"Authorization": f"Bearer {site.root}"}) as admin:
        while not done.is_set():
            url = f"{site.gateways[made % 3].url}/v1/teams"
            (await admin.post(url, json={"slug": f"meanwhile-{made}"}, timeout=PATIENCE)).raise_for_status()
            made += 1
            await asyncio.sleep(0.1)
    return made


def metrics(site: Site) -> list[dict[str, float]]:
    return [each.metrics() for each in site.gateways]


def total(of_all: list[dict[str, float]], name: str, **labels: str) -> float:
    """The sum over all gateways of the samples with this name and these labels."""
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        value
        for of_one in of_all
        for sample, value in of_one.items()
        if sample.split("{")[0] == name and all(each in sample for each in wanted)
    )

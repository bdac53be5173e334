"""The same API over the real store and feed: what the fakes promise is what the database does."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sluicegate import ledger
from sluicegate.core.identity import Principal
from sluicegate.core.lease import Lease
from sluicegate.ports import Transaction
from sluicegate.store import SqlInstances, migrate, open_database
from sluicegate.usecases.applied import WhoApplied
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.own_instance import OwnInstance
from sluicegate.web.asgi import PRINCIPAL, App, Receive, Scope, Send
from sluicegate.web.rest import RestContext, create_rest_app
from tests.support.memory import FakeClock, FakeEgress, FakeIssuer, FakeSealer, FakeUpstreams
from tests.support.world import NOW, OLGA, ROOT, entities, principal
from tests.web.asgi_client import Response, call

URL = "https://mail.example.com/mcp"
TOOL = b'{"name":"send","inputSchema":{"type":"object"}}'


def fill(tx: Transaction) -> None:
    for entity in entities():
        tx.insert(entity)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    migrate(url)
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    clock = FakeClock(NOW)
    upstreams = FakeUpstreams({URL: [TOOL]})
    feed = DirectoryFeed(database.feed_source(), clock, Lease(2.0, 300.0), upstreams.forget)
    me = OwnInstance(feed, 300.0)
    await database.write(fill)
    await feed.load()
    following = asyncio.create_task(feed.run())
    yield create_rest_app(
        RestContext(
            feed=feed,
            database=database,
            upstreams=upstreams,
            sealer=FakeSealer(),
            egress=FakeEgress(),
            issuer=FakeIssuer(),
            clock=clock,
            who_applied=WhoApplied(me, SqlInstances(database), clock, 3.5),
            metadata_url=lambda _: "http://127.0.0.1/metadata",
            token_max_lifetime=86400.0,
        )
    )
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    database.close()


async def ask(app: App, caller: Principal, method: str, target: str, body: object = None) -> Response:
    """One request; one that reads is held to the law of the data plane: no connection."""

    async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PRINCIPAL] = caller
        with ledger.data_plane() if method == "GET" else contextlib.nullcontext():
            await app(scope, receive, send)

    raw = b"" if body is None else json.dumps(body).encode()
    return await call(authenticated, method, target, headers={"content-type": "application/json"}, body=raw)


async def done(app: App, caller: Principal, method: str, target: str, body: object = None) -> Any:
    response = await ask(app, caller, method, target, body)
    assert response.status in (200, 201, 204), response
    return json.loads(response.body) if response.body else None


async def test_a_writer_reads_its_own_writes(app: App) -> None:
    root, olga = principal(ROOT), principal(OLGA)
    await done(app, root, "POST", "/v1/teams", {"slug": "legal", "name": "Legal"})
    assert (await done(app, root, "GET", "/v1/teams/legal"))["name"] == "Legal"
    await done(app, root, "PUT", "/v1/teams/legal/members/olga@example.com", {"role": "owner"})
    assert len((await done(app, olga, "GET", "/v1/users/me"))["teams"]) == 2
    body = {"slug": "mail", "url": URL, "visibility": "team", "team": "legal"}
    assert (await done(app, olga, "POST", "/v1/upstreams", body))["sync"]["added"] == 1
    moved = await done(app, olga, "PATCH", "/v1/tools/mail__send", {"team": "payments", "enabled": False})
    assert (moved["team"], moved["enabled"]) == ("payments", False)
    server = {"slug": "desk", "visibility": "private", "team": "legal", "tools": ["mail__*"]}
    await done(app, olga, "POST", "/v1/servers", server)
    assert (await done(app, olga, "GET", "/v1/servers/desk"))["tools"][0]["public_name"] == "mail__send"
    made = await done(app, olga, "POST", "/v1/tokens", {"name": "ci", "expires_in": 60, "teams": ["legal"]})
    assert (await done(app, olga, "POST", f"/v1/tokens/{made['id']}/revoke"))["revoked_at"] == NOW
    await done(app, olga, "DELETE", "/v1/teams/legal/members/olga@example.com")
    assert len((await done(app, olga, "GET", "/v1/users/me"))["teams"]) == 1


async def test_conflicts_have_the_codes_that_the_fakes_have(app: App) -> None:
    root = principal(ROOT)
    refusals = {
        "slug_taken": await ask(app, root, "POST", "/v1/teams", {"slug": "search"}),
        "email_taken": await ask(app, root, "POST", "/v1/users", {"email": "Olga@example.com"}),
        "in_use": await ask(app, root, "DELETE", "/v1/teams/payments"),
        "last_admin": await ask(app, root, "DELETE", "/v1/users/me"),
    }
    assert {response.status for response in refusals.values()} == {409}
    assert [json.loads(response.body)["code"] for response in refusals.values()] == list(refusals)


async def test_a_deleted_user_leaves_nothing_private_behind(app: App) -> None:
    root = principal(ROOT)
    await done(app, root, "DELETE", "/v1/users/olga@example.com")
    assert (await ask(app, principal(OLGA), "GET", "/v1/upstreams/diary")).status == 401
    body = {"slug": "diary", "url": URL, "visibility": "team", "team": "payments"}
    assert (await done(app, root, "POST", "/v1/upstreams", body))["upstream"]["slug"] == "diary"


async def test_changes_at_once_do_not_lose_each_other(app: App) -> None:
    """With one connection a second change may be told to try again, but what was answered with success is there."""
    root = principal(ROOT)
    answers = await asyncio.gather(
        *(ask(app, root, "POST", "/v1/teams", {"slug": f"t{number}"}) for number in range(5))
    )
    assert {answer.status for answer in answers} <= {201, 503}
    made = {json.loads(answer.body)["slug"] for answer in answers if answer.status == 201}
    assert made
    listed = {team["slug"] for team in (await done(app, root, "GET", "/v1/teams"))["items"]}
    assert listed == made | {"payments", "search"}

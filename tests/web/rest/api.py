"""The API over fakes, in the world of `tests.support.world`, and the callers who use it."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from sluicegate.core.catalog import Entity
from sluicegate.core.errors import UpstreamFailed
from sluicegate.core.identity import Principal
from sluicegate.usecases.applied import WhoApplied
from sluicegate.usecases.own_instance import OwnInstance
from sluicegate.web.asgi import PRINCIPAL, REQUEST_ID, App, Receive, Scope, Send
from sluicegate.web.rest import RestContext, create_rest_app
from tests.support.instances import FakeInstances
from tests.support.memory import (
    FakeClock,
    FakeDatabase,
    FakeEgress,
    FakeFeed,
    FakeIssuer,
    FakeSealer,
    FakeUpstreams,
)
from tests.support.world import ALICE, BOB, NOW, OLGA, ROOT, VERA, ZOE, principal, world
from tests.web.asgi_client import Response, call

PATIENCE = 0.25
"""Seconds that the answer to a change waits for other instances."""
MAX_LIFETIME = 30 * 86400.0
METADATA = "http://127.0.0.1:4444/.well-known/oauth-protected-resource"

alice, bob, olga, root, vera, zoe = (principal(user_id) for user_id in (ALICE, BOB, OLGA, ROOT, VERA, ZOE))


class OfTheCurrentApi:
    """Stands for a port of the API that is asked now: describing the application takes longer than a test."""

    current: "Api"

    def __init__(self, port: str) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(OfTheCurrentApi.current, self._port), name)


def shared_context() -> RestContext:
    """The fakes of the API that is asked now."""
    asked_now = ("feed", "database", "upstreams", "issuer", "who_applied")
    ports: dict[str, Any] = {port: OfTheCurrentApi(port) for port in asked_now}
    return RestContext(
        **ports,
        sealer=FakeSealer(),
        egress=FakeEgress(),
        clock=FakeClock(NOW),
        metadata_url=lambda _: METADATA,
        token_max_lifetime=MAX_LIFETIME,
    )


@cache
def shared_app() -> App:
    """The application, built once."""
    return create_rest_app(shared_context())


class Api:
    """One gateway's administrative API with everything around it faked."""

    def __init__(self, *changed: Entity, listings: Mapping[str, list[bytes] | UpstreamFailed] | None = None) -> None:
        self.directory = world(*changed)
        self.database = FakeDatabase(self.directory)
        self.feed = FakeFeed(self.directory)
        self.upstreams = FakeUpstreams(listings)
        self.issuer = FakeIssuer()
        self.instances = FakeInstances()
        me = OwnInstance(self.feed, 300.0, "own")
        self.who_applied = WhoApplied(me, self.instances, FakeClock(NOW), PATIENCE)

    async def call(self, caller: Principal, method: str, target: str, body: object = None) -> Response:
        """One request of the caller; `body` is sent as JSON unless it is None."""
        raw = b"" if body is None else json.dumps(body).encode()
        return await self.send(caller, method, target, raw, "application/json")

    async def send(self, caller: Principal, method: str, target: str, raw: bytes, content_type: str) -> Response:
        """One request with a body as it is."""

        async def authenticated(scope: Scope, receive: Receive, send: Send) -> None:
            scope[PRINCIPAL] = caller
            scope[REQUEST_ID] = "req"
            await shared_app()(scope, receive, send)

        OfTheCurrentApi.current = self

        headers = {"content-type": content_type} if raw else {}
        return await call(authenticated, method, target, headers=headers, body=raw)

    async def get(self, caller: Principal, target: str) -> Any:
        """The body of an answer that must be 200."""
        return decoded(await self.call(caller, "GET", target), 200)

    async def names(self, caller: Principal, target: str, field: str = "slug") -> list[str]:
        """One field of each item of a list that must be answered."""
        return [item[field] for item in (await self.get(caller, target))["items"]]


def decoded(response: Response, status: int) -> Any:
    """The JSON of an answer with this status."""
    assert response.status == status, response
    return json.loads(response.body)


def refused(response: Response, status: int, code: str) -> Any:
    """The problem of an answer that must be one."""
    assert response.headers["content-type"] == "application/problem+json", response
    problem = decoded(response, status)
    assert problem["code"] == code, problem
    assert problem["status"] == status
    return problem


def revision(response: Response) -> int:
    """The revision that a change states."""
    return int(response.headers["sluicegate-revision"])

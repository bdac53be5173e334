"""The law that is wired in the router: what serves or reads may not take a database connection."""

import pytest

from sluicegate import ledger
from sluicegate.web.app import Rooms, Router
from sluicegate.web.asgi import Answer, send_answer
from tests.web.asgi_client import call


class Room:
    """Takes a connection, as no room may on the data plane, and answers with what came of it."""

    async def __call__(self, scope, receive, send):
        try:
            with ledger.checkout(ledger.Owner.ADMIN):
                taken = b"taken"
        except ledger.LedgerViolation:
            taken = b"refused"
        await send_answer(send, Answer(200, [], taken))

    async def merged(self, scope, receive, send):
        await self(scope, receive, send)

    async def server(self, name, scope, receive, send):
        await self(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "outcome"),
    [
        ("POST", "/mcp", b"refused"),
        ("POST", "/servers/support/mcp", b"refused"),
        ("GET", "/v1/tools", b"refused"),
        ("HEAD", "/v1/tools", b"refused"),
        ("GET", "/openapi.json", b"refused"),
        ("GET", "/ready", b"refused"),
        ("POST", "/v1/teams", b"taken"),
        ("DELETE", "/v1/teams/x", b"taken"),
    ],
)
async def test_only_a_change_over_rest_may_take_a_connection(method, path, outcome):
    room = Room()
    router = Router(Rooms(room, room, room), lambda _: "http://gw")  # type: ignore[arg-type]
    assert (await call(router, method, path)).body == outcome

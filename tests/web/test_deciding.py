"""What an answer says of the directory that decided it, through the whole stack."""

import json
from collections.abc import Callable

import pytest

from sluicegate.core.errors import AuthorizationStale, Unauthenticated
from sluicegate.core.identity import Principal
from sluicegate.ports import ToolCall, UpstreamAnswer, UpstreamResult
from sluicegate.web.app import Doorway, Rooms, web_app
from sluicegate.web.asgi import App, Message
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.mcp_stream import McpStreams, StreamLimits
from sluicegate.web.metadata import ResourceMetadata
from sluicegate.web.public import OpenMetrics, PublicPages
from tests.support.memory import FakeClock, FakeFeed, FakeUpstreams
from tests.support.world import ALICE, NOW, ROOT, principal
from tests.web.asgi_client import Response, answered, call, http_scope
from tests.web.rest.api import Api, OfTheCurrentApi, shared_app

JSON = {"content-type": "application/json"}
AGE, STATE = "sluicegate-authz-age", "sluicegate-authz-state"
PRINCIPALS = {"alice": principal(ALICE), "root": principal(ROOT)}
CALL = {"name": "clock__now", "arguments": {}}


class Names:
    """Tokens are names."""

    def authenticate(self, token: str) -> Principal:
        if token not in PRINCIPALS:
            raise Unauthenticated("the token was revoked", code="token_revoked")
        return PRINCIPALS[token]


class SlowUpstreams(FakeUpstreams):
    """While one is called, something happens."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    async def call_tool(self, upstream: object, call: ToolCall) -> UpstreamAnswer:
        self.meanwhile()
        return UpstreamResult(b'{"content":[]}')


class AgeingFeed(FakeFeed):
    """A feed whose directory is of any age."""

    def grow_old(self, age: float, *, fresh: bool = True) -> None:
        self.age, self.fresh = age, fresh


class Whole:
    """The whole stack over fakes."""

    def __init__(self) -> None:
        OfTheCurrentApi.current = self.api = Api()
        self.feed = self.api.feed = AgeingFeed(self.api.directory)
        self.feed.age = 0.1299
        self.upstreams = SlowUpstreams()
        metadata = ResourceMetadata(None, "http://127.0.0.1:4444")
        clock = FakeClock(NOW)
        streams = McpStreams(clock, StreamLimits(recheck=2.0))
        mcp = McpEndpoint(self.feed, self.upstreams, clock, metadata.url, streams)
        rooms = Rooms(mcp, shared_app(), PublicPages(metadata, self.feed, OpenMetrics()))
        self.app: App = web_app(rooms, Doorway(Names(), self.feed, metadata.url, (), 10_000))

    async def ask(self, who: str, method: str, target: str, body: object = None) -> Response:
        raw = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        return await call(self.app, method, target, headers={**JSON, "authorization": f"Bearer {who}"}, body=raw)

    async def rpc(self, method: str, params: object, *, path: str = "/mcp") -> Response:
        return await self.ask("alice", "POST", path, {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})


@pytest.fixture
def whole() -> Whole:
    return Whole()


@pytest.mark.parametrize(
    ("who", "method", "target", "body", "status"),
    [
        ("alice", "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, 200),
        ("alice", "POST", "/mcp", b"{", 400),
        ("alice", "POST", "/servers/nowhere/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}, 404),
        ("alice", "GET", "/v1/tools", None, 200),
        ("alice", "GET", "/v1/tools/nothing", None, 404),
        ("alice", "GET", "/v1/nothing", None, 404),
        ("alice", "POST", "/v1/teams", {"slug": "x", "name": "X"}, 403),
        ("root", "POST", "/v1/teams", {"slug": "x", "name": "X"}, 201),
        ("root", "DELETE", "/v1/users/zoe@example.com", None, 204),
        ("revoked", "POST", "/mcp", b"{}", 401),
        ("revoked", "GET", "/v1/tools", None, 401),
    ],
)
async def test_every_answer_that_was_decided_states_the_age_of_what_decided_it(
    whole: Whole, who: str, method: str, target: str, body: object, status: int
) -> None:
    answer = await whole.ask(who, method, target, body)
    assert (answer.status, answer.headers.get(AGE)) == (status, "0.13")
    assert STATE not in answer.headers


async def test_what_nobody_decided_states_no_age(whole: Whole) -> None:
    for target in ("/ready", "/metrics", "/docs", "/openapi.json"):
        answer = await call(whole.app, "GET", target)
        assert (answer.status, AGE in answer.headers) == (200, False)
    no_token = await call(whole.app, "GET", "/v1/tools")
    assert (no_token.status, AGE in no_token.headers) == (401, False)
    whole.feed.stale, whole.feed.fresh = AuthorizationStale("too old"), False
    closed = await whole.ask("alice", "GET", "/v1/tools")
    assert (closed.status, AGE in closed.headers) == (503, False)


async def test_an_outage_is_marked_where_calls_go_on(whole: Whole) -> None:
    whole.feed.grow_old(17.0, fresh=False)
    for answer in (await whole.rpc("tools/call", CALL), await whole.ask("alice", "GET", "/v1/tools")):
        assert (answer.status, answer.headers[AGE], answer.headers[STATE]) == (200, "17.00", "outage")
    refused = await whole.ask("revoked", "GET", "/v1/tools")
    assert (refused.status, refused.headers[STATE]) == (401, "outage")


async def test_the_age_is_that_of_the_decision_and_not_that_of_the_answer(whole: Whole) -> None:
    whole.upstreams.meanwhile = lambda: whole.feed.grow_old(40.0, fresh=False)
    answer = await whole.rpc("tools/call", CALL)
    assert (answer.status, answer.headers[AGE]) == (200, "0.13")
    assert STATE not in answer.headers


async def test_a_request_whose_body_took_its_time_is_decided_by_what_holds_then(whole: Whole) -> None:
    whole.feed.grow_old(1.0, fresh=False)
    sent: list[Message] = []

    async def receive() -> Message:
        whole.feed.grow_old(0.2)
        return {"type": "http.request", "body": b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'}

    async def send(message: Message) -> None:
        sent.append(message)

    await whole.app(http_scope("POST", "/mcp", {**JSON, "authorization": "Bearer alice"}), receive, send)
    answer = answered(sent)
    assert (answer.status, answer.headers[AGE]) == (200, "0.20")
    assert STATE not in answer.headers

"""`subscriptions/listen` in process: what is sent when, to whom, and what is left when a stream has ended."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY

from sluicegate.core.catalog import Kind, Token, membership_id
from sluicegate.core.errors import AuthorizationStale
from sluicegate.core.identity import Principal, TokenId
from sluicegate.core.permissions import Role
from sluicegate.protocol import modern
from sluicegate.protocol.sse import COMMENT
from sluicegate.protocol.subscriptions import SUBSCRIPTION_ID
from sluicegate.usecases.watch_list import QUIET
from sluicegate.web.asgi import PRINCIPAL, Message, Scope
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.mcp_stream import McpStreams, StreamLimits
from tests.support.memory import FakeClock, FakeUpstreams
from tests.support.stepped import PATIENCE, SteppedFeed
from tests.support.world import ALICE, BOB, CLOCK, NOW, PAYMENTS, SEARCH, ZOE, member, principal, tool, user, world
from tests.web.asgi_client import Response, answered, call, http_scope

META = {modern.PROTOCOL_VERSION: modern.VERSION, modern.CLIENT_CAPABILITIES: {}}
LIMITS = StreamLimits(recheck=2.0, most=3, keep_alive=5.0, send_within=60.0)
TOOLS = {"toolsListChanged": True}
CHANGED = "notifications/tools/list_changed"
GAUGE = "mcp_streams_open"
TURNS = 20
"""Of the event loop: more than a stream needs until it waits again, as nothing it meets here takes time."""


def request_body(method: str = "subscriptions/listen", id: str = "7", **params: object) -> bytes:
    content = json.dumps({**params, "_meta": META})
    return f'{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{content}}}'.encode()


def headers_of(method: str = "subscriptions/listen", **more: str) -> dict[str, str]:
    stated = {"content-type": "application/json", "mcp-protocol-version": modern.VERSION, "mcp-method": method}
    return stated | {name.replace("_", "-"): value for name, value in more.items()}


class Stream:
    """One answer that stays open, read message by message; its client reads nothing while `reading` is not set."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self._new = asyncio.Condition()
        self._read = 0
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.task: asyncio.Task[None]

    async def receive(self) -> Message:
        return await self._incoming.get()

    async def send(self, message: Message) -> None:
        await self.reading.wait()
        async with self._new:
            self.sent.append(message)
            self._new.notify_all()

    def hand_in(self, message: Message) -> None:
        self._incoming.put_nowait(message)

    def leave(self) -> None:
        """The client closes the connection."""
        self.hand_in({"type": "http.disconnect"})

    async def raw(self) -> bytes:
        """The next part of the body."""
        async with asyncio.timeout(PATIENCE), self._new:
            await self._new.wait_for(lambda: len(self.sent) > self._read + 1)
        self._read += 1
        return bytes(self.sent[self._read]["body"])

    async def message(self) -> Any:
        """The next part, which must be one event with a message."""
        content = await self.raw()
        assert content.startswith(b"data: ")
        assert content.endswith(b"\n\n")
        return json.loads(content[len(b"data: ") :])

    async def over(self) -> Response:
        """The whole answer, once it is."""
        async with asyncio.timeout(PATIENCE):
            await self.task
        return answered(self.sent)

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", False)


class Gate:
    """The endpoint with a feed that is stepped by hand."""

    def __init__(self, limits: StreamLimits = LIMITS) -> None:
        self.feed = SteppedFeed(world())
        self.clock = FakeClock(NOW)
        self.streams = McpStreams(self.clock, limits)
        self.mcp = McpEndpoint(self.feed, FakeUpstreams(), self.clock, lambda scope: "http://gw/x", self.streams)

    async def app(self, who: Principal, server: str | None, scope: Scope, receive: Any, send: Any) -> None:
        scope[PRINCIPAL] = who
        if server is None:
            await self.mcp.merged(scope, receive, send)
        else:
            await self.mcp.server(server, scope, receive, send)

    @asynccontextmanager
    async def listening(
        self, who: Principal, *, server: str | None = None, id: str = "7", wanted: object = TOOLS
    ) -> AsyncIterator[Stream]:
        """A stream that was acknowledged; its client leaves at the end."""
        stream = Stream()
        scope = http_scope("POST", "/mcp", headers_of(accept="application/json, text/event-stream"))
        stream.hand_in({"type": "http.request", "body": request_body(id=id, notifications=wanted)})
        stream.task = asyncio.create_task(self.app(who, server, scope, stream.receive, stream.send))
        try:
            assert (await stream.message())["method"] == "notifications/subscriptions/acknowledged"
            yield stream
        finally:
            stream.leave()
            await asyncio.wait([stream.task], timeout=PATIENCE)
            assert stream.task.cancelled() or stream.task.exception() is None

    async def post(self, who: Principal, body: bytes, headers: dict[str, str], server: str | None = None) -> Response:
        """A request that is answered at once."""

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            await self.app(who, server, scope, receive, send)

        return await call(app, "POST", "/mcp", headers=headers, body=body)

    def put_tool(self, name: str) -> None:
        self.feed.put(tool(CLOCK, name))

    async def look_of(self, *streams: Stream) -> None:
        """Each stream looks once, in the order in which they began to wait, and says what it has to say."""
        for _ in streams:
            await self.feed.step()
        for _ in range(TURNS):
            await asyncio.sleep(0)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def revoked(user_id: str = ALICE) -> Token:
    return Token(TokenId(f"tok_{user_id}"), ALICE, "t", 0, 0, int(NOW), None, None, None)


def open_streams() -> float:
    return REGISTRY.get_sample_value(GAUGE) or 0.0


# --- what is sent -------------------------------------------------------------------------------------------------


async def test_the_answer_is_a_stream_that_nobody_buffers_or_keeps(gate):
    async with gate.listening(principal(ALICE)) as stream:
        start = stream.sent[0]
    assert start["status"] == 200
    assert dict(start["headers"]) == {
        b"content-type": b"text/event-stream",
        b"cache-control": b"no-cache",
        b"x-accel-buffering": b"no",
    }


@pytest.mark.parametrize(
    ("wanted", "honoured"),
    [(TOOLS, TOOLS), ({**TOOLS, "promptsListChanged": True, "resourceSubscriptions": ["a://b"]}, TOOLS), ({}, {})],
)
async def test_the_first_message_says_what_will_be_told(gate, wanted, honoured):
    async with gate.listening(principal(ALICE), wanted=wanted) as stream:
        first = stream.sent[1]["body"]
    params = {"notifications": honoured, "_meta": {SUBSCRIPTION_ID: 7}}
    message = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
    assert json.loads(first.removeprefix(b"data: ")) == message


async def test_a_change_is_told_with_the_id_of_the_request_byte_for_byte(gate):
    async with gate.listening(principal(ALICE), id='"\\u00e9 1.50"') as stream:
        gate.put_tool("new")
        await gate.look_of(stream)
        told = await stream.raw()
    assert told == (
        b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed",'
        b'"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"\\u00e9 1.50"}}}\n\n'
    )


async def test_what_was_not_asked_for_is_not_told(gate):
    async with gate.listening(principal(ALICE), wanted={"promptsListChanged": True}) as stream:
        gate.put_tool("new")
        await gate.look_of(stream)
        gate.clock.now += LIMITS.keep_alive
        await gate.look_of(stream)
        assert await stream.raw() == COMMENT


async def test_a_stream_that_is_silent_for_long_says_so(gate):
    async with gate.listening(principal(ALICE)) as stream:
        for _ in range(2):
            await gate.look_of(stream)
            gate.clock.now += LIMITS.keep_alive
            await gate.look_of(stream)
            assert await stream.raw() == COMMENT


async def test_changes_of_one_second_are_one_event(gate):
    async with gate.listening(principal(ALICE)) as stream:
        for name in ("a", "b", "c"):
            gate.put_tool(name)
            await gate.look_of(stream)
        gate.clock.now += QUIET
        await gate.look_of(stream)
        gate.clock.now += LIMITS.keep_alive
        await gate.look_of(stream)
        assert [(await stream.message())["method"] for _ in range(2)] == [CHANGED, CHANGED]
        assert await stream.raw() == COMMENT


async def test_each_is_told_what_concerns_it_and_by_its_own_id(gate):
    async with gate.listening(principal(ALICE), id="1") as alice, gate.listening(principal(BOB), id="2") as bob:
        gate.feed.put(member(ALICE, SEARCH, Role.VIEWER))
        await gate.look_of(alice, bob)
        gate.clock.now += QUIET
        gate.feed.put(member(BOB, PAYMENTS, Role.VIEWER))
        await gate.look_of(alice, bob)
        gate.clock.now += LIMITS.keep_alive
        await gate.look_of(alice, bob)
        for stream, id in ((alice, 1), (bob, 2)):
            assert (await stream.message())["params"] == {"_meta": {SUBSCRIPTION_ID: id}}
            assert await stream.raw() == COMMENT


# --- the right to listen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "code"),
    [(revoked(), "token_revoked"), (user(ALICE, active=False), "user_inactive")],
    ids=["revoked", "user inactive"],
)
async def test_a_stream_ends_with_the_error_that_a_request_would_get(gate, lost, code):
    async with gate.listening(principal(ALICE), id='"x"') as stream:
        await gate.look_of(stream)
        gate.put_tool("new")
        gate.feed.put(lost)
        await gate.look_of(stream)
        last = await stream.message()
        await stream.over()
    assert stream.complete
    assert (last["id"], last["error"]["data"]) == ("x", {"code": code})
    refused = await gate.post(principal(ALICE), request_body("tools/list"), headers_of("tools/list"))
    assert (json.loads(refused.body)["code"], json.loads(refused.body)["detail"]) == (code, last["error"]["message"])


async def test_a_stream_ends_when_its_token_expires_although_nothing_changes(gate):
    async with gate.listening(principal(ALICE, expires_at=NOW + 60)) as stream:
        gate.clock.now += 60
        await gate.look_of(stream)
        assert (await stream.message())["error"]["data"] == {"code": "token_expired"}
        await stream.over()


async def test_on_a_server_a_stream_ends_with_the_right_to_use_it_as_if_it_had_never_been(gate):
    async with gate.listening(principal(ALICE), server="support") as stream:
        gate.feed.change(Kind.MEMBERSHIP, membership_id(ALICE, PAYMENTS), None)
        await gate.look_of(stream)
        last = (await stream.message())["error"]
        await stream.over()
    refused = await gate.post(principal(ZOE), request_body(notifications=TOOLS), headers_of(), server="support")
    missing = json.loads(refused.body)
    assert (last["message"], last["data"]["code"]) == (missing["detail"], missing["code"])


async def test_a_stream_ends_when_nothing_may_be_decided_any_more_and_goes_on_in_an_outage(gate):
    async with gate.listening(principal(ALICE)) as stream:
        gate.feed.fresh = False
        gate.put_tool("new")
        await gate.look_of(stream)
        assert (await stream.message())["method"] == CHANGED
        gate.feed.stale = AuthorizationStale("too old")
        await gate.look_of(stream)
        assert (await stream.message())["error"]["data"] == {"code": "authz_stale"}
        await stream.over()


async def test_the_right_is_looked_at_again_within_the_bound(gate):
    async with gate.listening(principal(ALICE)):
        assert (await gate.feed.step()).at_most <= LIMITS.recheck


# --- who may not listen -------------------------------------------------------------------------------------------


async def test_a_request_without_a_filter_is_invalid_params(gate):
    response = await gate.post(principal(ALICE), request_body(), headers_of())
    assert (response.status, json.loads(response.body)["error"]["code"]) == (400, -32602)


async def test_a_client_that_takes_no_events_is_refused(gate):
    body = request_body(notifications=TOOLS)
    response = await gate.post(principal(ALICE), body, headers_of(accept="application/json"))
    assert (response.status, json.loads(response.body)["error"]["code"]) == (406, -32600)


@pytest.mark.parametrize("name", ["support", "nothing"])
async def test_a_server_that_is_not_the_callers_cannot_be_listened_to(gate, name):
    response = await gate.post(principal(BOB), request_body(notifications=TOOLS), headers_of(), server=name)
    assert response.status == 404


async def test_the_legacy_era_has_no_such_method_and_is_promised_no_news(gate):
    headers = {"content-type": "application/json", "mcp-protocol-version": "2025-11-25"}
    listen = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": {"notifications": TOOLS}}
    answer = await gate.post(principal(ALICE), json.dumps(listen).encode(), headers)
    assert json.loads(answer.body)["error"]["code"] == -32601
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    answer = await gate.post(principal(ALICE), json.dumps(hello).encode(), headers)
    assert json.loads(answer.body)["result"]["capabilities"] == {"tools": {}}


async def test_the_modern_era_is_promised_news_of_tools(gate):
    answer = await gate.post(principal(ALICE), request_body("server/discover"), headers_of("server/discover"))
    assert json.loads(answer.body)["result"]["capabilities"] == {"tools": {"listChanged": True}}


async def test_more_streams_than_a_worker_has_room_for_are_refused_until_one_ends(gate):
    async with AsyncExitStack() as others:
        for _ in range(LIMITS.most - 1):
            await others.enter_async_context(gate.listening(principal(ALICE)))
        async with gate.listening(principal(BOB)):
            refused = await gate.post(principal(BOB), request_body(notifications=TOOLS), headers_of())
        async with gate.listening(principal(BOB)):
            pass
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert json.loads(refused.body)["error"]["data"] == {"code": "too_many_streams"}


# --- how it ends --------------------------------------------------------------------------------------------------


async def test_a_client_that_leaves_ends_its_stream_and_nothing_is_left_of_fifty(gate):
    gate = Gate(StreamLimits(recheck=2.0))
    before, tasks = open_streams(), asyncio.all_tasks()
    async with AsyncExitStack() as clients:
        streams = [await clients.enter_async_context(gate.listening(principal(ALICE))) for _ in range(50)]
        assert open_streams() == before + 50
        for stream in streams:
            stream.leave()
        for stream in streams:
            await stream.over()
        assert open_streams() == before
        assert asyncio.all_tasks() == tasks
        assert not any(stream.complete for stream in streams)


async def test_nothing_is_left_of_a_stream_that_was_refused_or_cancelled(gate):
    before, tasks = open_streams(), asyncio.all_tasks()
    async with gate.listening(principal(ALICE)) as stream:
        gate.feed.put(revoked())
        await gate.look_of(stream)
        await stream.over()
    async with gate.listening(principal(BOB)) as stream:
        stream.task.cancel()
    assert stream.task.cancelled()
    assert open_streams() == before
    assert asyncio.all_tasks() == tasks


async def test_a_client_that_does_not_read_is_waited_for_and_given_nothing_to_keep(gate):
    async with gate.listening(principal(ALICE)) as stream:
        stream.reading.clear()
        gate.put_tool("a")
        await gate.look_of(stream)
        for number in range(100):  # nobody looks meanwhile: the stream waits for its client
            gate.put_tool(f"t{number}")
            gate.clock.now += QUIET
        stream.reading.set()
        assert (await stream.message())["method"] == CHANGED
        await gate.look_of(stream)
        assert (await stream.message())["method"] == CHANGED
        gate.clock.now += LIMITS.keep_alive
        await gate.look_of(stream)
        assert await stream.raw() == COMMENT


@pytest.mark.parametrize(
    "limits",
    [StreamLimits(recheck=60.0, send_within=0.05), StreamLimits(recheck=0.05, send_within=60.0)],
    ids=["the patience", "the bound, as the right cannot be looked at meanwhile"],
)
async def test_a_client_that_does_not_read_for_too_long_is_left(limits):
    gate = Gate(limits)
    before = open_streams()
    async with gate.listening(principal(ALICE)) as stream:
        stream.reading.clear()
        gate.put_tool("a")
        await gate.look_of(stream)
        await stream.over()
    assert open_streams() == before
    assert not stream.complete


async def test_at_the_end_every_stream_gets_its_result_and_no_new_one_begins(gate):
    async with gate.listening(principal(ALICE), id="1") as alice, gate.listening(principal(BOB), id='"b"') as bob:
        gate.streams.end()
        for stream, id in ((alice, 1), (bob, "b")):
            result = {"resultType": "complete", "_meta": {SUBSCRIPTION_ID: id}}
            assert await stream.message() == {"jsonrpc": "2.0", "id": id, "result": result}
            await stream.over()
            assert stream.complete
    refused = await gate.post(principal(ALICE), request_body(notifications=TOOLS), headers_of())
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert json.loads(refused.body)["error"]["data"] == {"code": "ending"}


async def test_the_end_reaches_a_stream_whose_client_does_not_read():
    gate = Gate(StreamLimits(recheck=2.0, send_within=0.05))
    async with gate.listening(principal(ALICE)) as stream:
        stream.reading.clear()
        gate.put_tool("a")
        await gate.look_of(stream)
        gate.streams.end()
        await stream.over()

"""The outer layers: request ids, the last catch, Host and Origin, the body limit."""

import json

import pytest
from prometheus_client import REGISTRY

from sluicegate.core.errors import ConfigurationError, DatabaseBusy, SluicegateError
from sluicegate.web.asgi import REQUEST_ID, Answer, App, Message, Receive, Scope, Send, read_body, send_answer
from sluicegate.web.doorway import BodyLimit, HostAndOrigin, RequestBoundary, entrance
from tests.web.asgi_client import Headers, call, http_scope


def metadata_url(_: Scope) -> str:
    return "http://gw.example/.well-known/oauth-protected-resource"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body, and the request's id if there is one."""
    body = await read_body(receive)
    await send_answer(send, Answer(200, [(b"x-inside", scope.get(REQUEST_ID, "").encode())], body))


def failing(error: Exception, *, after: int = 0) -> App:
    """An app that fails after so many messages of its answer."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


def total(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


# --- request boundary -----------------------------------------------------------------------------------------------


async def test_each_request_gets_an_id_of_ours_inside_and_in_the_answer() -> None:
    app = RequestBoundary(echo, metadata_url)
    ids = []
    for _ in range(2):
        status, headers, _body = await call(app, "GET", "/x", headers={"X-Request-Id": "chosen-by-the-caller"})
        assert (status, headers["x-inside"]) == (200, headers["x-request-id"])
        ids.append(headers["x-request-id"])
    assert len({*ids, "chosen-by-the-caller"}) == 3


async def test_an_unforeseen_failure_is_counted_and_answered_without_its_text() -> None:
    before = total("unexpected_errors_total", place="web")
    app = RequestBoundary(failing(ZeroDivisionError("a secret detail")), metadata_url)
    status, headers, body = await call(app, "POST", "/mcp")
    assert (status, headers["content-type"]) == (500, "application/problem+json")
    assert json.loads(body)["code"] == "internal"
    assert json.loads(body)["instance"] == headers["x-request-id"]
    assert b"secret" not in body
    assert total("unexpected_errors_total", place="web") == before + 1


async def test_an_error_of_the_tree_is_answered_as_what_it_is_and_is_not_a_bug() -> None:
    before = total("unexpected_errors_total", place="web")
    status, headers, body = await call(RequestBoundary(failing(DatabaseBusy("busy")), metadata_url), "POST", "/v1/x")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["code"] == "database_unavailable"
    assert total("unexpected_errors_total", place="web") == before


@pytest.mark.parametrize("error", [ZeroDivisionError("late"), SluicegateError("late")])
async def test_a_failure_in_the_middle_of_an_answer_reaches_the_server(error: Exception) -> None:
    with pytest.raises(type(error)):
        await call(RequestBoundary(failing(error, after=1), metadata_url), "GET", "/x")


async def test_requests_are_counted_by_entrance_and_class_of_status() -> None:
    seen = {"entrance": "mcp", "status": "2xx"}, {"entrance": "rest", "status": "5xx"}
    before = [total("http_requests_total", **labels) for labels in seen]
    await call(RequestBoundary(echo, metadata_url), "POST", "/servers/support/mcp")
    await call(RequestBoundary(failing(ZeroDivisionError()), metadata_url), "GET", "/v1/tools")
    assert [total("http_requests_total", **labels) for labels in seen] == [count + 1 for count in before]


@pytest.mark.parametrize(
    "path, name",
    [("/mcp", "mcp"), ("/servers/a/mcp", "mcp"), ("/v1/tools", "rest"), ("/health", "open"), ("/mcp2", "other")],
)
def test_a_path_belongs_to_an_entrance(path: str, name: str) -> None:
    assert entrance(path) == name


async def test_a_websocket_is_closed_before_anything_inside_sees_it() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    await RequestBoundary(failing(AssertionError()), metadata_url)({"type": "websocket"}, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


# --- host and origin ------------------------------------------------------------------------------------------------

GATE = HostAndOrigin(echo, ["gw.example.com", "GW2.internal", "[2001:DB8::0:1]"])


async def code_of(app: App, headers: Headers, path: str = "/mcp") -> str:
    status, _, body = await call(app, "POST", path, headers=headers)
    return "" if status == 200 else f"{status} {json.loads(body)['code']}"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "127.0.0.1:65535",
        "[::1]",
        "[0:0:0:0:0:0:0:1]:4444",
        "gw.example.com",
        "gw.example.com:8443",
        "gw2.internal",
        "[2001:db8::1]",
    ],
)
async def test_our_names_are_accepted_with_any_port(host: str) -> None:
    assert await code_of(GATE, {"Host": host}) == ""
    assert await code_of(GATE, {"Host": host, "Origin": f"http://{host}"}) == ""


STRANGE = [
    "",
    "evil.example",
    "gw.example.com.evil.example",
    "evilgw.example.com",
    "127.0.0.1.evil.example",
    "127.0.0.2",
    "0.0.0.0:4444",
    "10.0.0.1",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::1].evil.example",
    "[::1",
    "::1",
    "localhost:x",
    "localhost:123456",
    "localhost@evil.example",
    "localhost/evil.example",
    "localhost,evil.example",
    "localhost evil.example",
    "localhost\x00",
    "löcalhost",
]


@pytest.mark.parametrize("host", STRANGE)
async def test_other_names_are_refused(host: str) -> None:
    assert await code_of(GATE, {"Host": host}) == "403 host_refused"
    assert await code_of(GATE, {"Host": "localhost", "Origin": f"http://{host}"}) == "403 origin_refused"


@pytest.mark.parametrize("origin", ["null", "", "localhost", "file://localhost", "http://localhost/", "http://"])
async def test_what_is_not_the_origin_of_a_page_of_ours_is_refused(origin: str) -> None:
    assert await code_of(GATE, {"Origin": origin}) == "403 origin_refused"


async def test_two_hosts_or_a_second_origin_do_not_slip_through() -> None:
    assert await code_of(GATE, [("Host", "localhost"), ("Host", "localhost")]) == "403 host_refused"
    assert (
        await code_of(GATE, [("Origin", "http://localhost"), ("Origin", "http://evil.example")]) == "403 origin_refused"
    )


async def test_a_request_without_a_host_is_refused() -> None:
    scope = http_scope("POST", "/mcp")
    scope["headers"] = []
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    await GATE(scope, receive, send)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_probes_may_name_us_by_address(path: str) -> None:
    assert await code_of(GATE, {"Host": "10.0.0.1:4444"}, path) == ""


@pytest.mark.parametrize("name", ["https://gw.example.com", "gw.example.com:443", "", "*", "a b", "[::1]:1"])
def test_a_configured_name_that_could_never_match_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name or address alone"):
        HostAndOrigin(echo, [name])


# --- body limit -----------------------------------------------------------------------------------------------------


def limited(inner: App = echo) -> App:
    return RequestBoundary(BodyLimit(inner, 10), metadata_url)


async def test_a_body_of_the_limit_passes() -> None:
    assert (await call(limited(), "POST", "/mcp", body=b"x" * 10)).body == b"x" * 10
    assert (await call(limited(), "POST", "/mcp", body=[b"x" * 5, b"y" * 5])).body == b"x" * 5 + b"y" * 5


@pytest.mark.parametrize("length", ["11", "9" * 19, "9" * 5000, "-1", "ten", "1e1", "٣", "5, 11"])
async def test_a_stated_length_beyond_the_limit_is_refused_unread(length: str) -> None:
    app = limited(failing(AssertionError("the body was read")))
    headers = [("Content-Length", length.encode().decode("latin-1"))]
    status, _, body = await call(app, "POST", "/mcp", headers=headers)
    assert (status, json.loads(body)["code"]) == (413, "too_large")


async def test_the_largest_of_two_lengths_counts() -> None:
    headers = [("Content-Length", "1"), ("Content-Length", "11")]
    assert (await call(limited(), "POST", "/mcp", headers=headers)).status == 413


async def test_a_chunked_body_is_counted_while_it_is_read() -> None:
    taken: list[bytes] = []

    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            taken.append((await receive())["body"])

    status, _, body = await call(limited(reader), "POST", "/mcp", body=[b"x" * 6, b"x" * 4, b"x", b"never read"])
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    assert b"".join(taken) == b"x" * 10

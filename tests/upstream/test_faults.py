"""What an upstream may do to a call: each fault ends in its own error, in time, with a clear sentence and no secret."""

import asyncio
import datetime as dt
import gzip
import json
import socket
import ssl
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sluicegate.core.catalog import BearerAuth, Era
from sluicegate.core.errors import UpstreamFailed, UpstreamInvalid, UpstreamTimeout, UpstreamUnreachable
from sluicegate.ports import UpstreamRefusal
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.upstream.transport import Limits
from tests.upstream.calls import ID, call, result_of, upstream_at
from tests.upstream.hostile import Exchange, Hostile, Script, echo

SECRET = "s3cret-of-the-upstream"
FAST = Limits(call=0.2, connect=0.1, max_answer=10_000)


async def outcome(script: Script, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher) -> UpstreamFailed:
    """The error of one call, after which the upstream gets a second chance and must be fine."""
    misbehave = True

    async def once(exchange: Exchange) -> None:
        if misbehave:
            await script(exchange)
        else:
            await echo(exchange)

    async with Hostile(once) as server:
        upstream = upstream_at(server.url, Era.MODERN, BearerAuth(cipher.seal(ID, SECRET)))
        with pytest.raises(UpstreamFailed) as caught:
            await upstreams.call_tool(upstream, call())
        misbehave = False
        assert result_of(await upstreams.call_tool(upstream, call(n=2)))["echo"]["arguments"] == {"n": 2}
        assert all(exchange.headers["authorization"] == f"Bearer {SECRET}" for exchange in server.seen)
    assert str(caught.value).startswith("upstream `search` ")
    assert SECRET not in str(caught.value)
    return caught.value


def answering(status: int, body: bytes, content_type: str = "application/json", *headers: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(status, body.replace(b"ID", str(exchange.json["id"]).encode()), content_type, *headers)

    return script


GOOD = b'{"jsonrpc":"2.0","id":ID,"result":{"content":[]}}'

INVALID = {
    "html": (answering(200, b"<html>", "text/html"), "neither JSON nor an event stream"),
    "no content type": (answering(200, GOOD, ""), "neither JSON nor an event stream"),
    "accepted without an answer": (answering(202, b"", "application/json"), "not a JSON-RPC message"),
    "another id": (answering(200, GOOD.replace(b"ID", b"9ID")), "another request"),
    "the id as a string": (answering(200, GOOD.replace(b"ID", b'"ID"')), "another request"),
    "the id null": (answering(200, GOOD.replace(b"ID", b"null")), "another request"),
    "an error with the id null": (
        answering(200, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":""}}'),
        "another request",
    ),
    "the id as a float": (answering(200, GOOD.replace(b"ID", b"ID.0")), "another request"),
    "no id": (answering(200, GOOD.replace(b'"id":ID,', b"")), "another request"),
    "a notification": (answering(200, b'{"jsonrpc":"2.0","method":"x"}'), "another request"),
    "a batch": (answering(200, b"[" + GOOD + b"]"), "not a JSON-RPC message"),
    "json cut short": (answering(200, GOOD[:-1]), "not a JSON-RPC message"),
    "json and more": (answering(200, GOOD + b" x"), "not a JSON-RPC message"),
    "not a number": (answering(200, GOOD.replace(b"[]", b"NaN")), "not a JSON-RPC message"),
    "bytes that are not UTF-8": (answering(200, GOOD.replace(b"[]", b'"\xff"')), "not a JSON-RPC message"),
    "result and error": (
        answering(200, GOOD.replace(b"}}", b'},"error":{"code":1,"message":""}}')),
        "neither a result",
    ),
    "neither result nor error": (answering(200, b'{"jsonrpc":"2.0","id":ID}'), "neither a result"),
    "a result that is no object": (answering(200, GOOD.replace(b'{"content":[]}', b"[1]")), "neither a result"),
    "an error that is no object": (answering(200, b'{"jsonrpc":"2.0","id":ID,"error":"x"}'), "not a JSON-RPC error"),
    "another JSON-RPC": (answering(200, GOOD.replace(b"2.0", b"1.0")), "not a JSON-RPC message"),
    "500 in html": (answering(500, b"<html>", "text/html"), "HTTP 500"),
    "503 with a result": (answering(503, GOOD.replace(b"ID", b"9ID")), "HTTP 503"),
    "503 with our own result": (answering(503, GOOD), "HTTP 503"),
    "429 in json": (answering(429, b'{"detail":"slow down"}'), "HTTP 429"),
    "redirect": (answering(307, b"", "text/html", "Location: http://169.254.169.254/"), "redirects are not followed"),
    "redirect with a good body": (answering(302, GOOD), "redirects are not followed"),
    "gzip": (answering(200, gzip.compress(b"x" * 100), "application/json", "Content-Encoding: gzip"), "compressed"),
    "a session id with blanks": (answering(200, GOOD, "application/json", "Mcp-Session-Id: a b"), "session id"),
    "an endless session id": (answering(200, GOOD, "application/json", "Mcp-Session-Id: " + "a" * 1025), "session id"),
    "oversized, announced": (answering(200, b"x" * 10_001), "more than 10000 bytes"),
}


@pytest.fixture
def limits() -> Limits:
    return FAST


@pytest.mark.parametrize("name", INVALID)
async def test_an_answer_that_is_not_ours_is_invalid(
    name: str, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    script, words = INVALID[name]
    error = await outcome(script, upstreams, cipher)
    assert isinstance(error, UpstreamInvalid)
    assert words in str(error)


@pytest.mark.parametrize("limits", [Limits(call=5.0, connect=1.0, max_answer=1_000_000)])
async def test_a_nesting_bomb_is_invalid(upstreams: StreamableHttpUpstreams, cipher: CredentialCipher) -> None:
    bomb = GOOD.replace(
        b"[]", b"[" * 400_000 + b"]" * 400_000
    )  # Python 3.12 and later go down ten times as far as 3.11
    error = await outcome(answering(200, bomb), upstreams, cipher)
    assert isinstance(error, UpstreamInvalid)
    assert "nested too deeply" in str(error)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_the_upstreams_failure_and_not_a_challenge_to_the_caller(
    status: int, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    body = b'{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"no"}}'
    script = answering(status, body, "application/json", 'WWW-Authenticate: Bearer realm="theirs"')
    error = await outcome(script, upstreams, cipher)
    assert error.code == "upstream_credential_refused"
    assert str(error) == f"upstream `search` refused our credential (HTTP {status}): check its `auth`"


@pytest.mark.parametrize("line", [b"\n", b":\n", b"x\n"])
async def test_a_stream_of_lines_that_say_nothing_is_cut_early_and_leaves_others_their_turn(
    line: bytes, cipher: CredentialCipher
) -> None:
    upstreams = StreamableHttpUpstreams(
        AddressGuard(allow_private=True), cipher, Limits(call=5, connect=2, max_answer=8_000_000)
    )
    streamed, turns = asyncio.Event(), 0

    async def endless(exchange: Exchange) -> None:
        await exchange.start_stream()
        streamed.set()
        while True:
            await exchange.chunk(line * 500_000)

    async def others() -> None:
        nonlocal turns
        await streamed.wait()
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with Hostile(endless) as server:
        counting = asyncio.create_task(others())
        with pytest.raises(UpstreamInvalid, match="more than 8000000 bytes, or in too many lines"):
            await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        counting.cancel()
        await upstreams.close()
    assert turns >= 5


async def closes_at_once(exchange: Exchange) -> None:
    exchange.hang_up()


async def resets(exchange: Exchange) -> None:
    exchange.reset()


async def closes_in_the_head(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    exchange.hang_up()


async def closes_in_the_body(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + GOOD)
    exchange.hang_up()


async def resets_in_the_body(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + GOOD)
    exchange.reset()


async def closes_between_events(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
    exchange.hang_up()


async def closes_in_an_event(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.chunk(b"data: " + GOOD.replace(b"ID", str(exchange.json["id"]).encode()) + b"\n")
    exchange.hang_up()


async def ends_the_stream_without_an_answer(exchange: Exchange) -> None:
    await exchange.start_stream()
    await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"] + 1, "result": {}})
    await exchange.send(b"0\r\n\r\n")


BREAKS = [
    closes_at_once,
    resets,
    closes_in_the_head,
    closes_in_the_body,
    resets_in_the_body,
    closes_between_events,
    closes_in_an_event,
    ends_the_stream_without_an_answer,
]


@pytest.mark.parametrize("script", BREAKS, ids=lambda script: script.__name__)
async def test_a_connection_that_breaks_is_an_unreachable_upstream(
    script: Script, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    assert isinstance(await outcome(script, upstreams, cipher), UpstreamUnreachable)


def raw(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.hang_up()

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
GARBAGE = {
    "no http": raw(b"220 smtp.example.com ESMTP\r\n"),
    "a head without end": raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000),
    "a thousand headers": raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
    "a chunk size that is no number": raw(CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than announced": raw(CHUNKED + b"\r\n2\r\n{}{}{}\r\n0\r\n\r\n"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}"),
    "a length and chunks": raw(CHUNKED + b"Content-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "a header with a null": raw(b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n"),
    "a negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"),
    "switching protocols": raw(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_garbage_instead_of_http_is_the_upstreams_failure(
    name: str, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    error = await outcome(GARBAGE[name], upstreams, cipher)
    assert isinstance(error, UpstreamInvalid | UpstreamUnreachable)


async def test_a_port_where_nobody_listens_is_unreachable(upstreams: StreamableHttpUpstreams) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/mcp"
        with pytest.raises(
            UpstreamUnreachable, match=r"^upstream `search` cannot be connected to: connection refused$"
        ):
            await upstreams.call_tool(upstream_at(url), call())


async def test_a_name_without_an_address_is_unreachable(upstreams: StreamableHttpUpstreams) -> None:
    with pytest.raises(UpstreamUnreachable, match="has no address"):
        await upstreams.call_tool(upstream_at("http://nobody.invalid/mcp"), call())


async def test_tls_where_there_is_none_is_unreachable(upstreams: StreamableHttpUpstreams) -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        with pytest.raises(UpstreamUnreachable, match="does not speak TLS as its URL says"):
            await upstreams.call_tool(upstream_at(url), call())


def self_signed(folder: Path) -> ssl.SSLContext:
    """The server's side of TLS with a certificate for 127.0.0.1 that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.fromtimestamp(time.time(), dt.UTC)
    day = dt.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pair.pem"
    clear = serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, clear)
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    upstreams: StreamableHttpUpstreams, tmp_path: Path
) -> None:
    async with Hostile(echo, self_signed(tmp_path)) as server:
        with pytest.raises(UpstreamUnreachable, match="a TLS certificate that is not trusted"):
            await upstreams.call_tool(upstream_at(server.url.replace("http:", "https:"), Era.MODERN), call())
        assert server.seen == []


async def never_answers(exchange: Exchange) -> None:
    await exchange.closed()


async def stops_in_the_body(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{")
    await exchange.closed()


async def sends_events_without_end(exchange: Exchange) -> None:
    """Comments, notifications, requests of its own, other answers: anything but the answer."""
    await exchange.start_stream()
    await exchange.chunk(b": keep-alive\n\n")
    await exchange.event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
    await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"], "method": "ping"})
    await exchange.event({"jsonrpc": "2.0", "id": 7, "method": "sampling/createMessage", "params": {}})
    await exchange.event({"jsonrpc": "2.0", "id": exchange.json["id"] + 1, "result": {}})
    await exchange.chunk(b"event: other\ndata: not json\n\n")
    await exchange.closed()


@pytest.mark.parametrize("script", [never_answers, stops_in_the_body, sends_events_without_end])
async def test_the_deadline_ends_every_wait(
    script: Script, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    began = time.monotonic()
    error = await outcome(script, upstreams, cipher)
    assert isinstance(error, UpstreamTimeout)
    assert str(error) == "upstream `search` did not answer within 0.2 s"
    assert time.monotonic() - began < 2


async def test_one_byte_at_a_time_does_not_extend_the_deadline(
    upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    async def trickles(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9000\r\n\r\n")
        while True:
            await exchange.send(b" ")
            await asyncio.sleep(0.01)

    assert isinstance(await outcome(trickles, upstreams, cipher), UpstreamTimeout)


async def test_an_upstream_that_does_not_accept_a_connection_is_given_up_at_the_connect_timeout(
    upstreams: StreamableHttpUpstreams,
) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):  # fill the queue of connections that nobody accepts
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        try:
            with pytest.raises(UpstreamTimeout, match=r"did not accept a connection within 0\.1 s"):
                await upstreams.call_tool(upstream_at(f"http://127.0.0.1:{full.getsockname()[1]}/"), call())
        finally:
            for each in waiting:
                each.close()


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
async def test_an_answer_without_end_is_cut_at_the_limit(
    kind: str, upstreams: StreamableHttpUpstreams, cipher: CredentialCipher
) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        while True:
            await exchange.send(b": x\n\n" * 100)

    error = await outcome(endless, upstreams, cipher)
    assert isinstance(error, UpstreamInvalid)
    assert "more than 10000 bytes" in str(error)


async def test_a_proper_error_passes_as_it_came_whatever_the_status(upstreams: StreamableHttpUpstreams) -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.error(-32602, status=exchange.json["params"]["arguments"]["status"], data={"x": [1]})

    async with Hostile(refuses) as server:
        for status in (200, 400, 404, 422, 500):
            answer = await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call(status=status))
            assert isinstance(answer, UpstreamRefusal)
            assert json.loads(answer.error) == {"code": -32602, "message": "no", "data": {"x": [1]}}
        assert len(server.seen) == 5


async def test_a_result_passes_byte_for_byte(upstreams: StreamableHttpUpstreams) -> None:
    odd = b'{ "b":1.0, "a" : 1e400, "a":12345678901234567890123, "\\u00e9": "\\u001b[31m\xc3\xa9", "isError": true }'
    async with Hostile(answering(200, GOOD.replace(b'{"content":[]}', odd))) as server:
        answer = await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())
        assert getattr(answer, "result", b"") == odd


async def test_what_is_read_of_an_ambiguous_envelope_is_what_passes(upstreams: StreamableHttpUpstreams) -> None:
    body = b'{"jsonrpc":"2.0","result":{"first":1},"id":0,"Result":{"other":1},"id":ID,"result":{"last":1}}'
    async with Hostile(answering(200, body)) as server:
        assert result_of(await upstreams.call_tool(upstream_at(server.url, Era.MODERN), call())) == {"last": 1}

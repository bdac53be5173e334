"""Requests that must be refused, by name, each with the status and the stable code of its refusal."""

import gzip
import json
from collections.abc import Callable

from msgspec import Struct

from tests.e2e.wire import LIST, chunked, head, post

UNKNOWN = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"clock__nothing"}}'
TEN_MB = b" " * 10_000_000
MODERN = ["MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/call", "Mcp-Name: clock__now"]


class Sent(Struct, frozen=True):
    """What is sent (a token makes the bytes), and the status and code that must come back."""

    request: Callable[[str], bytes]
    status: int
    code: object


def rpc(body: bytes, status: int, code: object, *headers: str, path: str = "/mcp") -> Sent:
    """A message in proper HTTP from alice."""
    return Sent(lambda token: post(body, f"Authorization: Bearer {token}", *headers, path=path), status, code)


def raw(method: str, path: str, *headers: str, status: int, code: object, body: bytes = b"") -> Sent:
    """Bytes from alice that are framed by the headers given."""
    return Sent(lambda token: head(method, path, f"Authorization: Bearer {token}", *headers) + body, status, code)


def of_host(host: str) -> Sent:
    """A request from alice to a gateway of another name."""
    return Sent(lambda token: head("GET", "/mcp", f"Authorization: Bearer {token}", host=host), 403, "host_refused")


def call(name: str, version: str = "2026-07-28") -> bytes:
    """A modern `tools/call`."""
    prefix = "io.modelcontextprotocol/"
    meta = {f"{prefix}protocolVersion": version, f"{prefix}clientCapabilities": {}}
    params = {"name": name, "arguments": {}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"

MESSAGES = {
    "unknown tool": rpc(UNKNOWN, 200, -32602),
    "unknown server": rpc(LIST, 404, "not_found", path="/servers/nothing/mcp"),
    "unknown method": rpc(b'{"jsonrpc":"2.0","id":1,"method":"tools/drop"}', 200, -32601),
    "unknown method, modern": rpc(
        call("x").replace(b"tools/call", b"tools/drop"), 404, -32601, MODERN[0], "Mcp-Method: tools/drop"
    ),
    "unknown version": rpc(
        call("clock__now", "2031-01-01"), 400, -32022, "MCP-Protocol-Version: 2031-01-01", *MODERN[1:]
    ),
    "no meta": rpc(LIST, 400, -32602, MODERN[0], "Mcp-Method: tools/list"),
    "malformed": rpc(b'{"jsonrpc":"2.0","id":1,"method":', 400, -32700),
    "trailing data": rpc(LIST + b"{}", 400, -32700),
    "byte order mark": rpc(b"\xef\xbb\xbf" + LIST, 400, -32700),
    "not UTF-8": rpc(LIST.replace(b"list", b"\xff"), 400, -32700),
    "UTF-16": rpc(LIST.decode().encode("utf-16"), 400, -32700),
    "NaN as id": rpc(LIST.replace(b"1", b"NaN", 1), 400, -32700),
    "nested": rpc(
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, -32700
    ),
    "empty": rpc(b"", 400, -32700),
    "no object": rpc(b'"tools/list"', 400, -32600),
    "batch": rpc(b"[" + LIST + b"]", 400, -32600),
    "response": rpc(b'{"jsonrpc":"2.0","id":1,"result":{}}', 400, -32600),
    "huge id": rpc(LIST.replace(b":1,", b":" + b"1" * 300 + b","), 400, -32600),
    "duplicate method": rpc(LIST[:-1] + b',"method":"ping"}', 400, -32600),
    "duplicate name": rpc(UNKNOWN.replace(b'"name"', b'"name":"clock__now","name"'), 400, -32600),
    "duplicate name, escaped": rpc(UNKNOWN.replace(b'"name"', rb'"n\u0061me":"clock__now","name"'), 400, -32600),
    "Name beside name": rpc(UNKNOWN.replace(b'"name"', b'"Name":"clock__now","name"'), 400, -32600),
    "Params beside params": rpc(UNKNOWN[:-1] + b',"Params":{"name":"clock__now"}}', 400, -32600),
    "Method": rpc(LIST.replace(b"method", b"Method"), 400, -32600),
    "header contradicts name": rpc(call("web__fetch"), 400, -32020, *MODERN),
    "header contradicts method": rpc(call("clock__now"), 400, -32020, MODERN[0], "Mcp-Method: tools/list", MODERN[2]),
    "header contradicts version": rpc(call("clock__now"), 400, -32020, "MCP-Protocol-Version: 2025-11-25", *MODERN[1:]),
    "header twice": rpc(call("clock__now"), 400, -32020, *MODERN, MODERN[2]),
    "header missing": rpc(call("clock__now"), 400, -32020, *MODERN[:2]),
}

FRAMING = {
    "10 MB": rpc(TEN_MB, 413, "too_large"),
    "10 MB in chunks": raw("POST", "/mcp", JSON, CHUNKED, status=413, code="too_large", body=chunked(TEN_MB)),
    "10 MB promised": raw("POST", "/mcp", JSON, "Content-Length: 10000000", status=413, code="too_large"),
    "10 MB to the API": rpc(TEN_MB, 413, "too_large", path="/v1/teams"),
    "both lengths, in chunks": raw(
        "POST", "/mcp", JSON, "Content-Length: 5", CHUNKED, status=413, code="too_large", body=chunked(TEN_MB)
    ),
    "both lengths, none true": raw(
        "POST", "/mcp", JSON, f"Content-Length: {len(LIST)}", CHUNKED, status=400, code="incomplete_body", body=LIST
    ),
    "broken chunk": raw("POST", "/mcp", JSON, CHUNKED, status=400, code="incomplete_body", body=b"zz\r\n{}"),
    "broken chunk to the API": raw(
        "POST", "/v1/teams", JSON, CHUNKED, status=400, code="incomplete_body", body=b"zz\r\n{}"
    ),
    "two lengths": raw("POST", "/mcp", JSON, "Content-Length: 46", "Content-Length: 4", status=400, code=None),
    "negative length": raw("POST", "/mcp", JSON, "Content-Length: -1", status=400, code=None),
    "endless length": raw("POST", "/mcp", JSON, f"Content-Length: {'9' * 30}", status=400, code=None),
    "odd encoding": raw("POST", "/mcp", JSON, "Transfer-Encoding: xchunked", status=400, code=None),
    "gzip": rpc(gzip.compress(LIST), 400, -32700, "Content-Encoding: gzip"),
    "text": Sent(lambda token: post(LIST, f"Authorization: Bearer {token}", content_type="text/plain"), 415, -32600),
    "no content type": raw("POST", "/mcp", f"Content-Length: {len(LIST)}", status=415, code=-32600, body=LIST),
    "two content types": rpc(LIST, 415, -32600, JSON),
    "header of 1 MB": rpc(LIST, 431, None, f"X-Long: {'a' * 1_000_000}"),
    "300 headers": rpc(LIST, 431, None, *(f"X-{number}: a" for number in range(300))),
    "folded header": rpc(LIST, 400, None, "X-Folded: a\r\n b"),
    "NUL in a header": rpc(LIST, 400, None, "X-Nul: a\0b"),
    "blank in the path": rpc(LIST, 400, None, path="/ mcp"),
    "TLS": Sent(lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, None),
}

METHODS = {
    f"{method} {path}": raw(
        method, path, status=status, code="not_found" if status == 404 and method != "HEAD" else None
    )
    for method in ("GET", "HEAD", "DELETE", "OPTIONS", "PUT", "PATCH", "TRACE", "post")
    for path, status in (("/mcp", 405), ("/servers/support/mcp", 405), ("/servers/nothing/mcp", 404))
}

PATHS = {
    path: rpc(LIST, 404, "not_found", path=path)
    for path in (
        "//mcp",
        "/mcp/",
        "/./mcp",
        "/mcp;x",
        "/mcp%00",
        "/mcp%20",
        "/MCP",
        "/servers/../mcp",
        "/servers/%2e%2e/mcp",
        "/servers/..%2f..%2fmcp",
        "/servers/%2e%2e%2fmcp",
        "/servers//mcp",
        "/servers/mcp",
        "/SERVERS/support/mcp",
        "/servers/support/mcp/",
        "/servers/support%00/mcp",
        "/servers/support/../support/mcp",
        "/servers/support%2f..%2fsupport/mcp",
        "/v1/../mcp",
        "/v1/tools/..%2f..%2fmcp",
        "/health/../mcp",
        "/docs/../mcp",
        "/docs/%2e%2e/mcp",
        "/docs/..%2fmcp",
    )
}

ORIGINS = {
    f"Origin {origin}": rpc(LIST, 403, "origin_refused", f"Origin: {origin}")
    for origin in ("http://evil.example", "null", "http://localhost@evil.example", "http://localhost.evil.example", "")
}
HOSTS = {
    f"Host {host}": of_host(host)
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "127.0.0.1, evil.example", "")
}

CREDENTIALS = {
    "none": Sent(lambda _: post(LIST), 401, "token_missing"),
    "two": rpc(LIST, 400, "ambiguous_credential", "Authorization: Bearer another"),
    "a cookie besides": rpc(LIST, 400, "ambiguous_credential", "Cookie: sluicegate_session=another"),
    "in the query besides": rpc(LIST, 400, "ambiguous_credential", path="/mcp?access_token=another"),
    "in the query alone": Sent(
        lambda token: post(LIST, path=f"/mcp?access_token={token}"), 400, "ambiguous_credential"
    ),
    "basic": Sent(lambda _: post(LIST, "Authorization: Basic YWxpY2U6c2VjcmV0"), 401, "token_missing"),
    "garbage": Sent(lambda _: post(LIST, "Authorization: Bearer garbage"), 401, "token_malformed"),
    "of 60 kB": Sent(lambda _: post(LIST, f"Authorization: Bearer {'e' * 60_000}"), 401, "token_malformed"),
    "cut": Sent(lambda token: post(LIST, f"Authorization: Bearer {token[:-1]}"), 401, "token_malformed"),
}

ALL = MESSAGES | FRAMING | METHODS | PATHS | ORIGINS | HOSTS | CREDENTIALS

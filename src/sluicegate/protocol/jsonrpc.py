"""One JSON-RPC message in, strictly: what was judged is what is sent on.

Only the envelope is parsed; values stay bytes (`msgspec.Raw`). At each level that decides something, duplicate keys and
keys that differ from a known one in case only are refused, because some upstream's parser would read them otherwise.
Source: JSON-RPC 2.0; MCP 2025-06-18 and later (no batches).
"""

from enum import IntEnum
from functools import cache

import msgspec
from msgspec import Raw, Struct

MAX_ID = 256
"""Longest accepted request id, bytes of JSON."""

ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
PARAMS = frozenset(
    {"name", "arguments", "_meta", "uri", "cursor", "notifications", "protocolVersion", "capabilities", "clientInfo"}
)
META_PREFIX = "io.modelcontextprotocol/"
"""Keys of one hop: they are judged here and made anew for the upstream, never forwarded."""
META = frozenset({META_PREFIX + "protocolVersion", META_PREFIX + "clientCapabilities", META_PREFIX + "clientInfo"})

Members = dict[str, Raw]
NO_MEMBERS: Members = {}


class Code(IntEnum):
    """JSON-RPC's codes and those that MCP 2026-07-28 adds."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    HEADER_MISMATCH = -32020
    MISSING_CLIENT_CAPABILITY = -32021
    UNSUPPORTED_PROTOCOL_VERSION = -32022


class ProtocolError(Exception):
    """The message breaks the protocol. `status` is the HTTP status, `id` the raw request id where it could be read."""

    def __init__(self, code: Code, message: str, *, status: int = 400, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.data = data
        self.id: bytes | None = None


class Request(Struct, frozen=True, gc=False):
    """A request, or a notification where `id` is None. `id` is the id's JSON, `params` and `meta` one level deep."""

    id: bytes | None
    method: str
    params: Members
    meta: Members


_members = msgspec.json.Decoder(Members)
_string = msgspec.json.Decoder(str)


def parse(body: bytes) -> Request:
    """The one message in `body`. Raises ProtocolError."""
    try:
        body.isascii() or body.decode()  # msgspec does not look at the encoding of what it leaves raw
        envelope = _members.decode(body)
    except msgspec.ValidationError:
        what = "a batch is not accepted: send one message" if body.lstrip()[:1] == b"[" else "expected one JSON object"
        raise ProtocolError(Code.INVALID_REQUEST, what) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ProtocolError(Code.PARSE_ERROR, "the body is not well-formed JSON") from None
    request_id = _request_id(envelope.get("id"))
    try:
        _refuse_ambiguous(envelope, body, ENVELOPE)
        return _request(envelope, request_id)
    except ProtocolError as error:
        error.id = request_id
        raise


def members(raw: Raw, known: frozenset[str], what: str) -> Members:
    """The members of the object `raw`, values as bytes. `what` names it in the error."""
    content = bytes(raw)
    try:
        found = _members.decode(content)
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError(Code.INVALID_PARAMS, f"`{what}` must be an object") from None
    _refuse_ambiguous(found, content, known)
    return found


def text(raw: Raw | None, what: str) -> str:
    """The string that `raw` holds. `what` names it in the error."""
    if raw is None:
        raise ProtocolError(Code.INVALID_PARAMS, f"`{what}` is missing")
    try:
        return _string.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProtocolError(Code.INVALID_PARAMS, f"`{what}` must be a string") from None


def result_body(request_id: bytes, result: bytes) -> bytes:
    """The response that carries `result`, whose bytes are not touched."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (request_id, result)


def error_body(request_id: bytes | None, error: bytes) -> bytes:
    """The response that carries an error object; the id is null where the request's could not be read."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (request_id or b"null", error)


def error_object(code: int, message: str, data: object = None) -> bytes:
    """The JSON of an error object; `data` is left out when None."""
    content: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        content["data"] = data
    return msgspec.json.encode(content)


def _request(envelope: Members, request_id: bytes | None) -> Request:
    if envelope.get("jsonrpc") != Raw(b'"2.0"'):
        raise ProtocolError(Code.INVALID_REQUEST, '`jsonrpc` must be "2.0"')
    if "method" not in envelope:
        raise ProtocolError(Code.INVALID_REQUEST, "`method` is missing; responses are not accepted here")
    try:
        method = _string.decode(envelope["method"])
    except msgspec.DecodeError:
        raise ProtocolError(Code.INVALID_REQUEST, "`method` must be a string") from None
    params = members(envelope["params"], PARAMS, "params") if "params" in envelope else NO_MEMBERS
    meta = members(params["_meta"], META, "params._meta") if "_meta" in params else NO_MEMBERS
    return Request(request_id, method, params, meta)


def _request_id(raw: Raw | None) -> bytes | None:
    if raw is None:
        return None
    content = bytes(raw)
    if len(content) > MAX_ID or content[:1] not in b'"-0123456789':
        raise ProtocolError(Code.INVALID_REQUEST, f"`id` must be a string or a number of at most {MAX_ID} bytes")
    return content


def _refuse_ambiguous(found: Members, content: bytes, known: frozenset[str]) -> None:
    """Raises on duplicate keys and on case variants of `known`.

    A key that fell away as a duplicate is missing when the object is encoded again; white space is taken out of both
    first where the lengths differ. A key that is written with needless escapes differs too, and is refused as well.
    """
    encoded = msgspec.json.encode(found)
    if len(encoded) != len(content) and _compact(encoded) != _compact(content):
        raise ProtocolError(Code.INVALID_REQUEST, "duplicate keys, or keys with escapes, are not accepted")
    for key in found:
        if key not in known and key.casefold() in _folded(known):
            raise ProtocolError(Code.INVALID_REQUEST, f"`{key}` differs from a known key in case only")


def _compact(content: bytes) -> bytes:
    try:
        return msgspec.json.format(content, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError(Code.PARSE_ERROR, "the body is nested too deeply") from None


@cache
def _folded(known: frozenset[str]) -> frozenset[str]:
    return frozenset(key.casefold() for key in known)

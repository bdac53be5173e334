"""MCP 2026-07-28: stateless, every request carries its version and capabilities in `_meta` and repeats them in headers.

Source: specification 2026-07-28, base protocol and streamable HTTP transport.
"""

import base64
import binascii
import re
from typing import NoReturn

import msgspec
from msgspec import Raw, Struct

from sluicegate.protocol import legacy
from sluicegate.protocol.jsonrpc import META_PREFIX, Code, ProtocolError, Request, text

VERSION = "2026-07-28"
VERSIONS = (VERSION,)

PROTOCOL_VERSION = META_PREFIX + "protocolVersion"
CLIENT_CAPABILITIES = META_PREFIX + "clientCapabilities"
CLIENT_INFO = META_PREFIX + "clientInfo"
SERVER_INFO = META_PREFIX + "serverInfo"

NAME_OF = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
"""Which param of a method `Mcp-Name` repeats."""

_SENTINEL = re.compile(r"=\?base64\?([A-Za-z0-9+/]*={0,2})\?=")


class MirrorHeaders(Struct, frozen=True, gc=False):
    """All values of the headers that repeat parts of the body, blanks trimmed."""

    version: list[str]
    method: list[str]
    name: list[str]


def speaks_modern(request: Request, version_header: list[str]) -> bool:
    """True for a request of the modern era, well-formed or not: then its errors must be modern too."""
    if PROTOCOL_VERSION in request.meta:
        return True
    return any(value not in legacy.VERSIONS for value in version_header) and request.method != "initialize"


def check(request: Request, headers: MirrorHeaders) -> None:
    """Raises ProtocolError unless `_meta` is complete, the headers repeat the body, and we speak the version."""
    missing = [key for key in (PROTOCOL_VERSION, CLIENT_CAPABILITIES) if key not in request.meta]
    if PROTOCOL_VERSION in missing and headers.version and headers.version[0] not in VERSIONS:
        _refuse_version(headers.version[0][:80])  # not of this era's form, and of no version of the other
    if missing:
        raise ProtocolError(Code.INVALID_PARAMS, f"`params._meta` lacks {' and '.join(missing)}")
    if bytes(request.meta[CLIENT_CAPABILITIES])[:1] != b"{":
        raise ProtocolError(Code.INVALID_PARAMS, f"`{CLIENT_CAPABILITIES}` must be an object")
    version = text(request.meta[PROTOCOL_VERSION], PROTOCOL_VERSION)
    _match("MCP-Protocol-Version", headers.version, version)
    _match("Mcp-Method", headers.method, request.method)
    if request.method in NAME_OF:
        _match("Mcp-Name", headers.name, text(request.params.get(NAME_OF[request.method]), NAME_OF[request.method]))
    if version not in VERSIONS:
        _refuse_version(version)


def decoded_header(value: str) -> str | None:
    """The value a mirror header stands for: itself, or what its base64 sentinel encodes; None if that is malformed."""
    if not (value.startswith("=?base64?") and value.endswith("?=")):
        return value
    found = _SENTINEL.fullmatch(value)
    if found is None:
        return None
    try:
        content = base64.b64decode(found[1], validate=True)
        return content.decode() if base64.b64encode(content).decode() == found[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def completed(result: bytes) -> bytes:
    """`result` with `resultType`, which this era requires: one without it, as legacy upstreams give, is complete."""
    try:
        if msgspec.json.decode(result, type=_Typed).resultType is not msgspec.UNSET:
            return result
    except msgspec.DecodeError:
        return result
    rest = result.lstrip()[1:].lstrip()
    return b'{"resultType":"complete"' + (b"" if rest[:1] == b"}" else b",") + rest


def wants_input(result: bytes) -> bool:
    """True when the result is not complete but asks the client for something (`input_required`)."""
    if b'"resultType"' not in result:
        return False
    try:
        kind = msgspec.json.decode(result, type=_Typed).resultType
    except msgspec.DecodeError:
        return False
    return kind is not msgspec.UNSET and kind != Raw(b'"complete"')


def discover_result(capabilities: dict[str, object], name: str, version: str) -> bytes:
    """The result of `server/discover`. Lists differ by token, so nothing of it may be shared between callers."""
    return msgspec.json.encode(
        {
            "resultType": "complete",
            "supportedVersions": list(VERSIONS),
            "capabilities": capabilities,
            "ttlMs": 0,
            "cacheScope": "private",
            "_meta": {SERVER_INFO: {"name": name, "version": version}},
        }
    )


def error_status(error: bytes) -> int:
    """The HTTP status that belongs to an error object of this era (streamable HTTP, status codes)."""
    try:
        return _STATUS.get(msgspec.json.decode(error, type=_Coded).code, 200)
    except msgspec.DecodeError:
        return 200


_STATUS: dict[int, int] = {
    Code.HEADER_MISMATCH: 400,
    Code.MISSING_CLIENT_CAPABILITY: 400,
    Code.UNSUPPORTED_PROTOCOL_VERSION: 400,
    Code.METHOD_NOT_FOUND: 404,
}


class _Coded(Struct):
    code: int


class _Typed(Struct):
    resultType: Raw | msgspec.UnsetType = msgspec.UNSET  # noqa: N815  the wire's name


def _refuse_version(requested: str) -> NoReturn:
    data = {"supported": list(VERSIONS), "requested": requested}
    raise ProtocolError(Code.UNSUPPORTED_PROTOCOL_VERSION, "unsupported protocol version", data=data)


def _match(header: str, values: list[str], expected: str) -> None:
    if len(values) != 1:
        what = "missing" if not values else "given more than once"
        raise ProtocolError(Code.HEADER_MISMATCH, f"header `{header}` is {what}")
    if decoded_header(values[0]) != expected:
        raise ProtocolError(Code.HEADER_MISMATCH, f"header `{header}` contradicts the body")

"""How we speak to an upstream of 2026-07-28: each request stands alone and repeats itself in headers."""

import base64
import re
from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from sluicegate.core.catalog import Era
from sluicegate.core.errors import InvalidInput, UpstreamInvalid
from sluicegate.ports import ToolCall, UpstreamRefusal, UpstreamResult
from sluicegate.protocol import modern as wire
from sluicegate.protocol.jsonrpc import Code
from sluicegate.upstream.messages import CLIENT_INFO, Headers, Outgoing, error_code, request
from sluicegate.upstream.transport import Reply, Transport

_NO_CAPABILITIES = Raw(b"{}")
_NO_META: dict[str, Raw] = {}
_HEADER_SAFE = re.compile(r"[\x20-\x7e]*")
_PARAM_HEADER = re.compile(r"mcp-param-[!#$%&'*+.^_`|~0-9a-z-]+", re.IGNORECASE)
_KNOWS_THE_ERA = (Code.HEADER_MISMATCH, Code.MISSING_CLIENT_CAPABILITY)
_ORDINARY = (*_KNOWS_THE_ERA, Code.METHOD_NOT_FOUND, Code.INVALID_PARAMS)


class _Discovered(Struct):
    supportedVersions: list[str]  # noqa: N815  the wire's name


class Modern:
    """Calls in the modern era. Nothing is kept between two of them."""

    era = Era.MODERN

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def call_tool(self, call: ToolCall) -> Reply:
        """One `tools/call`, sent once."""
        headers = (("Mcp-Name", encoded_header(call.name)), *_checked(call.param_headers))
        params: dict[str, object] = {**call.params, "name": call.name}
        return await self._transport.post(_request("tools/call", params, call.meta, call.capabilities, headers))

    async def list_page(self, params: Mapping[str, object]) -> Reply:
        """One page of `tools/list`."""
        return await self._transport.post(_request("tools/list", params, _NO_META, _NO_CAPABILITIES, ()))

    def contradicted_by(self, reply: Reply) -> bool:
        """True when the reply looks like that of a server which does not speak this era (any more)."""
        if not isinstance(reply.answer, UpstreamRefusal):
            return reply.rejected
        code = error_code(reply.answer)
        return code == Code.UNSUPPORTED_PROTOCOL_VERSION or (reply.rejected and code not in _ORDINARY)

    def close(self) -> None:
        """There is nothing to end."""


async def speaks_modern(transport: Transport) -> bool:
    """The probe: `server/discover`. Only a result that names our version, or an error of the era, counts as a yes.

    Raises UpstreamFailed when the upstream cannot be asked, as opposed to answering something else.
    """
    try:
        reply = await transport.post(_request("server/discover", {}, _NO_META, _NO_CAPABILITIES, ()))
    except UpstreamInvalid:
        return False
    match reply.answer:
        case UpstreamResult(result):
            try:
                return wire.VERSION in msgspec.json.decode(result, type=_Discovered).supportedVersions
            except msgspec.DecodeError:
                return False
        case UpstreamRefusal() as refusal:
            return error_code(refusal) in _KNOWS_THE_ERA
        case None:
            return False


def encoded_header(value: str) -> str:
    """`value` as a mirror header carries it: in the base64 sentinel when it would not survive as it is."""
    plain = _HEADER_SAFE.fullmatch(value) and value == value.strip() and not value.startswith("=?base64?")
    return value if plain else f"=?base64?{base64.b64encode(value.encode()).decode('ascii')}?="


def _request(
    method: str, params: Mapping[str, object], meta: dict[str, Raw], capabilities: Raw, headers: Headers
) -> Outgoing:
    ours = {
        wire.PROTOCOL_VERSION: wire.VERSION,
        wire.CLIENT_CAPABILITIES: capabilities,
        wire.CLIENT_INFO: CLIENT_INFO,
    }
    mirrors = (("MCP-Protocol-Version", wire.VERSION), ("Mcp-Method", method), *headers)
    return request(method, {**params, "_meta": {**meta, **ours}}, mirrors)


def _checked(headers: Headers) -> Headers:
    for name, value in headers:
        if not _PARAM_HEADER.fullmatch(name) or not _HEADER_SAFE.fullmatch(value):
            raise InvalidInput(f"header `{name[:80]}` cannot be passed on: use visible ASCII, or the base64 form")
    return headers

"""How we speak to an upstream of before 2026-07-28: a version agreed in `initialize`, and a session if it wants one."""

import msgspec
from msgspec import Struct

from sluicegate.core.catalog import Era
from sluicegate.core.errors import UpstreamInvalid
from sluicegate.ports import ToolCall, UpstreamRefusal, UpstreamResult
from sluicegate.protocol import legacy as wire
from sluicegate.protocol.jsonrpc import Code
from sluicegate.upstream.messages import CLIENT_INFO, error_code, error_of, notification, request
from sluicegate.upstream.sessions import Farewells, Session, Sessions
from sluicegate.upstream.transport import Limits, Reply, Transport

VERSIONS = (*wire.VERSIONS, "2024-11-05")
"""What an upstream may agree on. The oldest had another transport, but servers of ours still answer with it."""

_NO_SUCH_SESSION = (-32000, Code.INVALID_REQUEST)
"""What the SDKs' servers say with HTTP 400, where the specification asks for 404."""
_MODERN_CODES = (Code.HEADER_MISMATCH, Code.MISSING_CLIENT_CAPABILITY, Code.UNSUPPORTED_PROTOCOL_VERSION)


class HandshakeRefused(UpstreamInvalid):
    """The upstream answered `initialize`, but did not agree to it."""


class _Initialized(Struct):
    protocolVersion: str  # noqa: N815  the wire's name


class Legacy:
    """Calls in the legacy era. `name` is the upstream's slug, for messages."""

    era = Era.LEGACY

    def __init__(self, name: str, transport: Transport, farewells: Farewells, limits: Limits) -> None:
        self._name = name
        self._transport = transport
        self._farewells = farewells
        self._sessions = Sessions(self.open_session, farewells, limits.sessions)

    async def call_tool(self, call: ToolCall) -> Reply:
        """One `tools/call`, in the session of the caller's token. Repeated once when that session turns out to be over.

        Then the upstream has not looked at it (specification 2025-11-25, session management, point 4).
        """
        session = await self._sessions.of(call.token_id)
        reply = await self._call_in(session, call)
        if not _denies_session(session, reply):
            return reply
        self._sessions.bury(call.token_id, session)
        return await self._call_in(await self._sessions.of(call.token_id), call)

    async def _call_in(self, session: Session, call: ToolCall) -> Reply:
        params: dict[str, object] = {**call.params, "name": call.name}
        if call.meta:
            params["_meta"] = call.meta
        with session:
            return await self._transport.post(request("tools/call", params, session.headers))

    async def list_page(self, session: Session, params: dict[str, object]) -> Reply:
        """One page of `tools/list`."""
        return await self._transport.post(request("tools/list", params, session.headers))

    async def open_session(self) -> Session:
        """The handshake: `initialize`, `notifications/initialized`. Raises HandshakeRefused, UpstreamFailed."""
        params: dict[str, object] = {"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": CLIENT_INFO}
        reply = await self._transport.post(request("initialize", params, ()))
        session = Session(reply.session_id, VERSIONS[0])
        try:
            session = Session(reply.session_id, self._agreed_version(reply))
            await self._transport.notify(notification("notifications/initialized", session.headers))
        except BaseException:  # also when cancelled: nobody else knows of this session
            self._farewells.say(session)
            raise
        return session

    def _agreed_version(self, reply: Reply) -> str:
        match reply.answer:
            case UpstreamResult(result):
                try:
                    version = msgspec.json.decode(result, type=_Initialized).protocolVersion
                except msgspec.DecodeError:
                    raise self._refused("answered `initialize` without a protocol version") from None
                if version in VERSIONS:
                    return version
                raise self._refused(f"shares no protocol version with us: ours are {', '.join(VERSIONS)}")
            case UpstreamRefusal() as refusal:
                raise self._refused(f"refused `initialize` (error {error_code(refusal)})")
            case None:
                raise self._refused(f"answered `initialize` with HTTP {reply.status}")

    def _refused(self, what: str) -> HandshakeRefused:
        return HandshakeRefused(f"upstream `{self._name}` {what}")

    def contradicted_by(self, reply: Reply) -> bool:
        """True when the reply looks like that of a server which does not speak this era (any more)."""
        return _speaks_modern(reply) or reply.rejected

    def close(self) -> None:
        """Ends all sessions, in the background."""
        self._sessions.end_all()


def _speaks_modern(reply: Reply) -> bool:
    return isinstance(reply.answer, UpstreamRefusal) and error_code(reply.answer) in _MODERN_CODES


def _denies_session(session: Session, reply: Reply) -> bool:
    """True when the upstream does not know the session, or misses one: it restarted, or has become stateful.

    Only what cannot come from a call that was run counts, as the call is sent again: the 404 that the specification
    reserves for this, or an error that names no request.
    """
    if reply.status == 404:
        return session.id is not None
    if reply.status != 400 or not reply.unread or not isinstance(reply.answer, UpstreamRefusal):
        return False
    error = error_of(reply.answer)
    return error.code in _NO_SUCH_SESSION and (session.id is not None or "session" in error.message.lower())

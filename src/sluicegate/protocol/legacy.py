"""MCP before 2026-07-28: a version agreed in `initialize`. The gateway needs no session for it and gives out none.

Source: specification 2025-11-25, lifecycle and streamable HTTP transport. This file can be deleted with its era.
"""

import msgspec

from sluicegate.protocol.jsonrpc import Code, ProtocolError, Request, text

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
"""Newest first."""


def check_version(version_header: list[str]) -> None:
    """Raises ProtocolError when the version is stated twice; none states 2025-03-26."""
    if len(version_header) > 1:
        raise ProtocolError(Code.INVALID_REQUEST, "header `MCP-Protocol-Version` is given more than once")


def initialize_result(request: Request, capabilities: dict[str, object], name: str, version: str) -> bytes:
    """The result of `initialize`: the version asked for if we speak it, else the newest of the era."""
    asked = text(request.params.get("protocolVersion"), "protocolVersion")
    return msgspec.json.encode(
        {
            "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
            "capabilities": capabilities,
            "serverInfo": {"name": name, "version": version},
        }
    )

"""MCP before 2026-07-28: a version agreed in `initialize`. The gateway needs no session for it and gives out none.

Source: specification 2025-11-25, lifecycle and streamable HTTP transport. This file can be deleted with its era.
"""

import msgspec

from sluicegate.protocol.jsonrpc import Code, ProtocolError, Request, text

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
"""Newest first."""


def check_version(request: Request, version_header: list[str]) -> None:
    """Raises ProtocolError for a version header that no `initialize` of ours can have agreed on; absent: 2025-03-26."""
    if request.method == "initialize":
        return
    if len(version_header) > 1 or any(value not in VERSIONS for value in version_header):
        raise ProtocolError(
            Code.INVALID_REQUEST, f"header `MCP-Protocol-Version` must be one of {', '.join(VERSIONS)}", status=400
        )


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

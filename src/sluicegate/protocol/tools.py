"""A tool's description on the wire: split into its name and the rest, which stays byte for byte."""

import re

import msgspec
from msgspec import Raw

from sluicegate.core.catalog import SEPARATOR

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MAX_PUBLIC_NAME = 128
"""Longest name that clients accept (specification, tools: tool names)."""


def split_definition(raw: bytes) -> tuple[str, str]:
    """The tool's name, and its JSON object without `name`. Raises ValueError with a sentence about what is odd."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, Raw])
        name = msgspec.json.decode(members.pop("name"), type=str)
    except KeyError:
        raise ValueError("a tool without a name") from None
    except (msgspec.DecodeError, RecursionError):
        raise ValueError("a tool that is not an object with a string as its name") from None
    if not NAME.fullmatch(name):
        raise ValueError(f"tool {name[:80]!r}: a name has 1 to 128 of A-Z a-z 0-9 _ - .")
    if bytes(members.get("inputSchema", Raw(b"")))[:1] != b"{":
        raise ValueError(f"tool `{name}`: `inputSchema` must be an object")
    return name, msgspec.json.encode(members).decode()


def check_public_length(upstream_slug: str, name: str) -> None:
    """Raises ValueError when the name on the merged endpoint would be too long for clients."""
    if len(upstream_slug) + len(SEPARATOR) + len(name) > MAX_PUBLIC_NAME:
        raise ValueError(f"tool `{name}`: with the upstream's slug its name is longer than {MAX_PUBLIC_NAME}")


def rendered(name: str, definition: str) -> bytes:
    """The tool's JSON object under the name that the client sees. `definition` is never empty: it has `inputSchema`."""
    return b'{"name":%b,%b' % (msgspec.json.encode(name), definition[1:].encode())


def list_result(tools: list[bytes], next_cursor: str | None, modern: bool) -> bytes:
    """The result of `tools/list`; in the modern era with hints that forbid sharing it, as it is filtered by token."""
    parts = [b'"tools":[%b]' % b",".join(tools)]
    if next_cursor is not None:
        parts.append(b'"nextCursor":%b' % msgspec.json.encode(next_cursor))
    if modern:
        parts.append(b'"resultType":"complete","ttlMs":0,"cacheScope":"private"')
    return b"{%b}" % b",".join(parts)

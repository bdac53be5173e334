"""A tool's description on the wire: split into its name and the rest, which stays byte for byte."""

import json
import re
from itertools import accumulate
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from sluicegate.core.catalog import SEPARATOR

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MAX_PUBLIC_NAME = 128
"""Longest name that clients accept (specification, tools: tool names)."""

MAX_DEPTH = 100
"""Objects and lists within each other. Parsers of clients give up at about 200, and the list around it counts too."""

MAX_DIGITS = 4000
"""Digits of one number: Python reads integers of at most 4300."""

_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_STEPS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")

Text = str | UnsetType
Flag = bool | UnsetType
Properties = dict[str, dict[str, Raw]] | UnsetType
Object = dict[str, Raw] | UnsetType
TaskSupport = Literal["forbidden", "optional", "required"] | UnsetType


class _Strict(Struct, rename="camel"):
    """What clients insist on in an object; whatever else it has is free. Nothing here may be null.

    The Python SDK reads `read_only_hint` as it does `readOnlyHint`: hence the fields with `_too`.
    """


class _Schema(_Strict):
    type: Literal["object"]
    properties: Properties = UNSET
    required: list[str] | UnsetType = UNSET
    dialect: Text = field(default=UNSET, name="$schema")


class _Icon(_Strict):
    src: str
    mime_type: Text = UNSET
    sizes: list[str] | UnsetType = UNSET
    theme: Literal["light", "dark"] | UnsetType = UNSET
    mime_type_too: Text = field(default=UNSET, name="mime_type")


class _Annotations(_Strict):
    title: Text = UNSET
    read_only_hint: Flag = UNSET
    destructive_hint: Flag = UNSET
    idempotent_hint: Flag = UNSET
    open_world_hint: Flag = UNSET
    read_only_hint_too: Flag = field(default=UNSET, name="read_only_hint")
    destructive_hint_too: Flag = field(default=UNSET, name="destructive_hint")
    idempotent_hint_too: Flag = field(default=UNSET, name="idempotent_hint")
    open_world_hint_too: Flag = field(default=UNSET, name="open_world_hint")


class _Execution(_Strict):
    task_support: TaskSupport = UNSET
    task_support_too: TaskSupport = field(default=UNSET, name="task_support")


class _Tool(_Strict):
    """The fields of a tool in the specifications since 2025-06-18. One client that refuses one tool has no tools."""

    input_schema: _Schema
    title: Text = UNSET
    description: Text = UNSET
    output_schema: _Schema | UnsetType = UNSET
    annotations: _Annotations | UnsetType = UNSET
    icons: list[_Icon] | UnsetType = UNSET
    execution: _Execution | UnsetType = UNSET
    meta: Object = field(default=UNSET, name="_meta")
    meta_too: Object = field(default=UNSET, name="meta")  # the Python SDK takes it for `_meta` where that is missing


def _folded(key: str) -> str:
    return key[:1].lower() + key[1:].replace("_", "").lower()


_tool = msgspec.json.Decoder(_Tool)
_KNOWN = {_folded(name): name for name in ("name", *_Tool.__struct_encode_fields__)}
"""Clients that look at letter case loosely, or take `input_schema` too, must find nothing but what we have checked."""


def split_definition(raw: bytes) -> tuple[str, str]:
    """The tool's name, and its JSON object without `name`. Raises ValueError with a sentence about what is odd."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, Raw])
        name = msgspec.json.decode(members.pop("name"), type=str)
    except KeyError:
        raise ValueError("a tool without a name") from None
    except RecursionError:
        raise ValueError(f"a tool that is nested more than {MAX_DEPTH} deep") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ValueError("a tool that is not an object with a string as its name") from None
    if not NAME.fullmatch(name):
        raise ValueError(f"tool {name[:80]!r}: a name has 1 to 128 of A-Z a-z 0-9 _ - .")
    odd = _too_much(raw) or _ambiguous(raw) or _ill_typed(raw)
    if odd is not None:
        raise ValueError(f"tool `{name}`: {odd}")
    return name, msgspec.json.encode(members).decode()


def _too_much(raw: bytes) -> str | None:
    """What would break the JSON parsers of clients, if anything. Counts without recursion, in C."""
    outside_strings = b"".join(raw.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    if _LONG_NUMBER.search(outside_strings):
        return f"a number has more than {MAX_DIGITS} digits"
    steps = memoryview(outside_strings.translate(_STEPS, _NO_BRACKETS)).cast("b")  # +1 and -1
    return f"it is nested more than {MAX_DEPTH} deep" if max(accumulate(steps)) > MAX_DEPTH else None


def _ambiguous(raw: bytes) -> str | None:
    """The member that one client may read otherwise than we or another client do, if there is one."""
    seen: set[str] = set()
    for key, _ in json.loads(raw, object_pairs_hook=list):
        if key in seen:
            return f"it has `{key[:80]}` twice"
        seen.add(key)
        meant = _KNOWN.get(_folded(key), key)
        if meant != key:
            return f"`{key[:80]}` may be taken for `{meant}`"
    return None


def _ill_typed(raw: bytes) -> str | None:
    """Where a client would find something else than the specification says, if it would."""
    try:
        _tool.decode(raw)
    except msgspec.DecodeError as error:
        text = str(error)
        return text[:1].lower() + text[1:200]
    return None


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

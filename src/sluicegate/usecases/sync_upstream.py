"""Bring the catalog in line with what an upstream offers: all pages, one odd tool never spoils the rest.

The listing happens between two database transactions, never inside one. A refresh never touches an override.
"""

import asyncio
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from sluicegate.core.catalog import Tool, Upstream, new_id
from sluicegate.core.errors import Conflict, NotFound
from sluicegate.core.identity import ToolId
from sluicegate.ports import Database, Listing, Transaction, Upstreams, Written
from sluicegate.protocol.tools import check_public_length, split_definition

MAX_WARNINGS = 100
"""Warnings kept with an upstream; the count of the rest is kept in the last one."""


class SyncReport(Struct, frozen=True):
    """What a synchronisation found and did."""

    offered: int
    added: int
    changed: int
    withdrawn: int
    warnings: tuple[str, ...]


class SyncUpstream:
    """Lists an upstream's tools and records the difference."""

    def __init__(self, database: Database, upstreams: Upstreams) -> None:
        self._database = database
        self._upstreams = upstreams

    async def __call__(self, upstream: Upstream) -> Written[SyncReport]:
        """Raises UpstreamFailed when the upstream cannot be listed (nothing is changed then), DatabaseBusy."""
        listing = await self._upstreams.list_tools(upstream)
        # in a thread: a long list of deep tools would hold up every request
        wanted, warnings = await asyncio.to_thread(readable_tools, upstream.slug, listing.tools)
        return await self._database.write(lambda tx: record(tx, upstream, listing, wanted, warnings))


def readable_tools(slug: str, tools: Iterable[bytes]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Definitions by name, and a sentence for each tool that had to be left out."""
    wanted: dict[str, str] = {}
    warnings: list[str] = []
    for raw in tools:
        try:
            name, definition = split_definition(raw)
            check_public_length(slug, name)
            if name in wanted:
                raise ValueError(f"tool `{name}` is listed twice: the first one counts")
        except ValueError as odd:
            warnings.append(str(odd))
            continue
        wanted[name] = definition
    if len(warnings) > MAX_WARNINGS:
        warnings = [*warnings[: MAX_WARNINGS - 1], f"and {len(warnings) - MAX_WARNINGS + 1} more"]
    return wanted, tuple(warnings)


def record(
    tx: Transaction, listed: Upstream, listing: Listing, wanted: dict[str, str], warnings: tuple[str, ...]
) -> SyncReport:
    """Writes the difference between the stored tools and `wanted`; what did not change is not written.

    `listed` is the upstream as it was asked: what it said counts only while its address and credential are the same.
    """
    upstream = tx.get(Upstream, listed.id)
    if upstream is None:
        raise NotFound("the upstream was deleted meanwhile")
    if (upstream.url, upstream.auth) != (listed.url, listed.auth):
        raise Conflict("the upstream was changed while it was listed: synchronise it again", code="changed_meanwhile")
    stored = {tool.name: tool for tool in tx.find(Tool, upstream_id=upstream.id)}
    added = changed = withdrawn = 0
    for name, definition in wanted.items():
        tool = stored.pop(name, None)
        if tool is None:
            tx.insert(Tool(ToolId(new_id("tool")), upstream.id, name, definition, None, None, True, True))
            added += 1
        elif tool.definition != definition or not tool.offered:
            tx.update(msgspec.structs.replace(tool, definition=definition, offered=True))
            changed += 1
    for tool in stored.values():
        if tool.offered:
            tx.update(msgspec.structs.replace(tool, offered=False))
            withdrawn += 1
    known = msgspec.structs.replace(
        upstream, era=listing.era, protocol_version=listing.protocol_version, sync_warnings=warnings
    )
    if known != upstream:
        tx.update(known)
    return SyncReport(len(wanted), added, changed, withdrawn, warnings)

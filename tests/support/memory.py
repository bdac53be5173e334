"""The ports in memory: a database that is a directory, that directory's feed, upstreams that answer from a table."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from sluicegate.core.catalog import (
    KIND_OF,
    Entity,
    Era,
    Kind,
    Membership,
    Token,
    Tool,
    Upstream,
    membership_id,
)
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Conflict, EgressRefused, NotFound, UpstreamFailed
from sluicegate.core.events import Change
from sluicegate.core.identity import UpstreamId
from sluicegate.core.lease import LeaseState
from sluicegate.ports import IssuedClaims, Listing, ToolCall, Transaction, UpstreamAnswer, UpstreamResult, Written

E = TypeVar("E", bound=Entity)
Key = tuple[Kind, str]

UNIQUE: dict[Kind, tuple[str, ...]] = {
    Kind.TEAM: ("slug",),
    Kind.USER: ("email",),
    Kind.UPSTREAM: ("slug",),
    Kind.SERVER: ("slug",),
    Kind.TOOL: ("upstream_id", "name"),
}
REFERENCES = {"team_id": Kind.TEAM, "user_id": Kind.USER, "owner_id": Kind.USER, "upstream_id": Kind.UPSTREAM}
OWNED: dict[Kind, tuple[tuple[type[Entity], str], ...]] = {
    Kind.TEAM: ((Membership, "team_id"),),
    Kind.USER: ((Membership, "user_id"), (Token, "user_id")),
    Kind.UPSTREAM: ((Tool, "upstream_id"),),
}
"""What goes with a row; whatever else refers to it keeps it there."""


def key_of(entity: Entity) -> Key:
    return KIND_OF[type(entity)], entity.id  # type: ignore[attr-defined]


def entities_of(directory: Directory) -> list[Entity]:
    """All entities that a directory holds."""
    held: list[Entity] = []
    for table in (directory.teams, directory.users, directory.upstreams, directory.tools, directory.servers):
        held.extend(table.values())
    for user_id in directory.users:
        roles = directory.roles_of(user_id)
        held.extend(Membership(membership_id(user_id, team), user_id, team, role) for team, role in roles)
    return [*held, *directory.tokens.values()]


class MemoryTransaction:
    """The verbs of `ports.Transaction` on a copy of the rows."""

    def __init__(self, rows: dict[Key, Entity]) -> None:
        self.rows = dict(rows)
        self.changes: list[tuple[Key, Entity | None]] = []
        self.locked: list[str] = []

    def get(self, entity: type[E], key: str) -> E | None:
        self.locked.append(key)
        row = self.rows.get((KIND_OF[entity], key))
        return row if isinstance(row, entity) else None

    def all(self, entity: type[E]) -> list[E]:
        return self.find(entity)

    def find(self, entity: type[E], **columns: str) -> list[E]:
        rows = [row for _, row in sorted(self.rows.items()) if isinstance(row, entity)]
        return [row for row in rows if all(getattr(row, name) == value for name, value in columns.items())]

    def insert(self, entity: Entity) -> None:
        if key_of(entity) in self.rows:
            raise Conflict("it exists already", code="id_taken")
        self._put(entity)

    def update(self, entity: Entity) -> None:
        self._present(entity)
        if self.rows[key_of(entity)] != entity:
            self._put(entity)

    def delete(self, entity: Entity) -> None:
        self._present(entity)
        kind, key = key_of(entity)
        for owned, column in OWNED.get(kind, ()):
            for row in self.find(owned, **{column: key}):
                self._drop(key_of(row))
        for row in self.rows.values():
            if any(target is kind and getattr(row, name, None) == key for name, target in REFERENCES.items()):
                raise Conflict(f"it still has `{getattr(row, 'slug', '')}`", code="in_use")
        self._drop((kind, key))

    def _present(self, entity: Entity) -> None:
        if key_of(entity) not in self.rows:
            raise NotFound("it does not exist")

    def _put(self, entity: Entity) -> None:
        kind, key = key_of(entity)
        if unique := UNIQUE.get(kind):
            same = {name: getattr(entity, name) for name in unique}
            if any(key_of(row) != (kind, key) for row in self.find(type(entity), **same)):
                raise Conflict(f"choose another {unique[-1]}", code=f"{unique[-1]}_taken")
        for name, target in REFERENCES.items():
            referred = getattr(entity, name, None)
            if referred is not None and (target, referred) not in self.rows:
                raise Conflict("what it refers to does not exist", code="reference_gone")
        self.rows[(kind, key)] = entity
        self.changes.append(((kind, key), entity))

    def _drop(self, key: Key) -> None:
        del self.rows[key]
        self.changes.append((key, None))


class FakeDatabase:
    """Keeps rows and brings a directory up to date, one revision for each change. Counts the writes."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.rows = {key_of(entity): entity for entity in entities_of(directory)}
        self.writes = 0
        self.failure: Exception | None = None
        self.locked: list[str] = []
        """The keys that the last write locked, in order."""
        self.before_write: Callable[[MemoryTransaction], None] = lambda _: None
        """What another process commits just before."""

    async def write(self, work: Callable[[Transaction], Any]) -> Any:
        self.writes += 1
        if self.failure is not None:
            raise self.failure
        other = MemoryTransaction(self.rows)
        self.before_write(other)
        self._commit(other)
        tx = MemoryTransaction(self.rows)
        value = work(tx)
        self.locked = tx.locked
        self._commit(tx)
        return Written(value, self.directory.revision)

    def _commit(self, tx: MemoryTransaction) -> None:
        self.rows = tx.rows
        for (kind, key), entity in tx.changes:
            payload = None if entity is None else msgspec.json.decode(msgspec.json.encode(entity), type=type(entity))
            self.directory.apply(Change(self.directory.revision + 1, kind, key, payload))


class FakeFeed:
    """A feed that is always current, and remembers which revisions were waited for."""

    def __init__(self, directory: Directory) -> None:
        self.directory = directory
        self.fresh = True
        self.state = LeaseState.FRESH
        self.age: float | None = 0.0
        self.stale: Exception | None = None
        """What `ensure_current` raises; set `fresh` to False with it."""
        self.reached: list[int] = []
        self.moved = asyncio.Event()
        """To be set after the directory was changed by hand: wakes those in `next_change`."""

    async def ensure_current(self) -> None:
        if self.stale is not None:
            raise self.stale

    async def catch_up(self) -> None: ...

    async def reach(self, revision: int) -> None:
        self.reached.append(revision)

    async def next_change(self, above: int, at_most: float) -> None:
        """Returns at once when the directory has passed `above`, else when `moved` is set, or after `at_most`."""
        if self.directory.revision <= above:
            self.moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.moved.wait(), at_most)


class FakeUpstreams:
    """Upstreams by URL: the tools each one lists, or the error that asking it raises."""

    def __init__(self, listings: Mapping[str, Sequence[bytes] | UpstreamFailed] | None = None) -> None:
        self.listings: dict[str, Sequence[bytes] | UpstreamFailed] = dict(listings or {})
        self.listed: list[str] = []
        self.forgotten: list[UpstreamId] = []

    async def list_tools(self, upstream: Upstream) -> Listing:
        self.listed.append(upstream.url)
        tools = self.listings.get(upstream.url, ())
        if isinstance(tools, UpstreamFailed):
            raise tools
        return Listing(tuple(tools), Era.MODERN, "2026-07-28")

    async def call_tool(self, upstream: Upstream, call: ToolCall) -> UpstreamAnswer:
        return UpstreamResult(b'{"content":[]}')

    async def forget(self, upstream_id: UpstreamId) -> None:
        self.forgotten.append(upstream_id)


class FakeClock:
    """Both clocks, moved by hand. Seconds."""

    def __init__(self, now: float) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        return self.now


class FakeSealer:
    """Seals for one upstream, in a way that a test can tell from the plain secret. Remembers what it sealed."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def seal(self, upstream_id: UpstreamId, secret: str) -> str:
        sealed = f"sealed:{upstream_id}:{len(secret)}"
        self._secrets[sealed] = secret
        return sealed

    def open(self, upstream_id: UpstreamId, sealed: str) -> str:
        if not sealed.startswith(f"sealed:{upstream_id}:"):
            raise UpstreamFailed("this was sealed for another upstream")
        return self._secrets[sealed]


class FakeEgress:
    """Allows every URL but those that contain `forbidden`."""

    def check_url(self, url: str) -> None:
        if "forbidden" in url:
            raise EgressRefused("this address may not be an upstream")


class FakeIssuer:
    """Signs nothing, and keeps the claims."""

    def __init__(self) -> None:
        self.issued: list[IssuedClaims] = []

    def issue(self, claims: IssuedClaims) -> str:
        self.issued.append(claims)
        return f"signed.{claims.token_id}"

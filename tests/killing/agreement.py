"""Whether head, log and tables of a database agree with each other, and with what they were before."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, Select, select

from sluicegate.core.catalog import KIND_OF, Entity, Kind
from sluicegate.core.events import decode_change
from sluicegate.store import SqlDatabase
from sluicegate.store.rows import columns_of, key_of, read_rows
from sluicegate.store.schema import TABLES, authz_head, authz_log

Key = tuple[Kind, str]
Rows = Mapping[Key, Entity]


class Logged(Struct, frozen=True):
    """One row of the log."""

    rev: int
    kind: str
    key: str
    payload: str | None


class Contents(Struct, frozen=True):
    """Everything that must agree, read in one snapshot."""

    epoch: str
    revision: int
    floor: int
    log: tuple[Logged, ...]
    rows: Rows


def read_contents(connection: Connection) -> Contents:
    """To be lent a connection. Fails when there is not exactly one head."""
    epoch, revision, floor = connection.execute(select(authz_head.c.epoch, authz_head.c.rev, authz_head.c.floor)).one()
    columns: Select[*tuple[Any, ...]] = select(*(authz_log.c[field] for field in Logged.__struct_fields__))
    log = tuple(Logged(*row) for row in connection.execute(columns.order_by(authz_log.c.rev)))
    rows = {
        (kind, key_of(entity)): entity
        for entity_type, kind in KIND_OF.items()
        for entity in read_rows(connection, entity_type, columns_of(entity_type))
    }
    assert len(rows) == sum(len(connection.execute(select(table.c.id)).all()) for table in TABLES.values())
    return Contents(epoch, revision, floor, log, rows)


def disagreements(found: Contents, before: Contents | None = None) -> list[str]:
    """What does not fit, for people; empty when all agrees.

    `before` is what the same database held earlier. As long as the log reaches back to it, its rows and the log
    together must make exactly the rows that are found; else each row of the log must be the last word on its key.
    """
    return [*_numbering(found), *_going_back(found, before), *_replaying(found, before)]


def _numbering(found: Contents) -> Iterator[str]:
    revisions = [row.rev for row in found.log]
    if any(rev < 1 for rev in revisions):
        yield f"a row below revision 1 was committed: {revisions[0]}"
    if revisions != list(range(found.revision - len(revisions) + 1, found.revision + 1)):
        yield f"the log is no run that ends at the head, {found.revision}: {revisions}"
    if not 0 <= found.floor <= found.revision:
        yield f"the floor {found.floor} is not below the head {found.revision}"
    if revisions and revisions[0] > max(found.floor, 1):
        yield f"the log begins at {revisions[0]}, above its floor {found.floor}"
    if not revisions and found.revision:
        yield f"the log is empty, the head at {found.revision}"


def _going_back(found: Contents, before: Contents | None) -> Iterator[str]:
    if before is None:
        return
    if found.revision < before.revision or found.floor < before.floor:
        yield f"went back from {before.revision} (floor {before.floor}) to {found.revision} (floor {found.floor})"
    there_before = {row.rev: row for row in before.log}
    for row in found.log:
        if there_before.get(row.rev, row) != row:
            yield f"revision {row.rev} was rewritten"


def _replaying(found: Contents, before: Contents | None) -> Iterator[str]:
    try:
        if before is not None and before.epoch == found.epoch and before.revision >= found.floor:
            since = _states(row for row in found.log if row.rev > before.revision)
            yield from _differences(found, {**dict.fromkeys(found.rows), **before.rows, **since})
        else:
            followed = (row for row in found.log if row.rev >= found.floor and row.kind != "epoch")
            yield from _differences(found, _states(followed))
    except ValueError as error:
        yield f"the log cannot be read: {error}"
    if any(row.kind == "epoch" and row.rev > found.floor for row in found.log):
        yield "an epoch began above the floor"


def _states(rows: Iterator[Logged]) -> dict[Key, Entity | None]:
    changes = (decode_change(row.rev, row.kind, row.key, row.payload) for row in rows)
    return {(change.kind, change.key): change.entity for change in changes}


def _differences(found: Contents, told: Mapping[Key, Entity | None]) -> Iterator[str]:
    for (kind, key), entity in told.items():
        row = found.rows.get((kind, key))
        if row != entity:
            yield f"{kind} `{key}` is {row}, and the log says {entity}"


async def loaded_as_stored(database: SqlDatabase) -> Contents:
    """What the database holds. Fails unless a gateway would load exactly that, and could follow from there."""
    contents = await database.read(read_contents)
    source = database.feed_source()
    directory = (await source.load()).directory
    audit = await source.audit(directory.tokens_from)
    assert (directory.epoch, directory.revision, directory.digest) == (audit.epoch, audit.revision, audit.digest)
    assert (await source.poll(directory.revision)).changes == ()
    assert directory.revision >= contents.revision
    return contents

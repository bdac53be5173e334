"""The whole state, read from one snapshot of the database into a directory. Quick and lean: it may be a million rows.

Equal ids become one string, all memberships of a user come in one row, and the definitions of tools are sealed.
"""

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import psycopg
from msgspec.structs import replace
from sqlalchemy import Connection, Select, Text, func, literal, select

from sluicegate.core.catalog import Entity, Membership, Team, Token, Tool, Upstream, User
from sluicegate.core.definitions import sealed
from sluicegate.core.directory import WITHIN, Directory, RoleIn, Roles, digest_of, role_text
from sluicegate.core.errors import ConfigurationError, DatabaseBusy, DirectoryTooLarge
from sluicegate.core.identity import TeamId, UserId
from sluicegate.core.permissions import Role
from sluicegate.ports import Audit, Snapshot, UnreadableLog
from sluicegate.store.head import read_head
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.rows import columns_of, kind_word
from sluicegate.store.schema import ENTITY_OF, TABLES, memberships, tokens, tools
from sluicegate.store.startup import explained

MAX_ENTITIES = 3_000_000
EXPIRED_FOR = 86400
"""Seconds after which an expired token is no longer loaded."""
COUNTING = 30.0
"""Seconds for counting all entities."""
BATCH = 500
"""Rows fetched at a time."""
AT_ONCE = BATCH if psycopg.capabilities.has_stream_chunked() else 1
"""The same, as far as the linked libpq can: before 17 it takes one by one."""
SEALED = 65536
"""Characters of definitions that are sealed together, unless there is only one."""
BYTES_EACH = 100
"""Memory that an entity takes, in a mixture with many memberships; a tool or a token alone takes up to 400."""

_BETWEEN = "\x1e"  # no id holds it
_ROLES = select(
    memberships.c.user_id,
    func.aggregate_strings(memberships.c.team_id.concat(literal(WITHIN, Text)).concat(memberships.c.role), _BETWEEN),
).group_by(memberships.c.user_id)


def check_loadable(url: str, max_entities: int) -> None:
    """Raises ConfigurationError when a worker would refuse to load the database: so none is started in vain."""
    location = located(url)
    engine = engine_for(location, ONE, COUNTING)
    try:
        with explained(location), transaction(engine, Access.READ, COUNTING) as connection:
            _Reading(connection, int(read_head(connection).now) - EXPIRED_FOR).check_size(max_entities)
    except DirectoryTooLarge as error:
        raise ConfigurationError(str(error)) from None
    finally:
        engine.dispose()


def load(connection: Connection, max_entities: int) -> Snapshot:
    """The whole state, in one snapshot of the database; without tokens that expired more than a day ago.

    Raises UnreadableLog, naming the kind, for a row that does not fit, and DirectoryTooLarge.
    """
    head = read_head(connection)
    reading = _Reading(connection, int(head.now) - EXPIRED_FOR)
    reading.check_size(max_entities)
    directory = Directory(head.epoch, head.revision, reading.entities(), reading.tokens_from)
    return Snapshot(directory, head.mark)


def audit(connection: Connection, tokens_from: int) -> Audit:
    """The `digest` that a directory with this `tokens_from` must have. Keeps nothing of what it reads."""
    head = read_head(connection)
    return Audit(head.epoch, head.revision, digest_of(_Reading(connection, tokens_from).entities()))


class _Reading:
    """One way through all tables, in an order in which a row comes before those that refer to it."""

    def __init__(self, connection: Connection, tokens_from: int) -> None:
        self.tokens_from = tokens_from
        self._connection = connection
        self._ids: dict[type[Entity], dict[str, str]] = {Team: {}, User: {}, Upstream: {}}
        """Those that other rows refer to, each as the one string that all of them shall hold."""

    def check_size(self, max_entities: int) -> None:
        """Raises DirectoryTooLarge when there is more than a worker may load."""
        counts = [self._kept(select(func.count()).select_from(TABLES[entity]), entity) for entity in TABLES]
        count = sum(self._connection.execute(select(*(each.scalar_subquery() for each in counts))).one())
        if count > max_entities:
            raise DirectoryTooLarge(
                f"the database holds {count} entities, more than the {max_entities} that a worker may load: delete what"
                f" is not needed, or give each worker {count * BYTES_EACH // 1_000_000 + 1} MB more (about {BYTES_EACH}"
                f" bytes for each entity) and set SLUICEGATE_MAX_ENTITIES to {count} or more"
            )

    def entities(self) -> Iterator[Entity | Roles]:
        """Everything; each user's memberships as one."""
        for entity in TABLES:
            try:
                if entity is Membership:
                    yield from self._roles()
                elif entity is Tool:
                    yield from _with_definitions_sealed(self._rows(Tool))
                else:
                    yield from self._rows(entity)
            except (msgspec.MsgspecError, KeyError) as error:
                raise UnreadableLog(f"a {kind_word(entity)} cannot be read: {error}") from error

    def _rows(self, entity: type[Any]) -> Iterator[Any]:
        fields, columns = entity.__struct_fields__, TABLES[entity].c
        referring = [
            (field, self._ids[ENTITY_OF[key.column.table]]) for field in fields for key in columns[field].foreign_keys
        ]
        rows = self._kept(columns_of(entity), entity)
        if entity is Tool:
            rows = rows.order_by(tools.c.upstream_id, tools.c.name)  # a list shows neighbours, sealed together
        for batch in self._connection.execute(rows.execution_options(yield_per=BATCH)).partitions():
            named = [dict(zip(fields, row, strict=True)) for row in batch]
            for row in named:
                for field, known in referring:
                    row[field] = known.get(row[field], row[field])
            if entity in self._ids:
                ids = [row["id"] for row in named]
                self._ids[entity].update(zip(ids, ids, strict=True))
            yield from msgspec.convert(named, list[entity])  # type: ignore[valid-type]

    def _roles(self) -> Iterator[Roles]:
        teams = map(TeamId, self._ids[Team])
        known: dict[str, RoleIn] = {role_text(team, role): (team, role) for team in teams for role in Role}
        users = self._ids[User]
        for user_id, joined in self._user_roles():
            in_order = sorted(joined.split(_BETWEEN))  # as texts: quicker than the pairs
            held = tuple(map(known.__getitem__, in_order))
            yield Roles(UserId(users.get(user_id, user_id)), held, sum(map(hash, in_order)))

    def _user_roles(self) -> Iterator[Any]:
        """PostgreSQL makes the next rows while one is used, which it does not for a cursor of SQLAlchemy's."""
        dialect = self._connection.dialect
        if dialect.name != "postgresql":
            yield from self._connection.execute(_ROLES.execution_options(yield_per=BATCH))
            return
        statement = str(_ROLES.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        cursor = self._connection.connection.driver_connection.cursor()  # type: ignore[union-attr]  # it is open
        try:
            with closing(cursor.stream(statement, size=AT_ONCE)) as found:
                yield from found
        except psycopg.Error as error:
            raise DatabaseBusy("the database did not carry out the operation: try again") from error

    def _kept(self, rows: Select[*tuple[Any, ...]], entity: type[Entity]) -> Select[*tuple[Any, ...]]:
        return rows.where(tokens.c.expires_at >= self.tokens_from) if entity is Token else rows


def _with_definitions_sealed(tools: Iterable[Tool]) -> Iterator[Tool]:
    for batch in _batches(tools):
        together = sealed((tool.name, tool.described) for tool in batch)
        yield from (replace(tool, definition=together) for tool in batch)


def _batches(tools: Iterable[Tool]) -> Iterator[list[Tool]]:
    """Runs of tools of one upstream, none longer than what is sealed together."""
    batch: list[Tool] = []
    length = 0
    for tool in tools:
        length += len(tool.described)
        if batch and (length > SEALED or tool.upstream_id != batch[0].upstream_id):
            yield batch
            batch, length = [], len(tool.described)
        batch.append(tool)
    if batch:
        yield batch

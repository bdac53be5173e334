"""The transaction that use cases write through: it knows every change it makes, so it can record each of them."""

from typing import Any, NoReturn, TypeVar

from sqlalchemy import Column, Connection, Executable, Result, delete, insert, update
from sqlalchemy.exc import IntegrityError

from sluicegate.core.catalog import KIND_OF, Entity
from sluicegate.core.errors import Conflict, NotFound
from sluicegate.store.conflicts import conflict
from sluicegate.store.revision_log import RECORDED, Recorded, append, begin
from sluicegate.store.rows import as_stored, columns_of, key_of, named, payload_of, read_rows, row_of
from sluicegate.store.schema import ENTITY_OF, REFERRERS, TABLES

E = TypeVar("E", bound=Entity)


class SqlTransaction:
    """Implements `ports.Transaction`. A Conflict ends it: work that swallows one cannot commit the rest."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begun = False
        self._changes: list[Recorded] = []
        self._conflict: Conflict | None = None

    def get(self, entity: type[E], key: str) -> E | None:
        """The row, locked until the transaction ends."""
        self._refuse_after_conflict()
        row = columns_of(entity).where(TABLES[entity].c.id == key).with_for_update()
        found = list(read_rows(self._connection, entity, row))
        return found[0] if found else None

    def all(self, entity: type[E]) -> list[E]:
        """All rows of the kind, in the order of their ids."""
        return self.find(entity)

    def find(self, entity: type[E], **columns: str) -> list[E]:
        """The rows whose columns have these values, in the order of their ids; an email address in any case."""
        self._refuse_after_conflict()
        table = TABLES[entity]
        wanted = {name: value.lower() if name == "email" else value for name, value in columns.items()}
        rows = columns_of(entity).where(*(table.c[name] == value for name, value in wanted.items()))
        return list(read_rows(self._connection, entity, rows.order_by(table.c.id)))

    def insert(self, entity: Entity) -> None:
        """Adds a row. Raises Conflict when its id or a unique name is taken, or what it refers to is gone."""
        stored = as_stored(entity)
        payload = payload_of(stored)
        self._write(insert(TABLES[type(stored)]).values(row_of(stored)), stored)
        self._record(type(stored), key_of(stored), payload)

    def update(self, entity: Entity) -> None:
        """Replaces the row with the entity's id; nothing is written or recorded when it is the same.

        Raises NotFound when there is none, Conflict as `insert` does.
        """
        stored = as_stored(entity)
        payload = payload_of(stored)
        if self._present(stored) == stored:
            return
        table = TABLES[type(stored)]
        self._write(update(table).where(table.c.id == key_of(stored)).values(row_of(stored)), stored)
        self._record(type(stored), key_of(stored), payload)

    def delete(self, entity: Entity) -> None:
        """Removes the row and what belongs to it alone; each removal is recorded.

        Raises NotFound when there is none, Conflict while something else refers to it.
        """
        present = self._present(entity)  # locked: nothing can come to refer to it while we look
        table = TABLES[type(entity)]
        for column in REFERRERS[table]:
            if not column.info["owned"]:
                self._refuse_if_used(present, column)
        for column in REFERRERS[table]:
            if column.info["owned"]:
                self._delete_where(column, present)
        self._delete_where(table.c.id, present)

    def finish(self) -> int:
        """Records the changes and returns the revision at which they stand; no change may follow."""
        self._refuse_after_conflict()
        return append(self._connection, self._changes)

    def _present(self, entity: E) -> E:
        present = self.get(type(entity), key_of(entity))
        if present is None:
            raise NotFound(f"{named(entity)} does not exist: it may have been deleted meanwhile")
        return present

    def _refuse_if_used(self, entity: Entity, column: Column[Any]) -> None:
        kind = ENTITY_OF[column.table]
        first = columns_of(kind).where(column == key_of(entity)).order_by(column.table.c.id).limit(1)
        for other in list(read_rows(self._connection, kind, first)):
            self._fail(Conflict(f"{named(entity)} still has {named(other)}: move or delete that first", code="in_use"))

    def _delete_where(self, column: Column[Any], entity: Entity) -> None:
        table = column.table
        gone = self._write(delete(table).where(column == key_of(entity)).returning(table.c.id), entity)
        for key in sorted(gone.scalars()):
            self._record(ENTITY_OF[table], key, None)

    def _record(self, entity: type[Entity], key: str, payload: str | None) -> None:
        # One row for each change, not for each entity: replayed in order, no unique name is ever held twice.
        self._changes.append(Recorded(KIND_OF[entity], key, payload))

    def _write(self, statement: Executable, entity: Entity) -> Result[Any]:
        self._refuse_after_conflict()
        if not self._begun:
            begin(self._connection)
            self._begun = True
        try:
            return self._connection.execute(statement, execution_options=RECORDED)
        except IntegrityError as error:
            known = conflict(error, entity)
            if known is None:
                raise
            self._fail(known)

    def _fail(self, reason: Conflict) -> NoReturn:
        self._conflict = reason
        raise reason

    def _refuse_after_conflict(self) -> None:
        if self._conflict is not None:
            raise self._conflict

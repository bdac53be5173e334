"""Entity to row and back. The Structs' fields are the columns, so one mapping serves every kind."""

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Select, select

from sluicegate.core.catalog import KIND_OF, Entity, Kind, User
from sluicegate.core.errors import InvalidInput
from sluicegate.core.events import encode_entity
from sluicegate.store.schema import TABLES

E = TypeVar("E", bound=Entity)

_WORDS = {Kind.SERVER: "virtual server"}


def kind_word(entity: type[Entity]) -> str:
    """What people call the kind."""
    kind = KIND_OF[entity]
    return _WORDS.get(kind, kind.value)


def named(entity: Entity) -> str:
    """The entity as messages name it: "team `payments`"."""
    name = next(getattr(entity, field) for field in ("slug", "email", "name", "id") if hasattr(entity, field))
    return f"{kind_word(type(entity))} `{name}`"


def key_of(entity: Entity) -> str:
    """The id, which every kind has."""
    key: str = entity.id  # type: ignore[attr-defined]  # Entity states no fields
    return key


def as_stored(entity: E) -> E:
    """The entity as the database holds it: an email address in lower case, so that it is unique in any case."""
    if isinstance(entity, User):
        return msgspec.structs.replace(entity, email=entity.email.lower())
    return entity


def row_of(entity: Entity) -> dict[str, object]:
    """The entity's columns. Raises InvalidInput for text that not every database can hold."""
    row: dict[str, object] = msgspec.to_builtins(entity)
    if any(isinstance(value, str) and "\0" in value for value in row.values()):
        raise InvalidInput(f"a {kind_word(type(entity))} has a NUL character in its text", code="invalid_text")
    return row


def payload_of(entity: Entity) -> str:
    """The entity as the revision log holds it. Raises InvalidInput for text that is not Unicode."""
    try:
        return encode_entity(entity).decode()
    except UnicodeEncodeError:
        word = kind_word(type(entity))
        raise InvalidInput(f"a {word} has text that is not valid Unicode", code="invalid_text") from None


def columns_of(entity: type[Entity]) -> Select[*tuple[Any, ...]]:
    """All rows of the kind, their columns in the order of the fields."""
    table = TABLES[entity]
    return select(*(table.c[field] for field in entity.__struct_fields__))


def read_rows(connection: Connection, entity: type[E], rows: Select[*tuple[Any, ...]]) -> Iterator[E]:
    """The entities in `rows`, a selection of `columns_of`. Raises msgspec.ValidationError when one does not fit."""
    fields = entity.__struct_fields__
    for row in connection.execute(rows):
        yield msgspec.convert(dict(zip(fields, row, strict=True)), entity)

"""What a violated constraint means, in words, the same on both databases."""

from msgspec import Struct
from sqlalchemy import UniqueConstraint
from sqlalchemy.exc import IntegrityError

from sluicegate.core.catalog import Entity
from sluicegate.core.errors import Conflict
from sluicegate.store.rows import kind_word, named
from sluicegate.store.schema import ENTITY_OF, TABLES

_UNIQUE, _FOREIGN_KEY = "23505", "23503"  # SQLSTATE
_SQLITE_UNIQUE, _SQLITE_FOREIGN_KEY = "UNIQUE constraint failed: ", "FOREIGN KEY constraint failed"


class _Taken(Struct, frozen=True):
    column: str


class _Dangling(Struct, frozen=True):
    pass


def conflict(error: IntegrityError, entity: Entity) -> Conflict | None:
    """The conflict that inserting or updating `entity` ran into; None for constraints that only a bug violates."""
    match _violation(error, entity):
        case _Taken("id"):
            return Conflict(f"{named(entity)} exists already", code="id_taken")
        case _Taken(column):
            return Conflict(f"{named(entity)} exists already: choose another {column}", code=f"{column}_taken")
        case _Dangling():
            return Conflict(
                f"{named(entity)} refers to {_references(entity)}: it does not exist", code="reference_gone"
            )
    return None


def _violation(error: IntegrityError, entity: Entity) -> _Taken | _Dangling | None:
    sqlstate = getattr(error.orig, "sqlstate", None)
    text = str(error.orig)
    if sqlstate == _FOREIGN_KEY or text.startswith(_SQLITE_FOREIGN_KEY):
        return _Dangling()
    if text.startswith(_SQLITE_UNIQUE):
        return _Taken(text.rpartition(".")[2])
    if sqlstate == _UNIQUE:
        return _Taken(_last_column(str(error.orig.diag.constraint_name), entity))  # type: ignore[union-attr]
    return None


def _last_column(constraint: str, entity: Entity) -> str:
    for known in TABLES[type(entity)].constraints:
        if isinstance(known, UniqueConstraint) and known.name == constraint:
            return list(known.columns)[-1].name
    return "id"


def _references(entity: Entity) -> str:
    values = [
        (kind_word(ENTITY_OF[key.column.table]), getattr(entity, key.parent.name))
        for key in TABLES[type(entity)].foreign_keys
    ]
    return " or ".join(sorted(f"{word} `{value}`" for word, value in values if value is not None))

"""A change as the revision log carries it: the new state of one entity, or that it is gone."""

import msgspec
from msgspec import Struct

from sluicegate.core.catalog import ENTITIES, Entity, Kind


class Change(Struct, frozen=True, gc=False):
    """Revision `rev` gave the entity `key` of `kind` the state `entity`; None means that it was deleted."""

    rev: int
    kind: Kind
    key: str
    entity: Entity | None
    more: bool = False
    """The next revision was written by the same transaction: nothing may be decided between the two."""


def encode_entity(entity: Entity) -> bytes:
    """The payload of the entity's log row."""
    return msgspec.json.encode(entity)


def decode_change(rev: int, kind: str, key: str, payload: str | bytes | None) -> Change:
    """The change that a log row states. Raises ValueError for an unknown kind or a payload that does not fit it."""
    known = Kind(kind)
    entity = None if payload is None else _DECODERS[known].decode(payload)
    return Change(rev, known, key, entity)


_DECODERS: dict[Kind, msgspec.json.Decoder[Entity]] = {
    kind: msgspec.json.Decoder(entity) for kind, entity in ENTITIES.items()
}

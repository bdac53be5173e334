"""Request bodies, read strictly: JSON of exactly the declared shape, every name once."""

import json
from typing import Any

import msgspec
from litestar.dto import AbstractDTO
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from sluicegate.core.errors import InvalidInput
from sluicegate.web.asgi import header_values


class StrictBody(AbstractDTO[Any]):
    """Litestar's place for a decoder of one's own: takes the type from the route's `data` and converts nothing.

    Without it a body would be read leniently: "1" as a number, a name that stands twice by its last value.
    """

    def decode_bytes(self, value: bytes) -> Any:
        """The body as the route's `data`. Raises InvalidInput."""
        connection = self.asgi_connection
        content_types = header_values(connection.scope, b"content-type")  # type: ignore[arg-type]
        if len(content_types) != 1 or content_types[0].partition(";")[0].strip().lower() != "application/json":
            raise InvalidInput("send the body with `Content-Type: application/json`", code="invalid_content_type")
        field = connection.route_handler.parsed_data_field
        assert field is not None  # Litestar asks for a body only where a route declares one
        return read_strictly(value, field.annotation)

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """No transfer model is made: the Structs are the models."""

    @classmethod
    def create_openapi_schema(
        cls,
        field_definition: FieldDefinition,
        handler_id: str,  # noqa: ARG003
        schema_creator: Any,
    ) -> Reference | Schema:
        """The schema of the Struct itself."""
        schema: Reference | Schema = schema_creator.for_field_definition(field_definition)
        return schema


def read_strictly(raw: bytes, kind: Any) -> Any:
    """The JSON text as `kind`. Raises InvalidInput that names the field which is wrong, and no secret."""
    try:
        json.loads(raw, object_pairs_hook=_without_repetition)
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body does not fit: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError):
        raise InvalidInput("the body is not valid JSON", code="invalid_json") from None


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise InvalidInput("a name stands twice in an object of the body", code="duplicate_name")
    return names

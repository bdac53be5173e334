"""The API's description (OpenAPI 3.1): what Litestar knows of the routes, with permissions and our errors added."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from sluicegate import __version__
from sluicegate.core.permissions import Permission
from sluicegate.web.errors import Problem
from sluicegate.web.rest.context import REVISION

SCHEME = "token"
DESCRIPTION = """Administration of Sluicegate. What you may not see answers exactly as what does not exist: 404.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.
Lists page with `limit` and an opaque `cursor`."""


def openapi_config() -> OpenAPIConfig:
    """What Litestar adds to its own knowledge. The routes that it makes for it lie outside of what is served."""
    return OpenAPIConfig(
        title="Sluicegate",
        version=__version__,
        description=DESCRIPTION,
        components=Components(security_schemes={SCHEME: SecurityScheme(type="http", scheme="bearer")}),
        security=[{SCHEME: []}],
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, *_: handler.handler_name,
        path="/unserved",
        render_plugins=[JsonRenderPlugin()],
    )


def description_of(api: Litestar, permissions: Mapping[tuple[str, str], Permission]) -> bytes:
    """The description as JSON."""
    document: dict[str, Any] = api.openapi_schema.to_schema()
    schemas = document["components"]["schemas"]
    schemas["Problem"] = _schema_of_problem()
    schemas["ToolView"]["properties"]["definition"] = {"type": "object"}
    for (method, path), permission in permissions.items():
        operation = document["paths"][path][method.lower()]
        _complete(operation, method, permission)
        if "requestBody" in operation:
            body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            schemas[body]["additionalProperties"] = False
    return msgspec.json.encode(document)


def _complete(operation: dict[str, Any], method: str, permission: Permission) -> None:
    operation["x-permission"] = permission
    operation["summary"] = operation["operationId"].replace("_", " ")
    operation["description"] = f"{operation['description']}\n\nNeeds `{permission}`."
    responses = operation["responses"]
    responses.pop("400", None)  # Litestar's own form of a validation error, which is never sent
    for status, response in responses.items():
        response["description"] = HTTPStatus(int(status)).phrase
        if method != "GET":
            response["headers"] = {REVISION: {"schema": {"type": "integer"}}}
    responses["default"] = {
        "description": "Refused or failed",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _schema_of_problem() -> dict[str, Any]:
    _, components = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    schema: dict[str, Any] = components["Problem"]
    return schema

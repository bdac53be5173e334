"""The API's description (OpenAPI 3.1): what Litestar knows of the routes, with permissions and our errors added."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from sluicegate import __version__
from sluicegate.core.permissions import Permission
from sluicegate.web.deciding import AGE, STATE
from sluicegate.web.errors import Problem
from sluicegate.web.rest.applied import ALL, APPLIED, AWAY, MOST_NAMED, REVISION, WAIT
from sluicegate.web.token_scoping import MIN_REVISION

SCHEME = "token"
PARAMETERS: dict[str, dict[str, Any]] = {
    WAIT: {
        "name": WAIT,
        "in": "query",
        "required": False,
        "schema": {"type": "string", "enum": [ALL]},
        "description": "answer when all instances have applied the change, or after a few seconds, and say which",
    },
    MIN_REVISION: {
        "name": MIN_REVISION,
        "in": "header",
        "required": False,
        "schema": {"type": "integer", "minimum": 0},
        "description": f"decide by this revision or a later one, such as the {REVISION} of a change made elsewhere; "
        "503 `revision_not_reached` after a second",
    },
}
HEADERS: dict[str, dict[str, Any]] = {
    AGE: {
        "schema": {"type": "number", "minimum": 0},
        "description": "Seconds since the authorization data that decided was known to be current",
    },
    STATE: {
        "schema": {"type": "string", "enum": ["outage"]},
        "description": "Present when the data is older than promised: the database does not answer",
    },
    REVISION: {
        "schema": {"type": "integer"},
        "description": "The revision at which the change stands",
    },
    APPLIED: {
        "schema": {"type": "string"},
        "description": f"Of the instances that are known, how many decide by the change: `2 of 3`, or `unknown`. "
        f"With `{WAIT}={ALL}`, and after a revocation",
    },
    AWAY: {
        "schema": {"type": "string"},
        "description": f"Those that do not yet, the {MOST_NAMED} that may for longest, as a list of `name; until=…`: "
        "from that time (RFC 3339) on they decide nothing without the change",
    },
}
OF_EVERY_ANSWER, OF_CHANGES = (AGE, STATE), (REVISION, APPLIED, AWAY)
DESCRIPTION = """Administration of Sluicegate. What you may not see answers exactly as what does not exist: 404.
Errors are `application/problem+json` (RFC 9457) with a stable `code`.
Lists page with `limit` and an opaque `cursor`. A change is known to the instance that answered it, and within the
bound that is promised to all; `wait=all` waits for them."""


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
    document["components"] |= {"parameters": PARAMETERS, "headers": HEADERS}
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
    parameters = (MIN_REVISION,) if method == "GET" else (WAIT, MIN_REVISION)
    operation.setdefault("parameters", []).extend(_references("parameters", parameters).values())
    headers = OF_EVERY_ANSWER if method == "GET" else OF_EVERY_ANSWER + OF_CHANGES
    responses = operation["responses"]
    responses.pop("400", None)  # Litestar's own form of a validation error, which is never sent
    for status, response in responses.items():
        response["description"] = HTTPStatus(int(status)).phrase
        response["headers"] = _references("headers", headers)
    responses["default"] = {
        "description": "Refused or failed",
        "headers": _references("headers", OF_EVERY_ANSWER),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _references(kind: str, names: Sequence[str]) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/{kind}/{name}"} for name in names}


def _schema_of_problem() -> dict[str, Any]:
    _, components = msgspec.json.schema_components([Problem], ref_template="#/components/schemas/{name}")
    schema: dict[str, Any] = components["Problem"]
    return schema

"""The two tables that say how the error tree looks outside: as problem+json (RFC 9457) and as JSON-RPC.

401 and 403 only ever mean a decision; an infrastructure fault is 503 with `Retry-After`.
"""

import msgspec
from msgspec import Struct

from sluicegate.core import errors as tree
from sluicegate.core.permissions import Permission
from sluicegate.web.asgi import Answer

HTTP_STATUS: dict[type[tree.SluicegateError], int] = {
    tree.InvalidInput: 400,
    tree.TooLarge: 413,
    tree.EgressRefused: 422,
    tree.Unauthenticated: 401,
    tree.AmbiguousCredential: 400,
    tree.Forbidden: 403,
    tree.NotFound: 404,
    tree.Conflict: 409,
    tree.Unavailable: 503,
    tree.UpstreamFailed: 502,
    tree.UpstreamTimeout: 504,
    tree.SluicegateError: 500,
}

JSONRPC_CODE: dict[type[tree.SluicegateError], int] = {
    tree.InvalidInput: -32602,
    tree.NotFound: -32602,
    tree.SluicegateError: -32603,
}
"""MCP reserves -32020 to -32099 and closes -32000 to -32019 to new code, so the stable word goes into `data.code`."""

USUAL_SCOPES = f"{Permission.SERVERS_USE} {Permission.TOOLS_CALL}"
"""What a client is told to ask for when it comes without a token (MCP authorization: scope selection)."""

TITLES = {400: "Bad request", 401: "Unauthenticated", 403: "Forbidden", 404: "Not found", 405: "Method not allowed"}
TITLES |= {409: "Conflict", 413: "Too large", 422: "Refused", 500: "Internal error", 502: "Upstream failed"}
TITLES |= {503: "Unavailable", 504: "Upstream timed out"}


class Problem(Struct, frozen=True, omit_defaults=True):
    """The body of an error answer; `code` is stable, `detail` is for people."""

    title: str
    status: int
    code: str
    detail: str
    reason: str | None = None
    """Which clause of the decision objected; only on a 403."""
    instance: str | None = None
    """The request's id."""


def http_status(error: tree.SluicegateError) -> int:
    """The status of the nearest ancestor of the error that the table names."""
    return next(HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS)


def jsonrpc_code(error: tree.SluicegateError) -> int:
    """The JSON-RPC code of the nearest ancestor of the error that the table names."""
    return next(JSONRPC_CODE[kind] for kind in type(error).__mro__ if kind in JSONRPC_CODE)


def error_headers(error: tree.SluicegateError, metadata_url: str) -> list[tuple[bytes, bytes]]:
    """`WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1) on 401 and 403, `Retry-After` on 503."""
    if isinstance(error, tree.Forbidden):
        challenge = f'Bearer error="insufficient_scope", scope="{" ".join(error.scopes)}"'
    elif isinstance(error, tree.Unauthenticated) and http_status(error) == 401:
        problem_with_token = "" if error.code == "token_missing" else 'error="invalid_token", '
        challenge = f'Bearer {problem_with_token}scope="{USUAL_SCOPES}"'
    elif isinstance(error, tree.Unavailable):
        return [(b"retry-after", b"%d" % error.retry_after)]
    else:
        return []
    return [(b"www-authenticate", f'{challenge}, resource_metadata="{metadata_url}"'.encode("latin-1"))]


def problem(error: tree.SluicegateError, metadata_url: str, request_id: str | None = None) -> Answer:
    """The error as `application/problem+json`."""
    status = http_status(error)
    reason = error.reason if isinstance(error, tree.Forbidden) else None
    body = Problem(TITLES[status], status, error.code, str(error), reason, request_id)
    headers = [(b"content-type", b"application/problem+json"), *error_headers(error, metadata_url)]
    return Answer(status, headers, msgspec.json.encode(body))

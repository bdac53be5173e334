"""Reads the one credential of a request. Two are refused, so that nobody can be judged by one and served by another."""

from urllib.parse import parse_qsl

from sluicegate.core.errors import AmbiguousCredential, Unauthenticated
from sluicegate.web.asgi import Scope

SESSION_COOKIE = b"sluicegate_session="
"""A browser session of ours."""
IN_QUERY = frozenset({"access_token", "token", "bearer", "authorization"})


def bearer_token(scope: Scope) -> str:
    """The bearer token (RFC 6750, section 2.1). Raises Unauthenticated without one, AmbiguousCredential with two."""
    values = []
    for name, value in scope["headers"]:
        if name == b"authorization":
            values.append(value)
        elif name == b"cookie" and SESSION_COOKIE in value:
            values.append(b"")
    if scope["query_string"] and _has_token(scope["query_string"]):
        raise AmbiguousCredential("a token in the URL is not accepted: send it in the Authorization header, alone")
    if len(values) > 1 or (values and b"," in values[0]):
        raise AmbiguousCredential("the request has more than one credential: send one Authorization header, no cookie")
    scheme, _, token = values[0].strip(b" \t").partition(b" ") if values else (b"", b"", b"")
    if scheme.lower() != b"bearer":
        raise Unauthenticated("a token is needed: send it as `Authorization: Bearer …`", code="token_missing")
    return str(token.lstrip(b" "), "latin-1")


def _has_token(query: bytes) -> bool:
    names = (name.lower() for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    return not IN_QUERY.isdisjoint(names)

"""Refusals of the HTTP layer itself, which are no error of the tree: nothing of ours was asked yet."""

import msgspec

from sluicegate.web.asgi import REQUEST_ID, Answer, Scope
from sluicegate.web.errors import TITLES, Problem


def refusal(scope: Scope, status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> Answer:
    """The refusal as `application/problem+json` (RFC 9457)."""
    body = Problem(TITLES[status], status, code, detail, instance=scope.get(REQUEST_ID))
    return Answer(status, [(b"content-type", b"application/problem+json"), *headers], msgspec.json.encode(body))

"""Every error of the API as problem+json, Litestar's own too. What nobody foresaw goes on to the outer boundary."""

from typing import Any, Never, cast

import structlog
from litestar import Response
from litestar.connection import Request
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.types import ExceptionHandlersMap

from sluicegate.core.errors import InvalidInput, NotFound, SluicegateError, Unavailable
from sluicegate.web.asgi import REQUEST_ID, Answer, Scope
from sluicegate.web.errors import problem
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.refusals import refusal

log = structlog.get_logger()

AnyRequest = Request[Any, Any, Any]


def exception_handlers(metadata_url: MetadataUrl) -> ExceptionHandlersMap:
    """How the application answers errors."""

    def of_ours(request: AnyRequest, error: SluicegateError) -> Response[bytes]:
        scope = cast(Scope, request.scope)
        if isinstance(error, Unavailable):  # the caller learns that it may try again, the operator why
            log.warning("a write was not carried out", code=error.code, reason=str(error), cause=repr(error.__cause__))
        return _response(problem(error, metadata_url(scope), scope.get(REQUEST_ID)))

    def of_litestar(request: AnyRequest, error: HTTPException) -> Response[bytes]:
        scope = cast(Scope, request.scope)
        if isinstance(error, MethodNotAllowedException):
            methods = (error.headers or {}).get("allow", "").split(", ")
            allow = ", ".join(sorted(method for method in methods if method != "OPTIONS"))  # Litestar adds those
            detail = f"{request.method} is not answered here"
            return _response(refusal(scope, 405, "method_not_allowed", detail, (b"allow", allow.encode())))
        if error.status_code >= 500:
            raise error
        return of_ours(request, _of_the_tree(error, scope))

    return {SluicegateError: of_ours, HTTPException: of_litestar, Exception: _pass_on}


def _of_the_tree(error: HTTPException, scope: Scope) -> SluicegateError:
    if isinstance(error, NotFoundException):
        return NotFound(f"there is nothing at {scope['path'][:200]}")
    if isinstance(error, ValidationException):
        return InvalidInput(_sentence(error.extra))
    return InvalidInput(error.detail)


def _sentence(extra: object) -> str:
    """Litestar's list of what is wrong, as one sentence."""
    found = extra if isinstance(extra, list) else []
    if any(each.get("key") == "data" for each in found):
        return "send a JSON body"
    return "; ".join(f"`{each.get('key', '?')}`: {each['message']}" for each in found) or "the request does not fit"


def _pass_on(_: AnyRequest, error: Exception) -> Never:
    raise error


def _response(answer: Answer) -> Response[bytes]:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
    media_type = headers.pop("content-type")
    return Response(answer.body, status_code=answer.status, headers=headers, media_type=media_type)

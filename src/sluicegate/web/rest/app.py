"""The API put together: Litestar for `/v1`, with everything off that is not needed, and the pages that describe it."""

from collections.abc import Mapping
from typing import Any, cast

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.routes import HTTPRoute

from sluicegate.core.errors import NotFound
from sluicegate.core.permissions import Permission
from sluicegate.web.asgi import REQUEST_ID, App, Receive, Scope, Send, send_answer
from sluicegate.web.docs import Documentation
from sluicegate.web.errors import problem
from sluicegate.web.rest.bodies import StrictBody
from sluicegate.web.rest.context import STATE_KEY, RestContext, RestRequest, Shared, use_cases
from sluicegate.web.rest.failures import exception_handlers
from sluicegate.web.rest.openapi import description_of, openapi_config
from sluicegate.web.rest.permissions import PERMISSION_OF, Route, check_complete, require_token
from sluicegate.web.rest.query import refuse_unknown_parameters
from sluicegate.web.rest.servers import servers
from sluicegate.web.rest.teams import teams
from sluicegate.web.rest.tokens import tokens
from sluicegate.web.rest.tools import tools
from sluicegate.web.rest.upstreams import upstreams
from sluicegate.web.rest.users import users

PREFIX = "/v1"


def create_rest_app(context: RestContext) -> App:
    """The ASGI application for `/v1/...`, `/openapi.json` and `/docs...`; answers 404 elsewhere.

    Expects the `Principal` in the scope of every request to `/v1`. Raises ConfigurationError when a route has no
    permission in the table.
    """
    api = guarded_api(context, PERMISSION_OF)
    documentation = Documentation(description_of(api, PERMISSION_OF))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == PREFIX or path.startswith(PREFIX + "/"):
            await api(cast(Any, scope), cast(Any, receive), cast(Any, send))
            return
        answer = documentation.answer(scope)
        if answer is None:
            missing = NotFound(f"there is nothing at {path[:200]}")
            answer = problem(missing, context.metadata_url(scope), scope.get(REQUEST_ID))
        await send_answer(send, answer)

    return app


def guarded_api(context: RestContext, permissions: Mapping[Route, Permission]) -> Litestar:
    """The routes, all of them in the table. Raises ConfigurationError for one that is not, and for a dangling entry."""
    api = _litestar(context)
    check_complete(routes_of(api), set(permissions))
    return api


def routes_of(api: Litestar) -> set[Route]:
    """Method and path of everything below the prefix, but for the OPTIONS that Litestar adds."""
    return {
        (str(method), route.path_format)
        for route in api.routes
        if isinstance(route, HTTPRoute) and route.path_format.startswith(PREFIX)
        for method in route.route_handler_map
        if method != "OPTIONS"
    }


def _litestar(context: RestContext) -> Litestar:
    return Litestar(
        [Router(PREFIX, route_handlers=[teams, users, upstreams, tools, servers, tokens])],
        debug=False,
        dto=StrictBody,
        exception_handlers=exception_handlers(context.metadata_url),
        guards=[require_token, refuse_unknown_parameters],
        logging_config=None,
        openapi_config=openapi_config(),
        request_class=RestRequest,
        request_max_body_size=None,  # bounded further out
        return_dto=None,
        state=State({STATE_KEY: Shared(context, use_cases(context))}),
    )

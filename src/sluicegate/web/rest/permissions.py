"""Every route of the API and the permission it needs, in one table. What is not in it is not answered.

The table guards against a token that leaves the permission out. Whether the caller may do it is decided at the object.
"""

from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import BaseRouteHandler

from sluicegate.core.errors import AuthorizationStale, ConfigurationError
from sluicegate.core.permissions import Permission
from sluicegate.usecases.calling import Caller
from sluicegate.web.rest.context import RestRequest

_P = Permission
Route = tuple[str, str]
"""Method and path."""

PERMISSION_OF: dict[Route, Permission] = {
    ("GET", "/v1/teams"): _P.TEAMS_READ,
    ("POST", "/v1/teams"): _P.TEAMS_MANAGE,
    ("GET", "/v1/teams/{team}"): _P.TEAMS_READ,
    ("PATCH", "/v1/teams/{team}"): _P.TEAMS_MANAGE,
    ("DELETE", "/v1/teams/{team}"): _P.TEAMS_MANAGE,
    ("GET", "/v1/teams/{team}/members"): _P.TEAMS_READ,
    ("PUT", "/v1/teams/{team}/members/{user}"): _P.TEAMS_MANAGE,
    ("DELETE", "/v1/teams/{team}/members/{user}"): _P.TEAMS_MANAGE,
    ("GET", "/v1/users"): _P.USERS_READ,
    ("POST", "/v1/users"): _P.USERS_MANAGE,
    ("GET", "/v1/users/{user}"): _P.USERS_READ,
    ("PATCH", "/v1/users/{user}"): _P.USERS_MANAGE,
    ("DELETE", "/v1/users/{user}"): _P.USERS_MANAGE,
    ("GET", "/v1/upstreams"): _P.UPSTREAMS_READ,
    ("POST", "/v1/upstreams"): _P.UPSTREAMS_MANAGE,
    ("GET", "/v1/upstreams/{upstream}"): _P.UPSTREAMS_READ,
    ("PATCH", "/v1/upstreams/{upstream}"): _P.UPSTREAMS_MANAGE,
    ("DELETE", "/v1/upstreams/{upstream}"): _P.UPSTREAMS_MANAGE,
    ("POST", "/v1/upstreams/{upstream}/sync"): _P.UPSTREAMS_MANAGE,
    ("GET", "/v1/tools"): _P.TOOLS_READ,
    ("GET", "/v1/tools/{tool}"): _P.TOOLS_READ,
    ("PATCH", "/v1/tools/{tool}"): _P.TOOLS_MANAGE,
    ("GET", "/v1/servers"): _P.SERVERS_READ,
    ("POST", "/v1/servers"): _P.SERVERS_MANAGE,
    ("GET", "/v1/servers/{server}"): _P.SERVERS_READ,
    ("PATCH", "/v1/servers/{server}"): _P.SERVERS_MANAGE,
    ("DELETE", "/v1/servers/{server}"): _P.SERVERS_MANAGE,
    ("GET", "/v1/tokens"): _P.TOKENS_READ,
    ("POST", "/v1/tokens"): _P.TOKENS_CREATE,
    ("GET", "/v1/tokens/{token}"): _P.TOKENS_READ,
    ("POST", "/v1/tokens/{token}/revoke"): _P.TOKENS_REVOKE,
    ("DELETE", "/v1/tokens/{token}"): _P.TOKENS_REVOKE,
}


def check_complete(routes: set[Route], table: set[Route]) -> None:
    """Raises ConfigurationError when a route has no permission, or an entry of the table no route."""
    if bare := sorted(routes - table):
        raise ConfigurationError(f"routes without a permission: {bare}")
    if dangling := sorted(table - routes):
        raise ConfigurationError(f"permissions without a route: {dangling}")


def allowed_at(path: str) -> str:
    """The methods that are answered at the path, as `Allow` states them."""
    return ", ".join(sorted(method for method, known in PERMISSION_OF if known == path))


async def require_token(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Raises Unauthenticated or Forbidden when the token is not good for the route, before anything else happens."""
    request = cast(RestRequest, connection)
    permission = PERMISSION_OF.get((request.method, request.scope["path_template"]))
    if permission is None:  # the OPTIONS that Litestar adds
        raise MethodNotAllowedException(headers={"allow": allowed_at(request.scope["path_template"])})
    caller: Caller = await request.caller()
    if request.method != "GET" and not request.shared.context.feed.fresh:
        raise AuthorizationStale("changes wait until authorization data is current again: the database does not answer")
    caller.require_token(permission)

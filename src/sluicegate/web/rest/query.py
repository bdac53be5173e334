"""Query parameters, read strictly: a filter with a typing error must not become a list of everything."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from sluicegate.core.errors import InvalidInput
from sluicegate.web.rest.applied import ALL, WAIT

NOT_IN_QUERY = frozenset({"request", "data"})


async def refuse_unknown_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Raises InvalidInput for a query parameter that the route does not have, and for one that stands twice."""
    known = handler.parsed_fn_signature.parameters.keys() - NOT_IN_QUERY - connection.path_params.keys()
    if connection.scope["method"] != "GET":  # type: ignore[typeddict-item]  # only HTTP comes here
        known = known | {WAIT}
    seen: set[str] = set()
    for name, value in connection.query_params.multi_items():
        if name not in known:
            raise InvalidInput(f"there is no query parameter `{name[:80]}` here")
        if name in seen:
            raise InvalidInput(f"the query parameter `{name}` stands twice")
        if name == WAIT and value != ALL:
            raise InvalidInput(f"`{WAIT}` may only be `{ALL}`: leave it out to be answered at once")
        seen.add(name)

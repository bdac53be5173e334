"""`/v1/tokens`"""

from typing import Annotated

from litestar import Response, Router, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.core.permissions import Permission
from sluicegate.usecases.manage_tokens import TokenRequest, list_tokens, token_named
from sluicegate.usecases.manage_users import ME
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import IssuedTokenView, RevokedTokenView, TokenView
from sluicegate.web.rest.applied import applied_headers
from sluicegate.web.rest.context import RestRequest, changed
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import issued_token_view, revoked_token_view, token_view

OfUser = Annotated[
    str | None, QueryParameter(description="only the tokens of this user: an email address, an id or `me`")
]
Names = Annotated[list[str], Meta(max_length=64, description="absent inherits, a list narrows, [] gives nothing")]


class NewToken(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A token to be issued; teams and servers by slug or id. null is not a value of the lists: leave them out."""

    name: str
    expires_in: Annotated[int, Meta(ge=1, description="seconds; it ends with the token that you use at the latest")]
    user: Annotated[str, Meta(description="an email address, an id or `me`")] = ME
    teams: Names | UnsetType = UNSET
    servers: Names | UnsetType = UNSET
    permissions: Names | UnsetType = UNSET


@get("/")
async def list_of_tokens(
    request: RestRequest, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None, user: OfUser = None
) -> Page[TokenView]:
    """The tokens that you may read, oldest first: your own, or all for a platform admin."""
    return list_tokens(await request.caller(), PageRequest(limit, cursor), user).map(token_view)


@post("/")
async def create_token(request: RestRequest, data: JSONBody[NewToken]) -> Response[IssuedTokenView]:
    """Issues a token that gives nothing that your own does not give. Its secret is shown this once.

    Tokens for others are a platform admin's to issue.
    """
    wanted = TokenRequest(
        data.name, data.expires_in, _names(data.teams), _names(data.servers), _names(data.permissions)
    )
    written = await request.uses.tokens.issue(await request.caller(), data.user, wanted)
    await request.reached(written.revision)
    response = await request.changed(issued_token_view(written.value), written.revision)
    response.set_header("Cache-Control", "no-store")
    return response


@get("/{token:str}")
async def get_token(request: RestRequest, token: FromPath[str]) -> TokenView:
    """One token, by its id, which is its `jti`."""
    return token_view(token_named(await request.caller(), Permission.TOKENS_READ, token))


@post("/{token:str}/revoke", status_code=200)
async def revoke_token(request: RestRequest, token: FromPath[str]) -> Response[RevokedTokenView]:
    """Revokes a token for good, on every instance within the bound that is promised.

    The answer comes when all instances refuse the token, or says which of them do not and for how long at most.
    """
    written = await request.uses.tokens.revoke(await request.caller(), token)
    await request.reached(written.revision)
    applied = await request.applied(written.revision)
    return changed(revoked_token_view(written.value, applied), written.revision, applied_headers(applied))


@delete("/{token:str}")
async def delete_token(request: RestRequest, token: FromPath[str]) -> Response[None]:
    """Revokes a token. Its row stays, so that the revocation is remembered for as long as the token could be used."""
    written = await request.uses.tokens.revoke(await request.caller(), token)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


tokens = Router(
    "/tokens", route_handlers=[list_of_tokens, create_token, get_token, revoke_token, delete_token], tags=["tokens"]
)


def _names(names: list[str] | UnsetType) -> tuple[str, ...] | None:
    return None if names is UNSET else tuple(names)

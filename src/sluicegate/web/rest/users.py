"""`/v1/users`"""

from litestar import Response, Router, delete, get, patch, post
from litestar.params import FromPath, JSONBody

from sluicegate.core.permissions import Permission
from sluicegate.usecases.manage_users import NewUser, UserChange, list_users, user_named
from sluicegate.usecases.paging import Page, PageRequest
from sluicegate.web.rest.answers import UserView
from sluicegate.web.rest.context import RestRequest
from sluicegate.web.rest.paging import DEFAULT_LIMIT, Cursor, Limit
from sluicegate.web.rest.views import user_view


@get("/")
async def list_of_users(request: RestRequest, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[UserView]:
    """The accounts that you may read, by email address: your own, or all for a platform admin."""
    caller = await request.caller()
    return list_users(caller, PageRequest(limit, cursor)).map(lambda user: user_view(user, caller))


@post("/")
async def create_user(request: RestRequest, data: JSONBody[NewUser]) -> Response[UserView]:
    """Makes an account. Asked of the platform; making an admin needs `platform:manage` besides."""
    written = await request.uses.users.create(await request.caller(), data)
    caller = await request.settled(written.revision)
    return await request.changed(user_view(written.value, caller), written.revision)


@get("/{user:str}")
async def get_user(request: RestRequest, user: FromPath[str]) -> UserView:
    """One account, by email address or id; `me` is your own."""
    caller = await request.caller()
    return user_view(user_named(caller, Permission.USERS_READ, user), caller)


@patch("/{user:str}")
async def change_user(request: RestRequest, user: FromPath[str], data: JSONBody[UserChange]) -> Response[UserView]:
    """Activates or deactivates an account, or makes it an admin's or not. One active admin must be left."""
    written = await request.uses.users.change(await request.caller(), user, data)
    caller = await request.settled(written.revision)
    return await request.changed(user_view(written.value, caller), written.revision)


@delete("/{user:str}")
async def delete_user(request: RestRequest, user: FromPath[str]) -> Response[None]:
    """Deletes an account with its memberships, tokens and private objects; what it shared stays, without an owner."""
    written = await request.uses.users.delete(await request.caller(), user)
    await request.reached(written.revision)
    return await request.changed(None, written.revision)


users = Router(
    "/users", route_handlers=[list_of_users, create_user, get_user, change_user, delete_user], tags=["users"]
)

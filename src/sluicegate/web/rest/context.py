"""What the routes work with: the ports they are given, the use cases made of them, and the request that knows both."""

from collections.abc import Mapping
from typing import TypeVar, cast

from litestar import Response
from litestar.connection import Request
from litestar.datastructures import State
from msgspec import Struct

from sluicegate.core.errors import AuthorizationStale
from sluicegate.ports import AuthzFeed, Clock, CredentialSealer, Database, Egress, TokenIssuer, Upstreams
from sluicegate.usecases.applied import Applied, WhoApplied
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.manage_servers import ManageServers
from sluicegate.usecases.manage_teams import ManageTeams
from sluicegate.usecases.manage_tokens import ManageTokens
from sluicegate.usecases.manage_tools import ManageTools
from sluicegate.usecases.manage_upstreams import ManageUpstreams
from sluicegate.usecases.manage_users import ManageUsers
from sluicegate.usecases.sync_upstream import SyncUpstream
from sluicegate.web.asgi import Scope, read_body
from sluicegate.web.deciding import caller_now
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.rest.applied import REVISION, WAIT, applied_headers

T = TypeVar("T")
STATE_KEY = "rest"


class RestContext(Struct, frozen=True):
    """What the API needs from the outside."""

    feed: AuthzFeed
    database: Database
    upstreams: Upstreams
    sealer: CredentialSealer
    egress: Egress
    issuer: TokenIssuer
    clock: Clock
    who_applied: WhoApplied
    metadata_url: MetadataUrl
    token_max_lifetime: float
    """Seconds."""


class UseCases(Struct, frozen=True):
    """What can be changed. Reading needs the directory alone."""

    teams: ManageTeams
    users: ManageUsers
    upstreams: ManageUpstreams
    tools: ManageTools
    servers: ManageServers
    tokens: ManageTokens


def use_cases(context: RestContext) -> UseCases:
    """The use cases over these ports."""
    database = context.database
    sync = SyncUpstream(database, context.upstreams)
    return UseCases(
        teams=ManageTeams(database),
        users=ManageUsers(database),
        upstreams=ManageUpstreams(database, sync, context.sealer, context.egress),
        tools=ManageTools(database),
        servers=ManageServers(database),
        tokens=ManageTokens(database, context.issuer, context.token_max_lifetime),
    )


class Shared(Struct, frozen=True):
    """What every request of the application finds in its state."""

    context: RestContext
    uses: UseCases


class RestRequest(Request[None, None, State]):
    """A request whose caller was authenticated further out."""

    @property
    def shared(self) -> Shared:
        """What the application was made with."""
        return cast(Shared, self.app.state[STATE_KEY])

    @property
    def uses(self) -> UseCases:
        """The use cases."""
        return self.shared.uses

    async def caller(self) -> Caller:
        """The caller by the directory of this moment. Raises AuthorizationStale when it may not decide.

        Asked again here because the body may have taken its time to arrive.
        """
        context = self.shared.context
        if not context.feed.fresh:
            await context.feed.ensure_current()
        return caller_now(cast(Scope, self.scope), context.feed, context.clock)

    async def reached(self, revision: int) -> None:
        """Waits, for at most a second, until a change that is committed is in the directory: its writer reads it."""
        await self.shared.context.feed.reach(revision)

    async def settled(self, revision: int) -> Caller:
        """The caller by a directory that holds the change just made. AuthorizationStale says that it was made."""
        await self.reached(revision)
        try:
            return await self.caller()
        except AuthorizationStale as error:
            message = f"the change was made, at revision {revision}, but cannot be shown: {error}"
            raise AuthorizationStale(message) from error

    async def applied(self, revision: int) -> Applied | None:
        """Which instances have applied a change that is committed, after a bounded wait for all of them."""
        return await self.shared.context.who_applied.wait(revision)

    async def changed(self, content: T, revision: int) -> Response[T]:
        """The answer to a change; with `?wait=all` it comes when all instances have applied it, or says who has not."""
        waited = applied_headers(await self.applied(revision)) if WAIT in self.query_params else {}
        return changed(content, revision, waited)

    async def body(self) -> bytes:
        """The whole body, whose size was bounded further out. Raises ClientGone."""
        return await read_body(self.receive)  # type: ignore[arg-type]  # the same ASGI callable, typed more narrowly


def changed(content: T, revision: int, headers: Mapping[str, str]) -> Response[T]:
    """The answer to a change."""
    return Response(content, headers={REVISION: str(revision), **headers})

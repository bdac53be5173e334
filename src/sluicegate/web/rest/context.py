"""What the routes work with: the ports they are given, the use cases made of them, and the request that knows both."""

from typing import TypeVar, cast

from litestar import Response
from litestar.connection import Request
from litestar.datastructures import State
from msgspec import Struct

from sluicegate.core.identity import Principal
from sluicegate.ports import AuthzFeed, Clock, CredentialSealer, Database, Egress, TokenIssuer, Upstreams
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.manage_servers import ManageServers
from sluicegate.usecases.manage_teams import ManageTeams
from sluicegate.usecases.manage_tokens import ManageTokens
from sluicegate.usecases.manage_tools import ManageTools
from sluicegate.usecases.manage_upstreams import ManageUpstreams
from sluicegate.usecases.manage_users import ManageUsers
from sluicegate.usecases.sync_upstream import SyncUpstream
from sluicegate.web.asgi import PRINCIPAL, Scope, read_body
from sluicegate.web.metadata import MetadataUrl

T = TypeVar("T")
REVISION = "Sluicegate-Revision"
"""Header of every answer to a change: the revision of the directory at which it stands."""
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
        principal: Principal = cast(Scope, self.scope)[PRINCIPAL]
        return Caller(principal, context.feed.directory, context.clock.wall())

    async def settled(self, revision: int) -> Caller:
        """The caller by a directory that holds the change just made, so that a writer reads its own write."""
        await self.shared.context.feed.reach(revision)
        return await self.caller()

    async def body(self) -> bytes:
        """The whole body, whose size was bounded further out. Raises ClientGone."""
        return await read_body(self.receive)  # type: ignore[arg-type]  # the same ASGI callable, typed more narrowly


def changed(content: T, revision: int) -> Response[T]:
    """The answer to a change."""
    return Response(content, headers={REVISION: str(revision)})

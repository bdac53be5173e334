"""What the administrative commands work with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.auth.tokens import JwtIssuer
from sluicegate.bootstrap.adapters import adapters_of
from sluicegate.bootstrap.databases import ready_schema
from sluicegate.core.directory import Directory
from sluicegate.ports import Clock
from sluicegate.settings import Settings
from sluicegate.store import SqlDatabase
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.usecases.sync_upstream import SyncUpstream


class Administration(Struct, frozen=True):
    """What administrative commands work with, on the database itself, whether or not a gateway runs."""

    settings: Settings
    clock: Clock
    database: SqlDatabase
    directory: Directory
    upstreams: StreamableHttpUpstreams
    sync: SyncUpstream
    sealer: CredentialCipher
    egress: AddressGuard
    issuer: JwtIssuer
    authenticator: DirectoryAuthenticator

    async def reload(self) -> Directory:
        """The directory as the database has it now."""
        return await _loaded(self.database, self.settings.max_entities)


@asynccontextmanager
async def administration(settings: Settings) -> AsyncIterator[Administration]:
    """Lends what the commands need; SQLite is migrated first, as `serve` does it."""
    ready_schema(settings)
    adapters = adapters_of(settings)
    try:
        directory = await _loaded(adapters.database, settings.max_entities)
        yield Administration(
            settings=settings,
            clock=adapters.clock,
            database=adapters.database,
            directory=directory,
            upstreams=adapters.upstreams,
            sync=SyncUpstream(adapters.database, adapters.upstreams),
            sealer=adapters.cipher,
            egress=adapters.guard,
            issuer=adapters.issuer,
            authenticator=DirectoryAuthenticator(adapters.verifier, lambda: directory, adapters.clock),
        )
    finally:
        await adapters.close()


async def _loaded(database: SqlDatabase, max_entities: int) -> Directory:
    return (await database.feed_source(max_entities).load()).directory

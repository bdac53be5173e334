"""The composition root: from settings to an ASGI application, or to what the administrative commands need."""

import asyncio
import contextlib
import ipaddress
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import structlog
from msgspec import Struct

from sluicegate import telemetry
from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.auth.key_files import (
    configured_keys,
    configured_secret,
    load_or_create_keys,
    load_or_create_secret,
)
from sluicegate.auth.keys import KeySet
from sluicegate.auth.tokens import JwtIssuer, JwtVerifier
from sluicegate.core.directory import Directory
from sluicegate.core.errors import ConfigurationError
from sluicegate.core.lease import Lease
from sluicegate.ports import Clock
from sluicegate.settings import Settings, load_settings
from sluicegate.store import (
    SchemaState,
    SqlDatabase,
    linked_version,
    open_database,
    schema_state,
    wal_reset_warning,
)
from sluicegate.store import migrate as migrate_store
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.upstream.transport import Limits
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.sync_upstream import SyncUpstream
from sluicegate.web.app import Doorway, Rooms, web_app
from sluicegate.web.asgi import App, Receive, Scope, Send
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.metadata import ResourceMetadata
from sluicegate.web.public import MetricsAccess, PublicPages, metrics_access
from sluicegate.web.rest import RestContext, create_rest_app

log = structlog.get_logger()

DEFAULT_URL = "http://127.0.0.1:4444"
"""Issuer and audience of our tokens while no public URL is set."""
FIRST_LOAD = 10.0
"""Seconds that the first requests wait for the directory; without one they get 503."""
CLOSING = 5.0
"""Seconds that open upstream calls get when the process ends."""


class SystemClock:
    """The machine's two clocks."""

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()

    def boot(self) -> float:
        """Seconds of CLOCK_BOOTTIME, which counts while the machine sleeps."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


class Adapters(Struct, frozen=True):
    """The outside of one process, made from its settings."""

    settings: Settings
    clock: Clock
    database: SqlDatabase
    upstreams: StreamableHttpUpstreams
    cipher: CredentialCipher
    guard: AddressGuard
    issuer: JwtIssuer
    verifier: JwtVerifier

    async def close(self) -> None:
        """Ends upstream connections, for a bounded time, and gives the database back."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self.upstreams.close()
        self.database.close()


class Gateway:
    """The ASGI application: requests go through the stack, and the lifespan runs the feed."""

    def __init__(self, app: App, feed: DirectoryFeed, adapters: Adapters) -> None:
        self._app = app
        self._feed = feed
        self._adapters = adapters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Serves even if the directory cannot be loaded: requests get 503, `/ready` says so, and the feed tries on."""
        await receive()
        following = asyncio.create_task(self._feed.run())
        await self._feed.catch_up(FIRST_LOAD)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        following.cancel()
        await self._adapters.close()
        await send({"type": "lifespan.shutdown.complete"})


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
        return await _loaded(self.database)


def create_app() -> Gateway:
    """The application of one worker, from the environment. `prepare` must have been through.

    Ctrl-C is left to the parent, which ends its workers: granian sometimes hangs on two signals at once.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    telemetry.configure_logging()
    telemetry.forget_dead_workers()
    return gateway(_adapters(load_settings()))


def gateway(adapters: Adapters) -> Gateway:
    """Joins use cases, web and adapters."""
    settings = adapters.settings
    feed = DirectoryFeed(
        adapters.database.feed_source(),
        adapters.clock,
        Lease(settings.revocation_bound, settings.outage_bound),
        adapters.upstreams.forget,
    )
    issuer = _public_url(settings)
    metadata = ResourceMetadata(settings.public_url, issuer)
    authenticator = DirectoryAuthenticator(adapters.verifier, lambda: feed.directory, adapters.clock)
    rooms = Rooms(
        mcp=McpEndpoint(feed, adapters.upstreams, adapters.clock, metadata.url),
        rest=create_rest_app(_rest_context(adapters, feed, metadata)),
        public=PublicPages(metadata, feed, _metrics_access(settings)),
    )
    names = tuple(settings.allowed_hosts) + ((_host_of(settings.public_url),) if settings.public_url else ())
    return Gateway(web_app(rooms, Doorway(authenticator, feed, metadata.url, names, settings.max_body)), feed, adapters)


@asynccontextmanager
async def administration(settings: Settings) -> AsyncIterator[Administration]:
    """Lends what the commands need; SQLite is migrated first, as `serve` does it."""
    _ready_schema(settings)
    adapters = _adapters(settings)
    try:
        directory = await _loaded(adapters.database)
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


def prepare(settings: Settings) -> list[str]:
    """Everything that must hold before the process listens. Returns warnings; raises ConfigurationError."""
    _refuse_unsafe(settings)
    _keys(settings)
    _encryption_key(settings)
    _ready_schema(settings)
    adapters = _adapters(settings)  # what would make every worker crash is named here, once
    try:
        gateway(adapters)
    finally:
        adapters.database.close()
    warning = None if _is_postgresql(settings) else wal_reset_warning(linked_version())
    return [warning] if warning else []


def migrate(settings: Settings) -> SchemaState:
    """Brings the schema to the current version; returns the state it was found in."""
    _make_data_dir(settings)
    return migrate_store(database_url(settings))


def database_url(settings: Settings) -> str:
    """The configured database, or SQLite in the data directory."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return f"sqlite:///{(settings.data_dir / 'sluicegate.db').absolute()}"


# --- what must hold ---------------------------------------------------------------------------------------------


def _refuse_unsafe(settings: Settings) -> None:
    if settings.public_url is not None:
        _host_of(settings.public_url)
    if not _on_loopback(settings.host):
        if settings.jwt_keys is None:
            raise ConfigurationError(
                f"refusing to listen on {settings.host} with a generated key: set SLUICEGATE_JWT_KEYS, or use 127.0.0.1"
            )
        if settings.public_url is None:
            raise ConfigurationError(
                f"listening on {settings.host} needs SLUICEGATE_PUBLIC_URL, the address that clients use"
            )
    if 0 < settings.outage_bound < settings.revocation_bound:
        raise ConfigurationError("SLUICEGATE_OUTAGE_BOUND must be 0 (strict) or at least SLUICEGATE_REVOCATION_BOUND")


def _ready_schema(settings: Settings) -> None:
    """Migrates the embedded default if it has to; refuses a PostgreSQL schema that is not current, with the command."""
    state = schema_state(database_url(settings))
    if state is SchemaState.CURRENT:
        return
    if _is_postgresql(settings):
        raise ConfigurationError(f"the database schema is {state}: run `sluicegate migrate` with this version")
    migrate(settings)


def _public_url(settings: Settings) -> str:
    return settings.public_url.rstrip("/") if settings.public_url else DEFAULT_URL


def _host_of(public_url: str) -> str:
    parts = urlsplit(public_url)
    odd = parts.username or parts.query or parts.fragment or parts.path not in ("", "/") or not _has_good_port(parts)
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise ConfigurationError("SLUICEGATE_PUBLIC_URL must look like https://gateway.example.com, without a path")
    return f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


def _metrics_access(settings: Settings) -> MetricsAccess:
    token = settings.metrics_token.get_secret_value() if settings.metrics_token else None
    return metrics_access(token, on_loopback=_on_loopback(settings.host))


def _on_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_postgresql(settings: Settings) -> bool:
    return database_url(settings).startswith("postgres")


def _make_data_dir(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"data directory {settings.data_dir} cannot be made: {error.strerror}") from None


# --- adapters from settings -------------------------------------------------------------------------------------


def _adapters(settings: Settings) -> Adapters:
    keys, url = _keys(settings), _public_url(settings)
    cipher = CredentialCipher(_encryption_key(settings))
    guard = AddressGuard(allow_private=settings.allow_private_upstreams)
    limits = Limits(settings.upstream_timeout, settings.upstream_connect_timeout, settings.upstream_max_answer)
    return Adapters(
        settings=settings,
        clock=SystemClock(),
        database=_open_database(settings),
        upstreams=StreamableHttpUpstreams(guard, cipher, limits),
        cipher=cipher,
        guard=guard,
        issuer=JwtIssuer(keys, url, url),
        verifier=JwtVerifier(keys, url, url, settings.token_max_lifetime),
    )


def _open_database(settings: Settings) -> SqlDatabase:
    return open_database(
        database_url(settings),
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_timeout=settings.db_pool_timeout,
    )


def _rest_context(adapters: Adapters, feed: DirectoryFeed, metadata: ResourceMetadata) -> RestContext:
    return RestContext(
        feed=feed,
        database=adapters.database,
        upstreams=adapters.upstreams,
        sealer=adapters.cipher,
        egress=adapters.guard,
        issuer=adapters.issuer,
        clock=adapters.clock,
        metadata_url=metadata.url,
        token_max_lifetime=adapters.settings.token_max_lifetime,
    )


def _keys(settings: Settings) -> KeySet:
    if settings.jwt_keys is not None:
        return configured_keys(settings.jwt_keys.get_secret_value())
    return load_or_create_keys(settings.data_dir / "jwt-keys.json")


def _encryption_key(settings: Settings) -> bytes:
    if settings.encryption_key is not None:
        return configured_secret(settings.encryption_key.get_secret_value())
    return load_or_create_secret(settings.data_dir / "encryption.key")


async def _loaded(database: SqlDatabase) -> Directory:
    snapshot = await database.feed_source().load()
    return Directory(snapshot.epoch, snapshot.revision, snapshot.entities)

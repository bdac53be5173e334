"""The gateway: settings -> adapters -> use cases -> `web`, as one ASGI application with its background tasks."""

import asyncio
import contextlib
import os
import signal
from typing import Any

import structlog

from sluicegate import telemetry
from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.bootstrap.adapters import Adapters, adapters_of, encryption_key, public_url_of, signing_keys
from sluicegate.bootstrap.checks import host_of, on_loopback, refuse_unsafe
from sluicegate.bootstrap.databases import direct_url, is_postgresql, ready_schema
from sluicegate.core.lease import Lease
from sluicegate.settings import Settings, load_settings
from sluicegate.store import SqlInstances, SqlLogKeeping, Wakeup, linked_version, wal_reset_warning
from sluicegate.usecases.applied import BEYOND_BOUND, WhoApplied
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.own_instance import OwnInstance
from sluicegate.usecases.upkeep import Chore, Pause, Upkeep, trimming
from sluicegate.watchdog import Watchdog
from sluicegate.web.app import Doorway, Rooms, web_app
from sluicegate.web.asgi import App, Receive, Scope, Send
from sluicegate.web.ending import end_first
from sluicegate.web.mcp_endpoint import McpEndpoint
from sluicegate.web.mcp_stream import McpStreams, StreamLimits
from sluicegate.web.metadata import ResourceMetadata
from sluicegate.web.public import MetricsAccess, PublicPages, metrics_access
from sluicegate.web.rest import RestContext, create_rest_app

log = structlog.get_logger()

FIRST_LOAD = 10.0
"""Seconds that the first requests wait for the directory; without one they get 503."""
LEAVING = 2.0
"""Seconds in which the process may tell the others that it ends."""


def end_if_failed(task: asyncio.Task[Any]) -> None:
    """Ends the worker, which is then started anew, when a background task has ended by itself: each is needed."""
    if not task.cancelled():
        telemetry.unexpected_errors.labels("background").inc()
        log.error("a background task has ended, and this worker with it", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


class Gateway:
    """The ASGI application: requests go through the stack, and the lifespan runs the feed and the upkeep."""

    def __init__(self, app: App, feed: DirectoryFeed, upkeep: Upkeep, streams: McpStreams, adapters: Adapters) -> None:
        self._app = app
        self._feed = feed
        self._upkeep = upkeep
        self._streams = streams
        self._adapters = adapters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Serves even if the directory cannot be loaded: requests get 503, `/ready` says so, and the feed tries on."""
        await receive()
        end_first(self._streams.end)
        works = (self._feed.run(), self._upkeep.run(), Watchdog(self._adapters.clock).run())
        background = [asyncio.create_task(work) for work in works]
        for task in background:
            task.add_done_callback(end_if_failed)
        wakeup = _started_wakeup(self._adapters.settings, self._feed)
        await self._feed.catch_up(FIRST_LOAD)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if wakeup is not None:
            wakeup.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVING):
                await self._upkeep.leave()
        await self._adapters.close()
        await send({"type": "lifespan.shutdown.complete"})


def create_app() -> Gateway:
    """The application of one worker, from the environment. `prepare` must have been through.

    The database may be away by now: then requests get 503 until it is back.

    Ctrl-C is left to the parent, which ends its workers: granian sometimes hangs on two signals at once.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    telemetry.configure_logging()
    telemetry.forget_dead_workers()
    return gateway(adapters_of(load_settings()))


def prepare(settings: Settings) -> list[str]:
    """Everything that must hold before the process listens. Returns warnings; raises ConfigurationError."""
    refuse_unsafe(settings)
    signing_keys(settings)
    encryption_key(settings)
    ready_schema(settings)
    adapters = adapters_of(settings)  # what would make every worker crash is named here, once
    try:
        gateway(adapters)
    finally:
        adapters.database.close()
    warning = None if is_postgresql(settings) else wal_reset_warning(linked_version())
    return [warning] if warning else []


def gateway(adapters: Adapters, pause: Pause = asyncio.sleep) -> Gateway:
    """Joins use cases, web and adapters. `pause` is what upkeep waits with between two chores."""
    settings = adapters.settings
    feed = DirectoryFeed(
        adapters.database.feed_source(settings.max_entities),
        adapters.clock,
        Lease(settings.revocation_bound, settings.outage_bound),
        adapters.upstreams.forget,
    )
    me = OwnInstance(feed, max(settings.revocation_bound, settings.outage_bound))
    instances = SqlInstances(adapters.database)
    who_applied = WhoApplied(me, instances, adapters.clock, settings.revocation_bound + BEYOND_BOUND)
    chores = [trimming(SqlLogKeeping(adapters.database)), Chore("audit the directory", feed.audit)]
    issuer = public_url_of(settings)
    metadata = ResourceMetadata(settings.public_url, issuer)
    authenticator = DirectoryAuthenticator(adapters.verifier, lambda: feed.directory, adapters.clock)
    streams = McpStreams(adapters.clock, StreamLimits(recheck=settings.revocation_bound))
    rooms = Rooms(
        mcp=McpEndpoint(feed, adapters.upstreams, adapters.clock, metadata.url, streams),
        rest=create_rest_app(_rest_context(adapters, feed, who_applied, metadata)),
        public=PublicPages(metadata, feed, _metrics_access(settings)),
    )
    names = tuple(settings.allowed_hosts) + ((host_of(settings.public_url),) if settings.public_url else ())
    app = web_app(rooms, Doorway(authenticator, feed, metadata.url, names, settings.max_body))
    return Gateway(app, feed, Upkeep(me, feed, instances, chores, pause), streams, adapters)


def _rest_context(
    adapters: Adapters, feed: DirectoryFeed, who_applied: WhoApplied, metadata: ResourceMetadata
) -> RestContext:
    return RestContext(
        feed=feed,
        database=adapters.database,
        upstreams=adapters.upstreams,
        sealer=adapters.cipher,
        egress=adapters.guard,
        issuer=adapters.issuer,
        clock=adapters.clock,
        who_applied=who_applied,
        metadata_url=metadata.url,
        token_max_lifetime=adapters.settings.token_max_lifetime,
    )


def _metrics_access(settings: Settings) -> MetricsAccess:
    token = settings.metrics_token.get_secret_value() if settings.metrics_token else None
    return metrics_access(token, on_loopback=on_loopback(settings.host))


def _started_wakeup(settings: Settings, feed: DirectoryFeed) -> Wakeup | None:
    """Listens for writers where there is a way past PgBouncer to do so."""
    if (url := direct_url(settings)) is None:
        return None
    wakeup = Wakeup(url, feed.wake)
    wakeup.start()
    return wakeup

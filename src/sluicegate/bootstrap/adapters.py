"""The outside of one process, made from its settings."""

import asyncio
import contextlib
import time

from msgspec import Struct

from sluicegate.auth.key_files import (
    configured_keys,
    configured_secret,
    load_or_create_keys,
    load_or_create_secret,
)
from sluicegate.auth.keys import KeySet
from sluicegate.auth.tokens import JwtIssuer, JwtVerifier
from sluicegate.bootstrap.databases import database_url
from sluicegate.ports import Clock
from sluicegate.settings import Settings
from sluicegate.store import SqlDatabase, open_database
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from sluicegate.upstream.transport import Limits

DEFAULT_URL = "http://127.0.0.1:4444"
"""Issuer and audience of our tokens while no public URL is set."""
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


def adapters_of(settings: Settings) -> Adapters:
    """Opens nothing yet: the database may be away."""
    keys, url = signing_keys(settings), public_url_of(settings)
    cipher = CredentialCipher(encryption_key(settings))
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


def public_url_of(settings: Settings) -> str:
    """The URL that clients use, without a slash at its end."""
    return settings.public_url.rstrip("/") if settings.public_url else DEFAULT_URL


def signing_keys(settings: Settings) -> KeySet:
    """The configured keys, or those of the data directory. Raises ConfigurationError."""
    if settings.jwt_keys is not None:
        return configured_keys(settings.jwt_keys.get_secret_value())
    return load_or_create_keys(settings.data_dir / "jwt-keys.json")


def encryption_key(settings: Settings) -> bytes:
    """What seals upstream credentials: configured, or from the data directory. Raises ConfigurationError."""
    if settings.encryption_key is not None:
        return configured_secret(settings.encryption_key.get_secret_value())
    return load_or_create_secret(settings.data_dir / "encryption.key")


def _open_database(settings: Settings) -> SqlDatabase:
    return open_database(
        database_url(settings),
        pool_size=settings.db_pool_size,
        max_overflow=settings.db_max_overflow,
        pool_timeout=settings.db_pool_timeout,
        deadline=settings.db_deadline,
    )

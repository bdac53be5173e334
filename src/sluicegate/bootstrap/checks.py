"""What settings mean together, and what they must not."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from sluicegate.bootstrap.databases import direct_url
from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import Settings


def refuse_unsafe(settings: Settings) -> None:
    """Raises ConfigurationError for settings with which the gateway must not serve."""
    if settings.public_url is not None:
        host_of(settings.public_url)
    if not on_loopback(settings.host):
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
    direct_url(settings)


def host_of(public_url: str) -> str:
    """The host of a public URL, as `Host` has it. Raises ConfigurationError."""
    parts = urlsplit(public_url)
    odd = parts.username or parts.query or parts.fragment or parts.path not in ("", "/") or not _has_good_port(parts)
    if parts.scheme not in ("http", "https") or not parts.hostname or odd:
        raise ConfigurationError("SLUICEGATE_PUBLIC_URL must look like https://gateway.example.com, without a path")
    return f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname


def on_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _has_good_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False

"""Where upstreams may live: the guard against server-side request forgery.

An address is judged at three places by the same rule: in the URL when it is a literal, after DNS (every address of the
name must pass), and when the socket is made, so that the address that was judged is the address that is connected to.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from sluicegate.core.errors import EgressRefused

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port to addresses. Raises OSError."""

SETTING = "SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS"
LOOKUPS = 16
"""Names that are looked up at once."""

_MAX_URL = 2048
_AUTHORITY_END = re.compile(r"[/?]")
_HOST = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_PRIVATE_4 = tuple(map(IPv4Network, ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_6 = tuple(map(IPv6Network, ("::1/128", "fc00::/7")))
# What `is_global` lets pass in some Python versions, and Azure's metadata server, which has a public address.
_NEVER_4 = tuple(map(IPv4Network, ("192.0.0.0/24", "224.0.0.0/4", "168.63.129.16/32")))
# The metadata servers of AWS, Google and Oracle lie in the private range, and so need naming; then documentation.
_NEVER_6 = tuple(map(IPv6Network, ("fd00:ec2::254/128", "fd20:ce::254/128", "fd00:c1::a9fe:a9fe/128", "3fff::/20")))
_GLOBAL_UNICAST_6 = IPv6Network("2000::/3")
_EMBEDS_IPV4 = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))


class AddressKind(Enum):
    """What an address is to us."""

    PUBLIC = "public"
    PRIVATE = "private"
    FORBIDDEN = "forbidden"


def address_kind(address: IPv4Address | IPv6Address) -> AddressKind:
    """PUBLIC is globally routable, PRIVATE is loopback, RFC 1918 or RFC 4193; anything else is never connected to."""
    if isinstance(address, IPv4Address):
        return _kind_4(address)
    inner = _embedded(address)
    if inner is not None:
        return _kind_4(inner)
    if address.scope_id is not None or any(address in network for network in _NEVER_6):
        return AddressKind.FORBIDDEN
    if any(address in network for network in _PRIVATE_6):
        return AddressKind.PRIVATE
    return AddressKind.PUBLIC if address in _GLOBAL_UNICAST_6 and address.is_global else AddressKind.FORBIDDEN


def _kind_4(address: IPv4Address) -> AddressKind:
    if any(address in network for network in _NEVER_4):
        return AddressKind.FORBIDDEN
    if any(address in network for network in _PRIVATE_4):
        return AddressKind.PRIVATE
    return AddressKind.PUBLIC if address.is_global else AddressKind.FORBIDDEN


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this one may end at: mapped, 6to4, NAT64 (RFC 6052), IPv4-compatible.

    Teredo needs no unwrapping: 2001::/32 is not globally routable.
    """
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if int(address) > 1 and any(address in network for network in _EMBEDS_IPV4):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class SystemLookup:
    """The addresses that the operating system knows for a name, asked in LOOKUPS threads of its own.

    A name server that does not answer holds them, and nothing else that the process does in threads. What waits for one
    is bounded too: aiohttp asks for one name once at a time, and drops what its time ran out for.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(LOOKUPS, "sluicegate-dns")
        self._closed = False

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """As `Lookup`."""
        if self._closed:
            raise OSError("no more names are looked up: the upstreams are closed")
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(address[0]) for _, _, _, _, address in found]

    def close(self) -> None:
        """Drops what waits; a thread under way ends as soon as the operating system lets it."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)


class AddressGuard:
    """Implements `ports.Egress`. With `allow_private`, loopback and private addresses are upstreams' too."""

    def __init__(self, *, allow_private: bool, lookup: Lookup | None = None) -> None:
        self._allow_private = allow_private
        self._system = SystemLookup()
        self._lookup = lookup or self._system

    def close(self) -> None:
        """Ends the look-ups."""
        self._system.close()

    def check_url(self, url: str) -> None:
        """Raises EgressRefused unless the URL may be an upstream's. A name is judged later, when it is resolved."""
        self.checked_url(url)

    def checked_url(self, url: str) -> URL:
        """The URL as it will be requested, so that no second parser reads it differently."""
        if len(url) > _MAX_URL or not url.isprintable() or any(c in url for c in ' \\#"<>'):
            raise EgressRefused(f"an upstream's URL has at most {_MAX_URL} characters, no blanks and no fragment")
        try:
            parsed = URL(url)
            host, port = parsed.raw_host, parsed.port
        except ValueError:
            raise EgressRefused("this is not a URL: give an upstream as http(s)://host[:port]/path") from None
        if parsed.scheme not in ("http", "https") or not host or not port:
            raise EgressRefused("give an upstream as http(s)://host[:port]/path")
        if "@" in _AUTHORITY_END.split(url.partition("://")[2], 1)[0]:
            raise EgressRefused("an upstream's URL holds no user or password: give its credential as `auth`")
        self._check_host(host)
        return parsed

    def _check_host(self, host: str) -> None:
        if not _HOST.fullmatch(host):
            raise EgressRefused("an upstream's host is a name or an address, without escapes or a zone")
        name = host.rstrip(".").lower()
        last = name.rpartition(".")[2]
        if ":" in host or _NUMBER.fullmatch(last):
            self.check_address(host, host)
        elif last == "localhost":
            self.check_address("127.0.0.1", host)

    def check_address(self, address: str, host: str) -> None:
        """Raises EgressRefused unless `address`, which `host` stands for, may be connected to."""
        try:
            kind = address_kind(ip_address(address))
        except ValueError:
            raise EgressRefused(f"`{host[:80]}` is not an address in its usual form, such as 192.0.2.1") from None
        if kind is AddressKind.FORBIDDEN:
            raise EgressRefused(
                f"`{host[:80]}` may not be an upstream: {address} is link-local, reserved or a metadata server"
            )
        if kind is AddressKind.PRIVATE and not self._allow_private:
            raise EgressRefused(
                f"`{host[:80]}` may not be an upstream: {address} is loopback or private; {SETTING}=true allows it"
            )

    async def checked_addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a name, all of them allowed: one that is not refuses the name. Raises OSError too."""
        found = await self._lookup(host, port)
        for address in found:
            self.check_address(address, host)
        return found

    def open_socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """A socket for an address as getaddrinfo gives it: the last look before connecting, also at literals."""
        family, kind, protocol, _, address = info
        self.check_address(str(address[0]), str(address[0]))
        return socket.socket(family, kind, protocol)


class GuardedResolver(AbstractResolver):
    """Gives aiohttp the addresses that the guard has judged, and so pins them for the connection."""

    def __init__(self, guard: AddressGuard, timeout: float) -> None:
        self._guard = guard
        self._timeout = timeout

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002  both are taken
    ) -> list[ResolveResult]:
        """As `AddressGuard.checked_addresses`, within the connect timeout."""
        async with asyncio.timeout(self._timeout):
            addresses = await self._guard.checked_addresses(host, port)
        return [_result(host, address, port) for address in addresses]

    async def close(self) -> None:
        """Holds nothing."""


def _result(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)

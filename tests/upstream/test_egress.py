"""Server-side request forgery: every way to name an address that must not be reached, at both places where we look."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

import pytest

from sluicegate.core.catalog import Era
from sluicegate.core.errors import EgressRefused, UpstreamUnreachable
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard, AddressKind, address_kind
from sluicegate.upstream.streamable_http import StreamableHttpUpstreams
from tests.upstream.calls import call, upstream_at
from tests.upstream.conftest import LIMITS
from tests.upstream.hostile import Exchange, Hostile, modern

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    *("127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("::1", "fc00::1", "fd12:3456::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
    "2002:c0a8:101::1",
]
FORBIDDEN = [
    *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"),
    *("2002:a9fe:a9fe::", "::169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "168.63.129.16"),
    *("100.100.100.200", "100.64.0.1", "0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "255.255.255.255", "240.0.0.1"),
    *("224.0.0.1", "239.1.1.1", "ff02::1", "fec0::1", "192.0.0.1", "192.0.0.170", "192.0.2.1", "198.51.100.1"),
    *("198.18.0.1", "203.0.113.1", "2001:db8::1", "3fff::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "100::1"),
    *("64:ff9b:1::1", "5f00::1", "4000::1", "2001:2::1", "::1%lo"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_globally_routable_address_is_public(address: str) -> None:
    assert address_kind(ip_address(address)) is AddressKind.PUBLIC


@pytest.mark.parametrize("address", PRIVATE)
def test_a_loopback_or_private_address_is_private_however_it_is_wrapped(address: str) -> None:
    assert address_kind(ip_address(address)) is AddressKind.PRIVATE


@pytest.mark.parametrize("address", FORBIDDEN)
def test_link_local_metadata_and_special_addresses_are_never_allowed(address: str) -> None:
    assert address_kind(ip_address(address)) is AddressKind.FORBIDDEN
    with pytest.raises(EgressRefused, match="may not be an upstream"):
        AddressGuard(allow_private=True).check_address(address, "x")


def literal(address: str) -> str:
    return f"http://[{address}]/mcp" if ":" in address else f"http://{address}/mcp"


@pytest.mark.parametrize("address", [*PRIVATE, *FORBIDDEN])
def test_a_url_with_such_an_address_is_refused(address: str) -> None:
    with pytest.raises(EgressRefused):
        AddressGuard(allow_private=False).check_url(literal(address))


@pytest.mark.parametrize("address", PRIVATE)
def test_the_setting_allows_private_addresses(address: str) -> None:
    AddressGuard(allow_private=True).check_url(literal(address))


def test_the_refusal_names_the_setting() -> None:
    with pytest.raises(EgressRefused) as caught:
        AddressGuard(allow_private=False).check_url("http://127.0.0.1:9101/mcp")
    assert str(caught.value) == (
        "`127.0.0.1` may not be an upstream: 127.0.0.1 is loopback or private; "
        "SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS=true allows it"
    )


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "017700000001", "127.0.0.01", "1.2.3.4.5"],
)
@pytest.mark.parametrize("allow_private", [False, True])
def test_other_forms_of_an_address_are_refused(host: str, allow_private: bool) -> None:
    with pytest.raises(EgressRefused, match="not an address in its usual form"):
        AddressGuard(allow_private=allow_private).check_url(f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        "①②⑦.⓪.⓪.①",
        "１２７.0.0.1",
        "127。0。0。1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "127.0.0.1.",
        "[::FFFF:127.0.0.1]",
    ],
)
def test_other_spellings_of_loopback_are_refused(host: str) -> None:
    with pytest.raises(EgressRefused):
        AddressGuard(allow_private=False).check_url(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "x",
            "/mcp",
            "//example.com/mcp",
            "example.com/mcp",
            "http:example.com",
            "http://",
            "http:///mcp",
            "http://:80/",
        ),
        *(
            "ftp://example.com/",
            "file:///etc/passwd",
            "gopher://example.com/",
            "ws://example.com/",
            "javascript:alert(1)",
        ),
        *("unix:///run/x", "http+unix://x/", "data:text/plain,x"),
        *("http://user@example.com/", "http://u:p@example.com/", "http://@example.com/", "http://:@example.com"),
        *("http://example.com/#x", "http://example.com/#", "http://example.com#@10.0.0.1/"),
        *("http://example.com:0/", "http://example.com:65536/", "http://example.com:x/", "http://[::1/", "http://[x]/"),
        *(
            "http://exa mple.com/",
            "http://example.com/\r\nX: y",
            "http://example.com/\nX:y",
            "http://exam\tple.com/",
            "http://example.com/\0",
            " http://example.com/",
            "http://example.com\\@10.0.0.1/",
        ),
        *("http://ex%61mple.com/", "http://[fe80::1%25eth0]/", "http://a..b/", "http://example.com/" + "x" * 2048),
    ],
)
def test_what_is_not_a_plain_http_url_is_refused(url: str) -> None:
    with pytest.raises(EgressRefused):
        AddressGuard(allow_private=True).check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://example.com",
            "https://example.com:8443/mcp",
            "HTTPS://Example.COM/a/b?key=1&x=a@b",
            "http://8.8.8.8/",
        ),
        *("https://[2606:4700:4700::1111]:443/mcp", "https://bücher.example/mcp", "http://my_host-1.internal./mcp"),
    ],
)
def test_a_plain_http_url_is_accepted(url: str) -> None:
    AddressGuard(allow_private=False).check_url(url)


class Names:
    """A name server of the test: what each look-up answers, in turn; the last answer stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def reaching(names: Names, cipher: CredentialCipher, *, allow_private: bool) -> StreamableHttpUpstreams:
    return StreamableHttpUpstreams(AddressGuard(allow_private=allow_private, lookup=names), cipher, LIMITS)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254"])
async def test_a_name_of_a_private_address_is_not_connected_to(address: str, cipher: CredentialCipher) -> None:
    async with Hostile(modern()) as server:
        upstreams = reaching(Names([address]), cipher, allow_private=False)
        with pytest.raises(UpstreamUnreachable, match="may not be an upstream") as caught:
            await upstreams.call_tool(upstream_at(f"http://up.example:{server.port}/"), call())
        assert caught.value.code == "egress_refused"
        assert server.connections == 0
        await upstreams.close()


async def test_one_forbidden_address_among_good_ones_refuses_the_name(cipher: CredentialCipher) -> None:
    async with Hostile(modern()) as server:
        upstreams = reaching(Names(["127.0.0.1", "169.254.169.254"]), cipher, allow_private=True)
        with pytest.raises(UpstreamUnreachable, match=r"169\.254\.169\.254"):
            await upstreams.call_tool(upstream_at(f"http://up.example:{server.port}/"), call())
        assert server.connections == 0
        await upstreams.close()


async def test_the_address_that_was_judged_is_the_one_connected_to(cipher: CredentialCipher) -> None:
    """A second look-up would give an address that is forbidden: there is none for the connection that was judged."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with Hostile(modern()) as server:
        upstreams = reaching(names, cipher, allow_private=True)
        await upstreams.call_tool(upstream_at(f"http://up.example:{server.port}/", Era.MODERN), call())
        assert names.asked == ["up.example"]
        assert server.seen[0].headers["host"] == f"up.example:{server.port}"
        await upstreams.close()


async def test_a_name_that_was_rebound_is_judged_again_at_the_next_connection(cipher: CredentialCipher) -> None:
    names = Names(["127.0.0.1"], ["169.254.169.254"])

    async def once(exchange: Exchange) -> None:
        await modern()(exchange)

    async with Hostile(once) as server:
        upstream = upstream_at(f"http://up.example:{server.port}/", Era.MODERN)
        upstreams = reaching(names, cipher, allow_private=True)
        await upstreams.call_tool(upstream, call())
        await upstreams.forget(upstream.id)
        with pytest.raises(UpstreamUnreachable, match="may not be an upstream"):
            await upstreams.call_tool(upstream, call())
        assert server.connections == 1
        await upstreams.close()


async def test_an_upstream_registered_under_a_wider_setting_is_not_called_any_more(cipher: CredentialCipher) -> None:
    async with Hostile(modern()) as server:
        upstreams = reaching(Names([]), cipher, allow_private=False)
        with pytest.raises(UpstreamUnreachable, match="SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS"):
            await upstreams.call_tool(upstream_at(server.url), call())
        assert server.connections == 0


def test_no_socket_is_made_for_an_address_that_is_not_allowed() -> None:
    guard = AddressGuard(allow_private=False)
    with pytest.raises(EgressRefused):
        guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 80)))
    guard.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80))).close()


async def test_a_look_up_does_not_wait_for_what_else_the_process_does_in_threads() -> None:
    let_go = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, let_go.wait, 5)
    guard = AddressGuard(allow_private=True)
    try:
        async with asyncio.timeout(3):
            assert "127.0.0.1" in await guard.checked_addresses("127.0.0.1", 80)
        assert not busy.done()
    finally:
        let_go.set()
        guard.close()
        await busy


async def test_nothing_is_looked_up_once_the_upstreams_are_closed(cipher: CredentialCipher) -> None:
    guard = AddressGuard(allow_private=True)
    await StreamableHttpUpstreams(guard, cipher, LIMITS).close()
    with pytest.raises(OSError, match="no more names"):
        await guard.checked_addresses("127.0.0.1", 80)

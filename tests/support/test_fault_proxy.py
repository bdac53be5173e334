"""Each fault of the proxy as the two ends of a connection see it, through a plain echo server."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.fault_proxy import Delay, FaultProxy, Trickle, Way

PATIENCE = 10.0
"""Seconds for what must happen."""
QUIET = 0.2
"""Seconds in which nothing must come."""


class Echo(socketserver.BaseRequestHandler):
    """Sends back what comes, ends when the client has ended, and notes how its connections ended."""

    server: "EchoServer"

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.server.arrived.set()
                self.request.sendall(data)
        except ConnectionResetError:
            self.server.was_reset.set()
        else:
            self.server.was_ended.set()


class EchoServer(socketserver.ThreadingTCPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.arrived, self.was_reset, self.was_ended = (threading.Event() for _ in range(3))

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture
def echo() -> Iterator[EchoServer]:
    with EchoServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(PATIENCE)


@pytest.fixture
def proxy(echo: EchoServer) -> Iterator[FaultProxy]:
    with FaultProxy(echo.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with connected(proxy) as client:
        assert said(client, b"first") == b"first"
        yield client


def connected(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)


def said(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return heard(client, len(data))


def heard(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (data := client.recv(size - len(found))):
        found += data
    return found


def is_silent(client: socket.socket) -> bool:
    client.settimeout(QUIET)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)


def test_without_a_fault_all_bytes_pass_and_the_end_of_one_side_reaches_the_other(
    echo: EchoServer, client: socket.socket
) -> None:
    data = bytes(range(256)) * 2048
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert heard(client, len(data)) == data
    sender.join(PATIENCE)
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert echo.was_ended.wait(PATIENCE)


def test_a_freeze_holds_bytes_and_keeps_connections(proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.frozen():
        client.sendall(b"held")
        assert is_silent(client)
    assert heard(client, 4) == b"held"


def test_a_freeze_of_one_way_lets_the_other_pass(echo: EchoServer, proxy: FaultProxy, client: socket.socket) -> None:
    echo.arrived.clear()
    with proxy.frozen(Way.TO_CLIENT):
        client.sendall(b"half")
        assert echo.arrived.wait(PATIENCE)
        assert is_silent(client)
    assert heard(client, 4) == b"half"


def test_who_connects_in_a_freeze_is_accepted_and_served_after_it(proxy: FaultProxy) -> None:
    with proxy.frozen():
        newcomer = connected(proxy)
        newcomer.sendall(b"early")
        assert is_silent(newcomer)
    with newcomer:
        assert heard(newcomer, 5) == b"early"


def test_a_freeze_holds_the_end_of_a_connection_too(echo: EchoServer, proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.frozen():
        client.close()
        assert not echo.was_ended.wait(QUIET)
        assert not echo.was_reset.is_set()
    assert echo.was_ended.wait(PATIENCE)


def test_a_reset_breaks_all_connections_on_both_sides_and_new_ones_are_served(
    echo: EchoServer, proxy: FaultProxy, client: socket.socket
) -> None:
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.was_reset.wait(PATIENCE)
    with connected(proxy) as newcomer:
        assert said(newcomer, b"again") == b"again"


def test_a_connection_that_one_side_breaks_is_broken_for_the_other(
    echo: EchoServer, proxy: FaultProxy, client: socket.socket
) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()
    assert echo.was_reset.wait(PATIENCE)


def test_refusing_is_for_new_connections_alone(proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.refusing():
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)
        assert said(client, b"stays") == b"stays"
    with connected(proxy) as newcomer:
        assert said(newcomer, b"back") == b"back"


def test_away_breaks_what_is_open_and_refuses_what_comes(proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.away():
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionRefusedError):
            connected(proxy)


def test_a_delay_is_that_long_in_each_way(proxy: FaultProxy, client: socket.socket) -> None:
    began = time.monotonic()
    with proxy.slowed(Delay(0.1, 0.15)):
        assert said(client, b"late") == b"late"
    assert time.monotonic() - began >= 0.2


def test_what_was_sent_later_never_overtakes_what_is_late(proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.slowed(Delay(0.0, 0.1, share=0.5), Way.TO_SERVER):
        for number in range(20):
            client.sendall(bytes([number]))
            time.sleep(0.001)  # so that they are chunks of their own
        assert heard(client, 20) == bytes(range(20))


def test_a_share_of_the_chunks_is_late_and_it_is_the_same_in_each_run(echo: EchoServer) -> None:
    late = Delay(0.5, 0.5, share=0.3)

    def took(client: socket.socket) -> float:
        began = time.monotonic()
        assert said(client, b"?") == b"?"
        return time.monotonic() - began

    def pattern() -> list[bool]:
        with FaultProxy(echo.port, seed=2) as proxy, connected(proxy) as client, proxy.slowed(late, Way.TO_SERVER):
            return [took(client) >= late.least for _ in range(5)]

    first = pattern()
    assert any(first)
    assert not all(first)
    assert pattern() == first


def test_a_trickle_lets_a_few_bytes_pass_at_a_time(proxy: FaultProxy, client: socket.socket) -> None:
    with proxy.trickling(Trickle(2, every=0.05), Way.TO_CLIENT):
        began = time.monotonic()
        client.sendall(b"drops")
        assert len(client.recv(5)) == 2
        assert heard(client, 3) == b"ops"
    assert time.monotonic() - began >= 0.1


def test_a_target_that_is_not_there_breaks_the_connection(echo: EchoServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with FaultProxy(port) as proxy, connected(proxy) as client, pytest.raises(ConnectionResetError):
            client.recv(1)


def test_it_counts_what_is_open_and_what_came(proxy: FaultProxy, client: socket.socket) -> None:
    with connected(proxy) as other:
        assert said(other, b"x") == b"x"
        assert (proxy.open, proxy.accepted) == (2, 2)


def test_at_its_end_nothing_is_left_whatever_fault_was_in_force(echo: EchoServer) -> None:
    before = set(threading.enumerate())
    with FaultProxy(echo.port) as proxy, connected(proxy) as client:
        assert said(client, b"x") == b"x"
        own = set(threading.enumerate()) - before
        proxy.frozen().__enter__()
        client.sendall(b"held for ever")
    assert not any(thread.is_alive() and thread.name.startswith("fault-proxy") for thread in own)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)

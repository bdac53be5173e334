"""What all end-to-end tests share: two real upstreams, one of each era, and a gateway in front of them.

Starting processes is what costs here, so the stacks live for the whole session; tests name what they make so that no
other test minds. Commands work on the stack's database while it serves.
"""

import os
import secrets
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec import Struct

from bench.processes import free_port, server
from tests.e2e.running import ROOT, Gateway, Tokens, command, serving
from tests.support.servers import Server, fresh_database, pgbouncer, postgresql

T = TypeVar("T")
NODE = ROOT / "tests/node/node_modules/.bin/node"
EVERYTHING = ROOT / "tests/node/node_modules/@modelcontextprotocol/server-everything/dist/index.js"
ON_LOOPBACK = """data:text/javascript,
import { Server } from "node:net";
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  return listen.call(this, { port: Number(port), host: "127.0.0.1" }, rest.find((one) => typeof one === "function"));
};"""
"""The server can be told its port, but not to stay on loopback."""
UPSTREAM_TIMEOUT = 3.0
"""Seconds; short, so that the test of a slow upstream is."""


class Upstreams(Struct, frozen=True):
    """Where the two example servers listen, and the bearer token that `web` wants."""

    clock: int
    web: int
    web_token: str

    def declaration(self) -> str:
        """`examples/demo.yaml` with these ports."""
        text = (ROOT / "examples/demo.yaml").read_text()
        return text.replace(":9101/", f":{self.clock}/").replace(":9102/", f":{self.web}/")


class Stack(Struct, frozen=True):
    """A gateway with the world of `examples/demo.yaml`, and the tokens of its three users."""

    gateway: Gateway
    tokens: Tokens


class Bouncer:
    """A PgBouncer that can be frozen and taken away, always on the same port."""

    def __init__(self, postgres: Server) -> None:
        self._postgres = postgres
        self._running = ExitStack()
        self.port = free_port()
        self._start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Whoever waits for it hangs."""
        os.kill(self._server.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._server.pid, signal.SIGCONT)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Its connections break and new ones are refused."""
        self.close()
        try:
            yield
        finally:
            self._start()

    def close(self) -> None:
        self._running.close()

    def _start(self) -> None:
        self._server = self._running.enter_context(pgbouncer(self._postgres, self.port))


class Postgres(Struct, frozen=True):
    """A cluster, a PgBouncer before it, and the URL of a migrated database by way of that."""

    cluster: Server
    bouncer: Bouncer
    url: str


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("e2e")


@pytest.fixture(scope="session")
def upstreams(home: Path) -> Iterator[Upstreams]:
    """`clock` speaks the legacy era only, `web` the modern one only."""
    found = Upstreams(free_port(), free_port(), secrets.token_urlsafe())
    clock = [sys.executable, str(ROOT / "examples/clock_upstream.py"), str(found.clock)]
    web = [sys.executable, str(ROOT / "examples/web_upstream.py"), str(found.web)]
    with ExitStack() as stack:
        together(
            stack,
            server(clock, found.clock, home, {}),
            server(web, found.web, home, {"WEB_TOKEN": found.web_token}),
        )
        yield found


@pytest.fixture(scope="session")
def stack(home: Path, upstreams: Upstreams) -> Iterator[Stack]:
    """On SQLite, with one database connection for all writers."""
    settings = {
        "SLUICEGATE_DB_POOL_SIZE": "1",
        "SLUICEGATE_UPSTREAM_TIMEOUT": str(UPSTREAM_TIMEOUT),
        "WEB_TOKEN": upstreams.web_token,
    }
    with serving(home, settings) as gateway:
        gateway.apply(home, upstreams.declaration())
        yield Stack(gateway, tokens_of(gateway))


@pytest.fixture(scope="session")
def gateway(stack: Stack) -> Gateway:
    return stack.gateway


@pytest.fixture(scope="session")
def tokens(stack: Stack) -> Tokens:
    return stack.tokens


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgresql() as cluster, fresh_database(cluster) as database:
        bouncer = Bouncer(cluster)
        try:
            url = f"postgresql://sluicegate@127.0.0.1:{bouncer.port}/{database}"
            yield Postgres(cluster, bouncer, url)
        finally:
            bouncer.close()


@pytest.fixture(scope="session")
def postgres_stack(
    postgres: Postgres, upstreams: Upstreams, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """On PostgreSQL through PgBouncer in transaction mode, with one database connection for all writers."""
    home = tmp_path_factory.mktemp("e2e-postgresql")
    settings = {
        "SLUICEGATE_DATABASE_URL": postgres.url,
        "SLUICEGATE_DB_POOL_SIZE": "1",
        "SLUICEGATE_DB_POOL_TIMEOUT": "1.5",
        "WEB_TOKEN": upstreams.web_token,
    }
    migrated = command(settings, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    with serving(home, settings) as gateway:
        gateway.apply(home, upstreams.declaration())
        yield Stack(gateway, tokens_of(gateway))


@pytest.fixture(scope="session")
def everything(home: Path) -> Iterator[str]:
    """The URL of `@modelcontextprotocol/server-everything`."""
    port = free_port()
    node = [str(NODE), "--import", ON_LOOPBACK, str(EVERYTHING), "streamableHttp"]
    with server(node, port, home, {"PORT": str(port)}):
        yield f"http://127.0.0.1:{port}/mcp"


def tokens_of(gateway: Gateway) -> Tokens:
    """The admin's by the command line, as on the first day; those of others by the API, which is faster."""
    root = gateway.token("root@example.com")
    others = [gateway.issue(root, f"{name}@example.com") for name in ("alice", "bob")]
    return Tokens(root, *others)


def together(stack: ExitStack, *contexts: AbstractContextManager[T]) -> list[T]:
    """Enters all of them at the same time."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(stack.enter_context, contexts))

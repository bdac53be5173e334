"""What all end-to-end tests share: two real upstreams, one of each era, and a gateway in front of them.

Starting processes is what costs here, so the stacks live for the whole session; tests name what they make so that no
other test minds. Commands work on the stack's database while it serves.
"""

import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

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
    """A PgBouncer that can be frozen and taken away, always on the same port; `settings` are pgbouncer.ini's."""

    def __init__(self, postgres: Server, **settings: object) -> None:
        self._postgres = postgres
        self._settings = settings
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
        self._server = self._running.enter_context(pgbouncer(self._postgres, self.port, **self._settings))


class Postgres(Struct, frozen=True):
    """A cluster, a PgBouncer before it, and the URL of a migrated database by way of that."""

    cluster: Server
    bouncer: Bouncer
    url: str


class Opening:
    """Enters context managers, each once and in a thread of its own: on two cores, two processes start at a time."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self.folders = folders
        self._entered = ExitStack()
        self._pool = ThreadPoolExecutor()
        self._begun: dict[object, Future[Any]] = {}
        self._beginning = threading.Lock()

    def begin(self, context: "Context[T]") -> Future[T]:
        """Goes on in the background."""
        with self._beginning:  # contexts ask for each other in threads of their own, and none may be entered twice
            if context not in self._begun:
                self._begun[context] = self._pool.submit(lambda: self._entered.enter_context(context(self)))
            return self._begun[context]

    def get(self, context: "Context[T]") -> T:
        """What the context gives, when it is there."""
        return self.begin(context).result()

    def close(self) -> None:
        """Leaves all of them, last entered first."""
        self._pool.shutdown()
        self._entered.close()


Context = Callable[[Opening], AbstractContextManager[T]]


@contextmanager
def example_upstreams(opening: Opening) -> Iterator[Upstreams]:
    """`clock` speaks the legacy era only, `web` the modern one only."""
    home = opening.folders.mktemp("upstreams")
    found = Upstreams(free_port(), free_port(), secrets.token_urlsafe())
    clock = [sys.executable, str(ROOT / "examples/clock_upstream.py"), str(found.clock)]
    web = [sys.executable, str(ROOT / "examples/web_upstream.py"), str(found.web)]
    with server(clock, found.clock, home, {}), server(web, found.web, home, {"WEB_TOKEN": found.web_token}):
        yield found


@contextmanager
def sqlite_stack(opening: Opening) -> Iterator[Stack]:
    """On SQLite, with one database connection for all writers."""
    opening.begin(example_upstreams)
    settings = {"SLUICEGATE_DB_POOL_SIZE": "1", "SLUICEGATE_UPSTREAM_TIMEOUT": str(UPSTREAM_TIMEOUT)}
    with populated(opening, "sqlite", settings) as found:
        yield found


@contextmanager
def private_postgresql(_: Opening) -> Iterator[Postgres]:
    with postgresql() as cluster, fresh_database(cluster) as database:
        bouncer = Bouncer(cluster)
        try:
            url = f"postgresql://sluicegate@127.0.0.1:{bouncer.port}/{database}"
            yield Postgres(cluster, bouncer, url)
        finally:
            bouncer.close()


@contextmanager
def postgresql_stack(opening: Opening) -> Iterator[Stack]:
    """On PostgreSQL through PgBouncer in transaction mode, with one database connection for all writers."""
    settings = {
        "SLUICEGATE_DATABASE_URL": opening.get(private_postgresql).url,
        "SLUICEGATE_DB_POOL_SIZE": "1",
        "SLUICEGATE_DB_DEADLINE": "1.5",
    }
    migrated = command(settings, "migrate")
    assert migrated.returncode == 0, migrated.stderr
    with populated(opening, "postgresql", settings) as found:
        yield found


@contextmanager
def populated(opening: Opening, name: str, settings: Mapping[str, str]) -> Iterator[Stack]:
    """A gateway with the world of `examples/demo.yaml`, applied while it serves."""
    home = opening.folders.mktemp(name)
    web_token = {"WEB_TOKEN": opening.get(example_upstreams).web_token}
    with serving(home, {**settings, **web_token}) as gateway:
        gateway.apply(home, opening.get(example_upstreams).declaration())
        yield Stack(gateway, tokens_of(gateway))


def tokens_of(gateway: Gateway) -> Tokens:
    """The admin's by the command line, as on the first day; those of others by the API, which is faster."""
    root = gateway.token("root@example.com")
    others = [gateway.issue(root, f"{name}@example.com") for name in ("alice", "bob")]
    return Tokens(root, *others)


@pytest.fixture(scope="session")
def opening(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opening]:
    """Begins at once with what tests of this session will ask for."""
    found = Opening(tmp_path_factory)
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name, context in {"stack": sqlite_stack, "postgres": postgresql_stack}.items():
        if name in wanted:
            found.begin(context)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def stack(opening: Opening) -> Stack:
    return opening.get(sqlite_stack)


@pytest.fixture(scope="session")
def postgres(opening: Opening) -> Postgres:
    return opening.get(private_postgresql)


@pytest.fixture(scope="session")
def postgres_stack(opening: Opening) -> Stack:
    return opening.get(postgresql_stack)


@pytest.fixture(scope="session")
def gateway(stack: Stack) -> Gateway:
    return stack.gateway


@pytest.fixture(scope="session")
def tokens(stack: Stack) -> Tokens:
    return stack.tokens


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `@modelcontextprotocol/server-everything`."""
    port = free_port()
    node = [str(NODE), "--import", ON_LOOPBACK, str(EVERYTHING), "streamableHttp"]
    with server(node, port, tmp_path_factory.mktemp("everything"), {"PORT": str(port)}):
        yield f"http://127.0.0.1:{port}/mcp"

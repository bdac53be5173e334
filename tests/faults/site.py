"""Two gateways on one PostgreSQL, each with a link of its own to a PgBouncer, and the ways to break any part of it.

    lasting ── link ──┐
                      ├── PgBouncer ── PostgreSQL ── hint, to LISTEN ── both
    strict ─── link ──┘

`lasting` goes on for 300 s without the database, `strict` for 3 s. Each fault is a context manager that ends it again.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from msgspec import Struct

from sluicegate.ports import Transaction
from sluicegate.store import migrate, open_database
from tests.e2e.conftest import Bouncer, Opening, example_upstreams, tokens_of
from tests.e2e.running import Caller, Gateway, Tokens, descendants, http, serving, wait_until, workers_of
from tests.support.fault_proxy import FaultProxy, Way
from tests.support.servers import (
    Server,
    fresh_database,
    postgresql,
    run_as_superuser,
    start_postgresql,
    stop_postgresql,
)

L = 2.0
"""Seconds within which a change must be effective: `SLUICEGATE_REVOCATION_BOUND`."""
STRICT_G = 3.0
"""Seconds that the strict instance goes on without the database."""
LASTING_G = 300.0
"""The same of the other one: the default."""
PATIENCE = 30.0
"""Seconds for what must happen, on a busy machine."""
MAX_CONNECTIONS = 30
"""Of PostgreSQL, so that they are soon used up."""
POOL = 6
"""Server connections of PgBouncer for the gateways' database."""
QUERY_WAIT = 2
"""Seconds after which PgBouncer gives up on a client that waits for one of them."""
PGBOUNCER = {
    "default_pool_size": POOL,
    "query_wait_timeout": QUERY_WAIT,
    "server_login_retry": 1,
    "server_connect_timeout": 3,
    "max_client_conn": 500,
}
"""As `docs/howto/operate.md` recommends, but smaller."""
GATEWAY = {
    "SLUICEGATE_PUBLIC_URL": "http://gateway.example",
    "SLUICEGATE_REVOCATION_BOUND": str(L),
    "SLUICEGATE_DB_POOL_SIZE": "1",
    "SLUICEGATE_DB_POOL_TIMEOUT": "1",
    "SLUICEGATE_DB_DEADLINE": "1.5",
}


class Rounds:
    """How often something was done that goes on in a thread of its own."""

    done = 0


@contextmanager
def repeating(action: Callable[[], object], every: float) -> Iterator[Rounds]:
    """Does it at once and again after each pause, until the block is left. Raises what the action raised."""
    rounds, enough = Rounds(), threading.Event()

    def go_on() -> None:
        while not enough.is_set():
            action()
            rounds.done += 1
            enough.wait(every)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(go_on)
        try:
            yield rounds
        finally:
            enough.set()
            running.result(PATIENCE)


class Cluster:
    """PostgreSQL that can be taken away, always in the same folder and on the same port."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._data = Path(f"/proc/{server.pid}/cwd").resolve()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """It ends its connections and then itself."""
        stop_postgresql(self._data)
        try:
            yield
        finally:
            self.server = start_postgresql(self._data)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """All of its processes stand still; whoever waits for it hangs."""
        os.kill(self.server.pid, signal.SIGSTOP)  # first: it must not start more
        others = descendants(self.server.pid)[1:]
        for pid in others:
            _signal(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in (*others, self.server.pid):
                _signal(pid, signal.SIGCONT)


class Instance:
    """A gateway of one worker that reaches the database by `link` alone."""

    def __init__(self, name: str, gateway: Gateway, link: FaultProxy) -> None:
        self.name = name
        self.trust = max(L, float(gateway.environment.get("SLUICEGATE_OUTAGE_BOUND", LASTING_G)))
        """Seconds that it decides at most after it last heard of the database."""
        self.gateway = gateway
        self.url = gateway.url
        self.link = link
        [self.worker] = workers_of(gateway.pid)

    def authorization(self) -> str:
        """The state of its lease: fresh, late, outage or closed."""
        with http() as client:
            answer = client.get(f"{self.url}/ready")
        return str(answer.json()["authorization"]) if answer.status_code == 200 else "closed"

    def is_fresh(self) -> bool:
        return self.authorization() == "fresh"

    def metric(self, name: str) -> float:
        """The sum of the samples of this name, or the one sample of a name with its labels."""
        found = self.gateway.metrics()
        return sum(value for sample, value in found.items() if sample == name or sample.startswith(name + "{"))


class Site(Struct, frozen=True):
    """Everything, and the faults. `database` is the name of the gateways' database."""

    cluster: Cluster
    bouncer: Bouncer
    hint: FaultProxy
    """What both instances LISTEN through, past PgBouncer."""
    database: str
    lasting: Instance
    strict: Instance
    tokens: Tokens

    @property
    def instances(self) -> tuple[Instance, Instance]:
        return self.lasting, self.strict

    def sql(self, statement: str) -> None:
        """Runs a statement in the gateways' database, past all proxies, as superuser."""
        run_as_superuser(self.cluster.server, statement, self.database)

    def change(self, work: Callable[[Transaction], object]) -> float:
        """Commits a change behind the instances' backs, past all proxies; the instant after the commit."""
        database = open_database(
            self.cluster.server.url(self.database), pool_size=1, max_overflow=0, pool_timeout=PATIENCE
        )
        try:
            asyncio.run(database.write(work))
            return time.monotonic()
        finally:
            database.close()

    def is_calm(self) -> bool:
        """All instances are fresh and allow what they should."""
        return all(each.is_fresh() and self._calls(each) for each in self.instances)

    def _calls(self, instance: Instance) -> bool:
        with Caller(f"{instance.url}/mcp", self.tokens.alice) as caller:
            return "result" in caller.call("clock__now").json()

    # --- faults ---------------------------------------------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[None]:
        """PgBouncer's PAUSE: it lets transactions end and then serves nobody, until RESUME."""
        with psycopg.connect(self._console(), autocommit=True, connect_timeout=10) as console:
            console.execute(f"PAUSE {self.database}".encode())
            try:
                yield
            finally:
                console.execute(f"RESUME {self.database}".encode())

    @contextmanager
    def pool_used_up(self) -> Iterator[None]:
        """Another application holds all of PgBouncer's server connections for the gateways' database."""
        with ExitStack() as held:
            for _ in range(POOL):
                other = held.enter_context(psycopg.connect(self._through_bouncer(), connect_timeout=10))
                other.execute("SELECT 1")  # in a transaction, which it never ends
            yield

    @contextmanager
    def connections_exhausted(self) -> Iterator[None]:
        """Another application holds all of PostgreSQL's connections, those of superusers too."""
        with ExitStack() as held:
            console = held.enter_context(self._direct())
            while self._others(console):
                console.execute(_TERMINATE.encode(), (self.database,))
                with suppress(psycopg.OperationalError):
                    while True:
                        held.enter_context(self._direct())
            yield

    @contextmanager
    def terminating(self, every: float) -> Iterator[Rounds]:
        """`pg_terminate_backend` on all connections to the gateways' database, again and again."""
        with self._direct() as console:

            def terminate() -> None:
                console.execute(_TERMINATE.encode(), (self.database,))

            with repeating(terminate, every) as rounds:
                yield rounds

    @contextmanager
    def resetting(self, every: float) -> Iterator[Rounds]:
        """All connections of the links are reset, again and again."""
        with repeating(lambda: [each.link.reset() for each in self.instances], every) as rounds:
            yield rounds

    @contextmanager
    def stuttering(self, way: Way, held: float, every: float) -> Iterator[Rounds]:
        """What goes one way over the links is held for a while, again and again."""

        def stutter() -> None:
            with self.on_each_link(lambda link: link.frozen(way)):
                threading.Event().wait(held)

        with repeating(stutter, every) as rounds:
            yield rounds

    @contextmanager
    def on_each_link(self, fault: Callable[[FaultProxy], AbstractContextManager[None]]) -> Iterator[None]:
        """A fault of the proxy, on the links of both instances."""
        with ExitStack() as faults:
            for instance in self.instances:
                faults.enter_context(fault(instance.link))
            yield

    def _direct(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.cluster.server.url("postgres"), autocommit=True, connect_timeout=10)

    def _through_bouncer(self) -> str:
        return Server(self.bouncer.port, 0).url(self.database)

    def _console(self) -> str:
        return Server(self.bouncer.port, 0).url("pgbouncer")

    def _others(self, console: psycopg.Connection[tuple[object, ...]]) -> bool:
        query = b"SELECT 1 FROM pg_stat_activity WHERE datname = %s"
        return console.execute(query, (self.database,)).fetchone() is not None


_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


@contextmanager
def running_site(folders: pytest.TempPathFactory, settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A site with the world of `examples/demo.yaml`, calm. `settings` are for both instances.

    Processes start side by side: on a machine with other work that is most of the time.
    """
    opening = Opening(folders)
    with ExitStack() as running:
        running.callback(opening.close)
        opening.begin(example_upstreams)
        cluster = Cluster(running.enter_context(postgresql(max_connections=MAX_CONNECTIONS)))
        database = running.enter_context(fresh_database(cluster.server))
        migrate(cluster.server.url(database))
        bouncer = Bouncer(cluster.server, **PGBOUNCER)
        running.callback(bouncer.close)
        links = [running.enter_context(FaultProxy(bouncer.port, seed)) for seed in (1, 2)]
        hint = running.enter_context(FaultProxy(cluster.server.port))
        home = folders.mktemp("site")
        common = GATEWAY | {
            "SLUICEGATE_DATA_DIR": str(home),
            "SLUICEGATE_DATABASE_DIRECT_URL": Server(hint.port, 0).url(database),
            "WEB_TOKEN": opening.get(example_upstreams).web_token,
            **(settings or {}),
        }
        bounds = str(LASTING_G), str(STRICT_G)
        own = [
            {"SLUICEGATE_DATABASE_URL": Server(link.port, 0).url(database), "SLUICEGATE_OUTAGE_BOUND": bound}
            for link, bound in zip(links, bounds, strict=True)
        ]
        with ThreadPoolExecutor() as side_by_side:
            starting = [
                side_by_side.submit(running.enter_context, serving(folders.mktemp("instance"), common | each))
                for each in own
            ]
            lasting, strict = (each.result() for each in starting)
        lasting.apply(home, opening.get(example_upstreams).declaration())
        instances = Instance("lasting", lasting, links[0]), Instance("strict", strict, links[1])
        site = Site(cluster, bouncer, hint, database, *instances, tokens_of(lasting))
        wait_until(site.is_calm, PATIENCE, "all is well at first")
        yield site


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)

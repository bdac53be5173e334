"""What the store says to PostgreSQL, byte by byte, holds nothing that a PgBouncer in transaction mode could break.

So it depends on no version of PgBouncer: nothing has a name that a later transaction might miss, and nothing is set for
the session. Message formats: PostgreSQL's documentation, chapter 55.7.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import pytest
from msgspec import Struct
from sqlalchemy import Connection, text

from sluicegate.core.catalog import Team
from sluicegate.ports import Transaction
from sluicegate.store import open_database
from sluicegate.store.lending import Access
from tests.store.writing import inserting
from tests.support import world
from tests.support.servers import Server
from tests.support.world import PAYMENTS

LIMIT = 30
REPEATS = 7
"""psycopg would prepare a statement that it meets for the sixth time."""
SIMPLE_QUERY, PARSE, BIND, DESCRIBE, CLOSE = b"Q", b"P", b"B", b"D", b"C"
ALLOWED_AT_STARTUP = {"user", "database", "application_name", "client_encoding"}
"""What every PgBouncer accepts without being configured for it."""
OF_THE_SESSION = re.compile(
    r"(?i)(?:^|;)\s*(?:set\s+(?!local\b|transaction\b|constraints\b)|reset\b|discard\b|listen\b|prepare\b|deallocate\b|load\b)"
    r"|\bpg_(?:try_)?advisory_lock|\bset_config\s*\(|\bcreate\s+temp|\bwith\s+hold\b"
)


class Message(Struct, frozen=True):
    """A message of the client."""

    kind: bytes
    body: bytes

    @property
    def name(self) -> bytes:
        """The prepared statement that it makes, uses or ends; empty for the unnamed one, and for a cursor.

        A cursor ends with its transaction.
        """
        fields = self.body.split(b"\0")
        if self.kind in (DESCRIBE, CLOSE):
            return fields[0][1:] if fields[0].startswith(b"S") else b""
        return fields[1] if self.kind == BIND else fields[0]

    @property
    def sql(self) -> str:
        fields = self.body.split(b"\0")
        return {SIMPLE_QUERY: fields[0], PARSE: fields[min(1, len(fields) - 1)]}.get(self.kind, b"").decode()


class Tap:
    """Listens before a server, passes everything on, and keeps what clients say."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._said: list[bytearray] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def startups(self) -> list[dict[str, str]]:
        """The parameters of each connection."""
        found = []
        for said in self._said:
            length = int.from_bytes(said[:4])
            fields = bytes(said[8 : length - 2]).decode().split("\0")
            found.append(dict(zip(fields[::2], fields[1::2], strict=True)))
        return found

    def messages(self) -> Iterator[Message]:
        """All that came after the startups."""
        for said in self._said:
            at = int.from_bytes(said[:4])
            while at < len(said):
                length = int.from_bytes(said[at + 1 : at + 5])
                yield Message(bytes(said[at : at + 1]), bytes(said[at + 5 : at + 1 + length]))
                at += 1 + length

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._server.port))
                said = bytearray()
                self._said.append(said)
                for ways in ((client, server, said), (server, client, bytearray())):
                    threading.Thread(target=self._pass_on, args=ways, daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, seen: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                seen += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def deleting(team: Team) -> Callable[[Transaction], None]:
    return lambda tx: tx.delete(team)


def answer(connection: Connection) -> object:
    return connection.execute(text("SELECT 1")).scalar_one()


async def test_nothing_outlives_a_transaction(postgres_server: Server, postgresql_url: str) -> None:

    with closing(Tap(postgres_server)) as tap:
        url = f"postgresql://sluicegate@127.0.0.1:{tap.port}/contract?sslmode=disable&gssencmode=disable"
        database = open_database(url, pool_size=1, max_overflow=1, pool_timeout=5.0)
        feed = database.feed_source()
        for _ in range(REPEATS):
            team = world.team(PAYMENTS, "payments")
            await database.write(inserting(team))
            await database.write(deleting(team))
            await asyncio.gather(*(database.read(answer) for _ in range(2)))
            await feed.poll(0)
            await feed.load()
            await feed.audit(0)
            await database.upkeep(answer, LIMIT)
            await database.upkeep(answer, LIMIT, Access.READ)
        database.close()
    messages = list(tap.messages())
    statements = [message.sql for message in messages if message.sql]

    assert all(set(parameters) <= ALLOWED_AT_STARTUP for parameters in tap.startups())
    assert [m for m in messages if m.kind in (PARSE, BIND, DESCRIBE, CLOSE) and m.name] == []
    assert [sql for sql in statements if OF_THE_SESSION.search(sql)] == []
    assert sum(sql.startswith("BEGIN ISOLATION LEVEL") for sql in statements) >= 8 * REPEATS
    assert any(message.kind == PARSE for message in messages)


@pytest.mark.parametrize(
    "sql",
    ["SET statement_timeout = 1", "BEGIN; SET lock_timeout = 1", "LISTEN x", "DECLARE c CURSOR WITH HOLD FOR SELECT 1"],
)
def test_what_is_of_the_session_is_recognised(sql: str) -> None:
    assert OF_THE_SESSION.search(sql)
    assert not OF_THE_SESSION.search(
        sql.replace("SET", "SET LOCAL").replace("LISTEN", "NOTIFY").replace("WITH HOLD", "")
    )

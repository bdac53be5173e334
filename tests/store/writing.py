"""Pieces that the store's tests share: works, entities beyond the world's, what the metrics show."""

import asyncio
from collections.abc import Callable

from prometheus_client import REGISTRY

from sluicegate.core.catalog import BearerAuth, Entity, Era, Team, Token, Upstream, Visibility
from sluicegate.core.errors import DatabaseBusy
from sluicegate.core.identity import TeamId, TokenId, UpstreamId
from sluicegate.ports import Transaction
from sluicegate.store import SqlDatabase
from tests.support.world import ALICE, OLGA, PAYMENTS

FAR = 4_000_000_000
"""An instant that these tests do not live to see."""
NARROW = Token(TokenId("tok_narrow"), ALICE, "narrow", 1, FAR, 5, ("payments",), ("support",), ("tools:call",))
EMPTY = Token(TokenId("tok_empty"), ALICE, "empty", 1, FAR, None, (), (), ())
ABSENT = Token(TokenId("tok_absent"), ALICE, "absent", 1, FAR, None, None, None, None)
SEALED = Upstream(
    id=UpstreamId("ups_sealed"),
    slug="sealed",
    url="https://example.com/mcp",
    team_id=PAYMENTS,
    owner_id=OLGA,
    visibility=Visibility.PRIVATE,
    enabled=False,
    auth=BearerAuth("c2VhbGVk"),
    era=Era.MODERN,
    protocol_version="2026-07-28",
    sync_warnings=("tool `ü` was left out", ""),
)


def inserting(*entities: Entity) -> Callable[[Transaction], None]:
    """Work that inserts the entities, in this order."""

    def insert(tx: Transaction) -> None:
        for entity in entities:
            tx.insert(entity)

    return insert


def failing_after(*entities: Entity) -> Callable[[Transaction], None]:
    """Work that inserts the entities and then raises ZeroDivisionError."""

    def insert_and_fail(tx: Transaction) -> None:
        inserting(*entities)(tx)
        raise ZeroDivisionError

    return insert_and_fail


def numbered_team(number: int) -> Team:
    """One of as many teams as a test wants."""
    return Team(TeamId(f"team_{number}"), f"t{number}", "", True)


def checkouts(owner: str) -> float:
    """How many checkouts the metrics show for the owner."""
    return REGISTRY.get_sample_value("db_checkouts_total", {"owner": owner}) or 0.0


def checked_out(owner: str) -> float:
    """How many connections the metrics show in use by the owner now."""
    return REGISTRY.get_sample_value("db_checked_out", {"owner": owner}) or 0.0


async def until_free(database: SqlDatabase) -> None:
    """Returns when a write and a poll find a free slot, within seconds."""
    async with asyncio.timeout(10):
        while not await _can_write(database):
            await asyncio.to_thread(lambda: None)  # a turn for the other threads


async def _can_write(database: SqlDatabase) -> bool:
    try:
        await database.write(inserting())
        await database.feed_source().poll(FAR)
    except DatabaseBusy:
        return False
    return True

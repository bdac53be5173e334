"""`python -m bench.measure_directory URL`: loads a directory as a worker does and measures it; prints one JSON object.

A process of its own, so that what its memory grows by is the directory.
"""

import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psycopg
from msgspec.structs import replace

from sluicegate.core.catalog import KIND_OF, Membership, Tool, Upstream, User
from sluicegate.core.directory import Directory
from sluicegate.core.events import Change, decode_change, encode_entity
from sluicegate.core.identity import (
    UNNARROWED,
    AllTeams,
    OnlyServers,
    Principal,
    ServerId,
    TeamId,
    TokenId,
    TokenScope,
    UpstreamId,
    UserId,
)
from sluicegate.core.lease import Lease
from sluicegate.core.permissions import Permission, Role
from sluicegate.core.policy import decide
from sluicegate.core.routing import MERGED, selection_of
from sluicegate.store import open_database
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.follow_feed import DirectoryFeed
from sluicegate.usecases.list_catalog import list_tools
from sluicegate.usecases.manage_tools import ToolFilter
from sluicegate.usecases.manage_tools import list_tools as list_readable
from sluicegate.usecases.paging import PageRequest

NOW = 1_800_000_000.0
CALL = Permission.TOOLS_CALL
BURST = 10_000
HOT, COLD = 100, 3000
"""Callers who take turns: what they need stays in the processor's caches, or does not."""
TICK = 0.001
"""Seconds between two looks at the event loop."""
Numbers = dict[str, float]
T = TypeVar("T")


class BootClock:
    """The machine's clocks."""

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)


async def forget(_: UpstreamId) -> None:
    """Nothing is connected here."""


async def measured(url: str, direct_url: str) -> dict[str, Numbers]:
    """All measurements, each with its numbers."""
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    source = database.feed_source()
    await source.poll(0)  # connects, and imports what connecting needs
    feed = DirectoryFeed(source, BootClock(), Lease(2.0, 300.0), forget)
    before, began = resident(), time.perf_counter()
    await feed.load()
    took = time.perf_counter() - began
    found: dict[str, Numbers] = {"load": {"median": took}, "memory": {"median": resident() - before}}
    if direct_url:
        directory = feed.directory
        found |= decisions(directory) | lists(directory) | changes(feed.directory)
        feed = DirectoryFeed(source, BootClock(), Lease(2.0, 300.0), forget)
        await feed.load()
        found["burst"] = await burst(feed, direct_url)
    database.close()
    return found


def resident() -> float:
    """Megabytes of memory that the process has now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def decisions(directory: Directory) -> dict[str, Numbers]:
    """Microseconds for one `tools/call` of people who may, and of people who mostly may not."""
    chance = random.Random(2)
    users, tools = list(directory.users), list(directory.tools.values())
    strangers = [(holder(chance.choice(users)), chance.choice(tools)) for _ in range(HOT)]
    members = [(holder(user), tool) for user, tool in usable(directory, chance, COLD)]
    lent = [(holder(user, server), tool) for user, server, tool in through_servers(directory, chance, HOT)]
    groups = {
        "decide": members[:HOT],
        "decide, cold": members,
        "decide, refused": strangers,
        "decide, token for a server": lent,
    }
    took: dict[str, list[float]] = {name: [] for name in groups}
    for _ in range(20):  # in turn, so that a noisy machine hits all; each a few times, so that what is hot stays so
        for name, asked in groups.items():
            took[name] += [decided(asked, directory) for _ in range(20 * HOT // len(asked) or 1)]
    return {name: spread(each) for name, each in took.items()}


def decided(asked: list[tuple[Principal, Tool]], directory: Directory) -> float:
    """Microseconds for one, without a call around each."""
    began = time.perf_counter()
    for principal, tool in asked:
        decide(principal, CALL, tool, directory, NOW)
    return (time.perf_counter() - began) / len(asked) * 1e6


def holder(user_id: UserId, server_id: ServerId | None = None) -> Principal:
    """Someone with a token that is narrowed to a server, or not at all."""
    scope = UNNARROWED
    if server_id is not None:
        scope = TokenScope(AllTeams(), OnlyServers(frozenset([server_id])), UNNARROWED.permissions)
    return Principal(user_id, TokenId("tok_bench"), scope, NOW + 1)


def usable(directory: Directory, chance: random.Random, count: int) -> Iterator[tuple[UserId, Tool]]:
    """People, and tools of teams that they are in."""
    by_team = {upstream.team_id: upstream.id for upstream in directory.upstreams.values()}
    users = list(directory.users)
    while count:
        user = chance.choice(users)
        teams = [team for team, _ in directory.roles_of(user) if team in by_team]
        if teams:
            yield user, chance.choice(list(directory.tools_of(by_team[chance.choice(teams)]).values()))
            count -= 1


def through_servers(directory: Directory, chance: random.Random, count: int) -> Iterator[tuple[UserId, ServerId, Tool]]:
    """People, a server of a team of theirs, and a tool that it selects."""
    for server in chance.sample(list(directory.servers.values()), count):
        user, _ = chance.choice(directory.members_of(server.team_id or TeamId("")))
        yield user, server.id, next(iter(selection_of(server, directory).by_name.values()))


def lists(directory: Directory) -> dict[str, Numbers]:
    """Milliseconds for which a list holds the event loop."""
    chance = random.Random(3)
    callers = [Caller(holder(user), directory, NOW) for user in chance.sample(list(directory.users), 20)]
    admin = next(user.id for user in directory.users.values() if user.platform_admin)
    whole = PageRequest(1000, None)
    return {
        "tools/list": each_of(callers, lambda one: list_tools(one, CALL, MERGED, None), 5, 1e3),
        "GET /v1/tools": each_of(callers, lambda one: list_readable(one, ToolFilter(None, None), whole), 5, 1e3),
        "tools/list, admin": each_of(
            [Caller(holder(admin), directory, NOW)], lambda one: list_tools(one, CALL, MERGED, None), 20, 1e3
        ),
    }


def each_of(items: list[T], work: Callable[[T], object], rounds: int = 100, unit: float = 1e6) -> Numbers:
    """The time for one, in parts of a second, as the mean of a round: the median, least and most of the rounds."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        for item in items:
            work(item)
        took.append((time.perf_counter() - began) / len(items) * unit)
    return {"median": statistics.median(took), "min": min(took), "max": max(took)}


def changes(directory: Directory) -> dict[str, Numbers]:
    """Microseconds for applying one change of a mixture, each decoded from its own payload before."""
    took = []
    for change in list(mixture(directory, random.Random(4))):
        began = time.perf_counter_ns()
        directory.apply(change)
        took.append((time.perf_counter_ns() - began) / 1e3)
    return {"apply": spread(took)}


def mixture(directory: Directory, chance: random.Random) -> Iterator[Change]:
    """Roles given and taken, people and tools switched off, upstreams moved."""
    users, teams = list(directory.users.values()), list(directory.teams)
    tools, upstreams = list(directory.tools.values()), list(directory.upstreams.values())
    for number in range(BURST):
        user, team, tool = chance.choice(users), chance.choice(teams), chance.choice(tools)
        entity: Membership | User | Tool | Upstream = Membership(f"{user.id}/{team}", user.id, team, Role.VIEWER)
        if number % 4 == 1:
            entity = replace(user, active=not user.active)
        elif number % 4 == 2:
            entity = replace(tool, definition=tool.described, enabled=not tool.enabled)
        elif number % 100 == 3:
            entity = replace(chance.choice(upstreams), team_id=team)
        payload = None if number % 8 == 4 else encode_entity(entity)
        yield decode_change(directory.revision + number + 1, KIND_OF[type(entity)], entity.id, payload)


def spread(took: list[float]) -> Numbers:
    """The median and what lies around it."""
    ordered = sorted(took)
    return {
        "median": statistics.median(ordered),
        "min": ordered[0],
        "p99": ordered[len(ordered) * 99 // 100],
        "max": ordered[-1],
    }


async def burst(feed: DirectoryFeed, direct_url: str) -> Numbers:
    """Milliseconds by which the event loop is late while the feed catches up with many changes at once."""
    target = feed.directory.revision + BURST
    await asyncio.to_thread(write_burst, direct_url)
    late: list[float] = []
    watching, following = asyncio.create_task(watch(late)), asyncio.create_task(feed.run())
    async with asyncio.timeout(60):
        while feed.directory.revision < target:
            await feed.reach(target)
    for task in (watching, following):
        task.cancel()
    await asyncio.gather(watching, following, return_exceptions=True)
    return spread(late)


async def watch(late: list[float]) -> None:
    """Notes by how many milliseconds the event loop is late, all the time."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late.append((loop.time() - due) * 1e3)


def write_burst(direct_url: str) -> None:
    """Many changes in one transaction, with their rows in the log."""
    with psycopg.connect(direct_url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # or the triggers would take most of it
        connection.execute(
            "CREATE TEMPORARY TABLE burst AS SELECT row_number() OVER () AS number, id, user_id, team_id"
            f" FROM memberships ORDER BY team_id LIMIT {BURST}"
        )
        connection.execute("UPDATE memberships SET role = 'owner' FROM burst WHERE burst.id = memberships.id")
        connection.execute(
            "INSERT INTO authz_log (rev, kind, key, payload) SELECT rev + row_number() OVER (), 'membership', burst.id,"
            " json_build_object('id', burst.id, 'user_id', user_id, 'team_id', team_id, 'role', 'owner')"
            " FROM burst, authz_head"
        )
        connection.execute(f"UPDATE authz_head SET rev = rev + {BURST}")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measured(sys.argv[1], sys.argv[2]))))

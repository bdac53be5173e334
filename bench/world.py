"""A large world in a database: teams, people, upstreams with their tools, virtual servers; tokens on demand."""

import json
import random
from collections.abc import Iterable, Iterator
from itertools import islice

import psycopg
from msgspec import Struct

from sluicegate.core.catalog import new_id

NEW_EPOCH = "UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid()"
EXPIRES = "4000000000"
WORDS = tuple(
    "account address amount archive balance batch branch budget calendar channel city code comment contact country"  # noqa: SIM905 - one a line is a page
    " currency customer date delivery department description document draft due email employee event export field file"
    " filter folder from group header history image index invoice issue item job key label language limit list locale"
    " location mail message meeting merge metric month name network note number offset order owner page path payment"
    " period phone policy price priority product project query quota rate receipt record region report request result"
    " review role schedule schema search section sender server session sheet shipment since sort source status stock"
    " store subject summary table tag target task tax team template text thread ticket time title token topic total"
    " track type unit until update user value vendor version view volume warehouse week weight window year".split()
)


class Size(Struct, frozen=True):
    """How many there are of each kind."""

    users: int = 100_000
    teams: int = 10_000
    memberships: int = 1_000_000
    upstreams: int = 1000
    tools: int = 100_000
    servers: int = 500


class World(Struct, frozen=True):
    """The ids, in the order in which they were made; definitions are about `definition` bytes long on average."""

    size: Size
    users: list[str]
    teams: list[str]
    definition: float


def populate(url: str, size: Size) -> World:
    """Fills an empty database in one transaction that begins a new epoch, as a bulk import does."""
    chance = random.Random(1)
    teams, users = _ids("team", size.teams), _ids("usr", size.users)
    upstreams = _ids("ups", size.upstreams)
    tools = list(_tools(size, upstreams, teams, chance))
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")  # the rows are sound: check none of them
        _copy(connection, "teams", ((id, f"team-{n}", f"Team {n}", True) for n, id in enumerate(teams)))
        _copy(connection, "users", ((id, f"person.{n}@example.com", True, n == 0) for n, id in enumerate(users)))
        _copy(connection, "memberships", _memberships(size, users, teams, chance))
        _copy(connection, "upstreams", _upstreams(upstreams, teams, users, chance))
        _copy(connection, "tools", tools)
        _copy(connection, "servers", _servers(size, teams))
        connection.execute(NEW_EPOCH)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return World(size, users, teams, sum(len(str(row[3])) for row in tools) / len(tools))


def add_tokens(url: str, world: World) -> None:
    """One token for each user, in another such transaction."""
    with psycopg.connect(url) as connection:
        connection.execute("SET LOCAL session_replication_role = replica")
        _copy(connection, "tokens", _tokens(world.users))
        connection.execute(NEW_EPOCH)


def definition(chance: random.Random) -> str:
    """A tool's description and input schema, as upstreams write them: some 300 bytes, no two alike."""
    names = chance.sample(WORDS, 3)
    properties = {
        name: {"type": chance.choice(("string", "integer", "boolean")), "description": " ".join(_words(chance, 3))}
        for name in names
    }
    schema = {"type": "object", "properties": properties, "required": names[:1]}
    described = {"description": " ".join(_words(chance, 9)).capitalize() + ".", "inputSchema": schema}
    return json.dumps(described, separators=(",", ":"))


Row = tuple[str | bool | None, ...]
_TEXT: dict[object, str] = {None: "\\N", True: "t", False: "f"}


def _copy(connection: psycopg.Connection, table: str, rows: Iterable[Row]) -> None:
    """In COPY's text format, made here: quicker than row by row. No value holds what the format escapes."""
    lines = ("\t".join(_TEXT.get(value, value) for value in row) + "\n" for row in rows)  # type: ignore[arg-type,misc]
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
        while chunk := "".join(islice(lines, 1000)):
            copy.write(chunk)


def _ids(prefix: str, count: int) -> list[str]:
    return [new_id(prefix) for _ in range(count)]  # type: ignore[arg-type]


def _words(chance: random.Random, about: int) -> list[str]:
    return chance.choices(WORDS, k=chance.randint(about - 1, about + 1))


def _memberships(size: Size, users: list[str], teams: list[str], chance: random.Random) -> Iterator[Row]:
    each = size.memberships // size.users
    for user in users:
        for team in chance.sample(teams, each):
            yield f"{user}/{team}", user, team, chance.choice(("viewer", "developer", "developer", "owner"))


def _upstreams(upstreams: list[str], teams: list[str], users: list[str], chance: random.Random) -> Iterator[Row]:
    for number, id in enumerate(upstreams):
        visibility = chance.choices(("team", "private", "public"), (90, 8, 2))[0]
        owner = users[number] if visibility == "private" else None
        team = None if visibility == "public" else teams[number]
        url = f"https://upstream-{number}.example.com/mcp"
        yield id, f"upstream-{number}", url, team, owner, visibility, True, '{"type":"none"}', None, None, "[]"


def _tools(size: Size, upstreams: list[str], teams: list[str], chance: random.Random) -> Iterator[Row]:
    each = size.tools // size.upstreams
    for upstream in upstreams:
        names = {"_".join(_words(chance, 2)) + f"_{number}" for number in range(each)}
        for name in names:
            moved = chance.random() < 0.01
            override = ("team", chance.choice(teams)) if moved else (None, None)
            yield new_id("tool"), upstream, name, definition(chance), *override, chance.random() > 0.01, True


def _servers(size: Size, teams: list[str]) -> Iterator[Row]:
    for number in range(size.servers):
        selectors = json.dumps([{"tool": f"upstream-{number}__*", "alias": None}])
        yield new_id("srv"), f"server-{number}", teams[number], None, "team", True, selectors


def _tokens(users: list[str]) -> Iterator[Row]:
    for number, user in enumerate(users):
        yield new_id("tok"), user, f"laptop {number}", "1700000000", EXPIRES, None, None, None, None

"""The directory at its full size against its budget: 100k users, 10k teams, 1M memberships, 100k tools.

Loaded from a private PostgreSQL through PgBouncer by processes that do nothing else.
"""

import json
import statistics
import subprocess
import sys

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.processes import NotUp
from bench.world import Size, World, add_tokens, populate
from sluicegate.store import migrate
from tests.support.servers import fresh_database, pgbouncer, postgresql

LOADS = 3
LIMIT = 120.0
"""Seconds for one process."""
Found = dict[str, dict[str, float]]


class Line(Struct, frozen=True):
    """One row of the table. `bounded` is the number that the budget is for."""

    name: str
    budget: float
    unit: str
    bounded: str = "median"


LINES = {
    "load": Line("load, everything", 5.0, "s"),
    "memory": Line("memory, what the process grows by", 100.0, "MB"),
    "decide": Line("one decision, allowed, of 100 callers in turn", 2.0, "us", "min"),
    "decide, cold": Line("one decision, allowed, of 3000 callers in turn", 2.0, "us", "min"),
    "decide, refused": Line("one decision, mostly refused, the same", 2.0, "us", "min"),
    "decide, token for a server": Line("one decision, tokens narrowed to a server", 2.0, "us", "min"),
    "apply": Line("one change applied, of a mixture", 10.0, "us"),
    "burst": Line("event loop late in a burst of 10,000 changes", 50.0, "ms", "max"),
    "tools/list": Line("tools/list of someone in 10 teams", 50.0, "ms", "max"),
    "GET /v1/tools": Line("GET /v1/tools of someone in 10 teams", 50.0, "ms", "max"),
    "tools/list, admin": Line("tools/list of an admin, 1000 tools", 50.0, "ms", "max"),
    "load with tokens": Line("load with 100,000 tokens besides", 5.0, "s"),
    "memory with tokens": Line("memory with 100,000 tokens besides", 100.0, "MB"),
}


def run(console: Console) -> Found:
    """Runs the measurements, prints the table and returns the numbers."""
    with postgresql() as postgres, pgbouncer(postgres) as bouncer, fresh_database(postgres) as name:
        direct, url = postgres.url(name), bouncer.url(name)
        migrate(direct)
        world = populate(direct, Size())
        runs = [_measured(url, direct if number == 0 else "") for number in range(LOADS)]
        add_tokens(direct, world)
        laden = [_measured(url, "")]
    found = runs[0] | {name: _merged(runs, name) for name in ("load", "memory")}
    found |= {f"{name} with tokens": _merged(laden, name) for name in ("load", "memory")}
    _print(found, world, console)
    return found


def _measured(url: str, direct: str) -> Found:
    command = [sys.executable, "-m", "bench.measure_directory", url, direct]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        raise NotUp(f"the directory was not measured: {done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def _merged(runs: list[Found], name: str) -> dict[str, float]:
    numbers = [each[name]["median"] for each in runs]
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def _print(found: Found, world: World, console: Console) -> None:
    size = world.size
    table = Table(
        title=f"directory of {size.users:,} users, {size.teams:,} teams, {size.memberships:,} memberships,"
        f" {size.tools:,} tools of {size.upstreams:,} upstreams, described in {world.definition:.0f} bytes each"
    )
    for column in ("what", "budget", "min", "median", "p99", "max", "of budget"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, line in LINES.items():
        numbers = found[name]
        ratio = numbers[line.bounded] / line.budget
        spread = (f"{numbers[key]:.2f}" if key in numbers else "" for key in ("min", "median", "p99", "max"))
        table.add_row(line.name, f"{line.budget:g} {line.unit}", *spread, f"{ratio:.2f} ({line.bounded})")
    console.print(table)
    console.print(
        f"Loaded {LOADS} times through PgBouncer, each in a fresh process; memory is VmRSS. Tokens are beyond the"
        " budget, and shown for what they add. A decision is the mean of a round; the least of many rounds is what"
        " others disturbed least. Of 3000 callers, little is in the processor's caches. `python -m bench directory`"
    )

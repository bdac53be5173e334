"""The processes of one run: `python -m tests.history.players CAST.json` forks them and writes their ids to a file.

One process imports the code under test, and the others are its forks: a run starts in one second, not in six. It ends
when all of them have; with 1 if one failed.
"""

import asyncio
import multiprocessing
import sys
from pathlib import Path

import msgspec

import sluicegate
from tests.history.plans import Cast, Pids, WorkerPlan, WriterPlan
from tests.history.scripts import all_scripts
from tests.history.worker import decide_on
from tests.history.writer import write


def play_writer(plan: WriterPlan) -> None:
    """One writer, from its beginning to its end."""
    asyncio.run(write(plan, all_scripts()[plan.number :: plan.stride]))


def play_worker(plan: WorkerPlan) -> None:
    """One worker, from its beginning to its end."""
    asyncio.run(decide_on(plan, [script.question for script in all_scripts()]))


def tell(path: Path, pids: Pids) -> None:
    """Whoever sees the file sees all of it."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(pids))
    unfinished.rename(path)


def main(path: str) -> int:
    """The exit code."""
    cast = msgspec.json.decode(Path(path).read_bytes(), type=Cast)
    loaded = Path(sluicegate.__file__)
    assert loaded.is_relative_to(cast.tree), f"this is {loaded}, not the code below {cast.tree}"
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=play_writer, args=(plan,)) for plan in cast.writers]
    workers = [fork.Process(target=play_worker, args=(plan,)) for plan in cast.workers]
    for each in (*writers, *workers):
        each.start()
    tell(Path(cast.pids), Pids([each.pid or 0 for each in writers], [each.pid or 0 for each in workers]))
    for each in (*writers, *workers):
        each.join()
    return int(any(each.exitcode for each in (*writers, *workers)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

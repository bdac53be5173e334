"""One run: a database of its own, PgBouncer, a faulty link for each worker, the processes, and what they write down."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from sluicegate.auth.key_files import load_or_create_keys
from sluicegate.core.lease import LeaseState
from tests.history.chaos import Victims
from tests.history.checker import History, Verdict, check, histories_of
from tests.history.database import Place, database_of_a_run
from tests.history.plans import LEASE, Cast, Pids, WorkerPlan, WriterPlan
from tests.history.records import Decided, boot_time, decided, last_decided, written
from tests.support.fault_proxy import FaultProxy
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
WITHIN = 60.0
"""Seconds for the processes to start, to recover and to end, on a machine that is busy with other things."""
LOOKS_EVERY = 0.05


class Terms(Struct, frozen=True):
    """Which code a run runs, SQL that prepares the database for it, and how large the run is. Pauses in seconds."""

    tree: Path
    sql: str
    seed: int
    workers: int
    writers: int = 3
    round_pause: float = 0.03
    write_pause: float = 0.3


class Stage:
    """A run under way."""

    def __init__(self, cast: Cast, victims: Victims) -> None:
        self._cast = cast
        self.victims = victims

    def begin(self) -> None:
        """Lets the writers begin, once every worker decides."""
        _until(lambda: all(_answers(plan, 0.0) for plan in self._cast.workers), "every worker decides")
        _until(lambda: all(_size(plan) for plan in self._cast.writers), "every writer is ready")
        for pid in self.victims.writers:
            os.kill(pid, signal.SIGUSR1)

    def verdict(self) -> Verdict:
        """What the checker says of everything up to now."""
        known = [(Path(plan.journal), _size(plan)) for plan in self._cast.workers]
        histories = self._histories()  # only now: they hold every version that a decision up to here may have seen
        return check(histories, chain.from_iterable(decided(path, size) for path, size in known), LEASE)

    def recover(self) -> None:
        """Ends the writers, and returns when every worker gives the last answers, FRESH."""
        _end(*self.victims.writers)
        _until(lambda: not any(map(_alive, self.victims.writers)), "the writers end")
        ended = boot_time()
        last = {name: history.answers[-1] for name, history in self._histories().items()}
        _until(lambda: all(_answers(plan, ended) == last for plan in self._cast.workers), "every worker knows all")

    def _histories(self) -> dict[str, History]:
        return histories_of(chain.from_iterable(written(Path(plan.journal)) for plan in self._cast.writers))


@contextmanager
def stage(where: Place, terms: Terms, folder: Path) -> Iterator[Stage]:
    """Everything that a run needs, ready; at the end all processes have ended by themselves, or it raises."""
    with ExitStack() as needed:
        database = needed.enter_context(database_of_a_run(where, terms.sql))
        seeds = range(terms.seed, terms.seed + terms.workers)
        links = [needed.enter_context(FaultProxy(where.bouncer.port, seed)) for seed in seeds]
        linked = [Server(link.port, where.bouncer.pid).url(database) for link in links]
        cast = _cast(terms, folder, where.cluster.url(database), linked)
        load_or_create_keys(folder / "keys.json")
        pids = needed.enter_context(_playing(cast, folder))
        yield Stage(cast, Victims(links, where.cluster.pid, where.bouncer.pid, pids.workers, pids.writers))


def _cast(terms: Terms, folder: Path, direct: str, linked: Sequence[str]) -> Cast:
    writers = [
        WriterPlan(
            number=number,
            stride=terms.writers,
            pause=terms.write_pause,
            seed=terms.seed * terms.writers + number,
            url=direct,
            journal=str(folder / f"writer-{number}.jsonl"),
        )
        for number in range(terms.writers)
    ]
    workers = [
        WorkerPlan(number, terms.round_pause, url, str(folder / f"worker-{number}.jsonl"), str(folder / "keys.json"))
        for number, url in enumerate(linked)
    ]
    pids = str(folder / "pids.json")
    return Cast(str(terms.tree), pids, tuple(writers), tuple(workers))


@contextmanager
def _playing(cast: Cast, folder: Path) -> Iterator[Pids]:
    plan, log = folder / "cast.json", folder / "players.log"
    plan.write_bytes(msgspec.json.encode(cast))
    environment = os.environ | {"PYTHONPATH": f"{cast.tree}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-m", "tests.history.players", str(plan)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, process_group=0
        ) as players,
    ):
        try:
            _until(lambda: Path(cast.pids).exists() or players.poll() is not None, "the processes start")
            if players.poll() is None:
                pids = msgspec.json.decode(Path(cast.pids).read_bytes(), type=Pids)
                yield pids
                _end(*pids.writers, *pids.workers)
            players.wait(WITHIN)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(players.pid, signal.SIGKILL)  # its forks, should any be left
    if players.returncode != 0:
        raise RuntimeError(f"a process of the run failed:\n{log.read_text(errors='replace')[-6000:]}")


def _end(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _answers(plan: WorkerPlan, since: float) -> dict[str, str]:
    """The last answers that the worker gave in FRESH state after the instant."""
    lines = last_decided(Path(plan.journal)) if _size(plan) else []
    made = [line for line in lines if isinstance(line, Decided) and line.at > since]
    return {each.question: each.answer for each in made if each.state is LeaseState.FRESH}


def _size(plan: WriterPlan | WorkerPlan) -> int:
    journal = Path(plan.journal)
    return journal.stat().st_size if journal.exists() else 0


def _until(condition: Callable[[], bool], promise: str) -> None:
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN:g} s: {promise}"
        time.sleep(LOOKS_EVERY)

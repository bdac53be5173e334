"""What goes wrong during a run, and when: a schedule from a seed, and the hands that carry it out."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from enum import StrEnum

from msgspec import Struct

from tests.e2e.running import descendants
from tests.history.plans import LEASE
from tests.support.fault_proxy import Delay, FaultProxy, Way

LATE = Delay(0.06, 0.14)
"""Of each answer of the database. A poll takes several, and must be done within its deadline of a second."""


class What(StrEnum):
    """The kinds of fault."""

    LATE_ANSWERS = "answers of the database are late"
    FROZEN_LINK = "the link to the database is frozen"
    RESET_LINK = "the link to the database breaks"
    STOPPED_WORKER = "the worker is stopped"
    STOPPED_WRITER = "a writer is stopped, perhaps in its transaction"
    STOPPED_PGBOUNCER = "pgbouncer is stopped"
    FROZEN_DATABASE = "all processes of the database stand still, wherever they are in a commit or a poll"


class Fault(Struct, frozen=True):
    """From `begins` on, in seconds since the schedule began, for `lasts`; `who` numbers links, workers and writers."""

    what: What
    who: int
    begins: float
    lasts: float


class Victims(Struct, frozen=True):
    """Whom faults hit: processes by their ids."""

    links: Sequence[FaultProxy]
    database: int
    pgbouncer: int
    workers: Sequence[int]
    writers: Sequence[int]


# --- schedules ----------------------------------------------------------------------------------------------------

Scene = Callable[[random.Random, int, float], list[Fault]]
"""Some faults that belong together, for one worker, from an instant on."""


def hiccup(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """The link is frozen for less than L."""
    return [Fault(What.FROZEN_LINK, who, begins, chance.uniform(0.2, 0.8) * LEASE.revocation)]


def frozen(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """For longer than L."""
    return [Fault(What.FROZEN_LINK, who, begins, LEASE.revocation + chance.uniform(0.3, 0.9))]


def long_frozen(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """For longer than G."""
    return [Fault(What.FROZEN_LINK, who, begins, LEASE.outage + chance.uniform(0.3, 0.6))]


def late_then_frozen(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """The last poll before the outage had a late answer: it was received long after its snapshot was taken."""
    slow = chance.uniform(0.9, 1.3)
    outage = LEASE.revocation + 0.5
    return [
        Fault(What.LATE_ANSWERS, who, begins, slow + outage),
        Fault(What.FROZEN_LINK, who, begins + slow, outage),
    ]


def reset(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """The connection breaks, twice."""
    return [Fault(What.RESET_LINK, who, begins + after, 0.0) for after in (0.0, chance.uniform(0.05, 0.3))]


def stopped(chance: random.Random, who: int, begins: float) -> list[Fault]:
    """The worker sleeps, for longer than L half of the times."""
    return [Fault(What.STOPPED_WORKER, who, begins, 2.0 * LEASE.revocation * chance.random())]


SCENES: tuple[Scene, ...] = (hiccup, frozen, long_frozen, late_then_frozen, reset, stopped)


def all_faults(chance: random.Random, workers: int, writers: int) -> list[Fault]:
    """Each worker goes through all scenes in an order of its own; what all of them share is stopped besides."""
    faults = [fault for who in range(workers) for fault in one_after_another(chance, who, SCENES)]
    until = max(fault.begins for fault in faults)
    faults += _stops(chance, What.STOPPED_PGBOUNCER, 0, Stops(2.5, 1.0, until))
    faults += _stops(chance, What.FROZEN_DATABASE, 0, Stops(2.0, 0.8, until))
    for who in range(writers):
        faults += _stops(chance, What.STOPPED_WRITER, who, Stops(1.5, 0.4, until))
    return faults


def each_worker(chance: random.Random, workers: int, scene: Scene) -> list[Fault]:
    """One scene for each worker."""
    return [fault for who in range(workers) for fault in one_after_another(chance, who, (scene,))]


def one_after_another(chance: random.Random, who: int, scenes: Sequence[Scene]) -> list[Fault]:
    """The scenes in a random order, with pauses in which the feed may recover."""
    faults: list[Fault] = []
    now = chance.uniform(0.2, 0.6)
    for scene in chance.sample(scenes, len(scenes)):
        faults += scene(chance, who, now)
        now = max(fault.begins + fault.lasts for fault in faults) + chance.uniform(0.3, 0.7)
    return faults


class Stops(Struct, frozen=True):
    """In seconds: about how long between two stops, how long one lasts at most, and until when they begin."""

    every: float
    longest: float
    until: float


def _stops(chance: random.Random, what: What, who: int, stops: Stops) -> Iterator[Fault]:
    now = chance.uniform(0.2, stops.every)
    while now < stops.until:
        lasts = chance.uniform(0.05, stops.longest)
        yield Fault(what, who, now, lasts)
        now += lasts + chance.uniform(0.5, 1.5) * stops.every


# --- carrying it out ----------------------------------------------------------------------------------------------


def carry_out(faults: Sequence[Fault], victims: Victims) -> None:
    """Makes the faults, each in its time, and returns when all are over."""
    begun = time.monotonic()
    moments = [(fault.begins, True, fault) for fault in faults]
    moments += [(fault.begins + fault.lasts, False, fault) for fault in faults]
    with ExitStack() as everything:
        under_way: dict[Fault, ExitStack] = {}
        for instant, begins, fault in sorted(moments, key=lambda moment: (moment[0], not moment[1])):
            time.sleep(max(0.0, begun + instant - time.monotonic()))
            if begins:
                under_way[fault] = everything.enter_context(ExitStack())
                under_way[fault].enter_context(_made(fault, victims))
            else:
                under_way.pop(fault).close()


def _made(fault: Fault, victims: Victims) -> AbstractContextManager[None]:
    if fault.what is What.LATE_ANSWERS:
        return victims.links[fault.who].slowed(LATE, Way.TO_CLIENT)
    if fault.what is What.FROZEN_LINK:
        return victims.links[fault.who].frozen()
    if fault.what is What.RESET_LINK:
        return _broken(victims.links[fault.who])
    if fault.what is What.STOPPED_WORKER:
        return _stopped(victims.workers[fault.who])
    if fault.what is What.STOPPED_WRITER:
        return _stopped(victims.writers[fault.who])
    if fault.what is What.FROZEN_DATABASE:
        return _frozen(victims.database)
    return _stopped(victims.pgbouncer)


@contextmanager
def _broken(link: FaultProxy) -> Iterator[None]:
    link.reset()
    yield


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _frozen(postmaster: int) -> Iterator[None]:
    with _stopped(postmaster), ExitStack() as backends:  # it first: it must not start more
        for pid in descendants(postmaster)[1:]:
            with suppress(ProcessLookupError):
                backends.enter_context(_stopped(pid))
        yield

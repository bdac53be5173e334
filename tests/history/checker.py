"""Which decisions missed a change that they had to know. Pure: from what writers and workers wrote down to a verdict.

Each question depends on one entity, which one writer changes, version after version. So a decision is right if its
answer is that of a version that was current at some instant between `at - bound` and `at`:

- no older than the last version whose commit was acknowledged before `at - bound`, where `bound` is L while FRESH and
  G otherwise, or the age that the worker stated, if that is less;
- no newer than the last version whose transaction had begun by `at`.

There is no tolerance. All processes read one clock of one machine, an acknowledgement never comes before its commit,
and a decision's instant is the very reading of the clock by which its worker judged the lease: what the kernel does
with the process between that reading and the answer is no decision by an older lease.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from enum import StrEnum

from msgspec import Struct, field

from sluicegate.core.lease import Lease, LeaseState
from tests.history.records import Begun, Decided, Refused, WorkerLine, WriterLine

KEPT = 20
"""Violations that a verdict describes; it counts all."""


class Flaw(StrEnum):
    """What is wrong with a decision."""

    MISSED = "misses a change committed longer ago than its bound"
    YOUNGER = "misses a change committed longer ago than the age that it states"
    UNKNOWN = "agrees with no version that there was"


class Violation(Struct, frozen=True):
    """A wrong decision. `missed` is the version that it had to know and did not, committed `ago` seconds before."""

    flaw: Flaw
    decision: Decided
    missed: int | None
    ago: float

    def __str__(self) -> str:
        made = self.decision
        change = f"version {self.missed}, acknowledged {self.ago:.3f} s before" if self.missed is not None else "none"
        return (
            f"{made.worker} at {made.at:.3f} ({made.state}, age {made.age:.3f}, revision {made.revision}) answered"
            f" {made.question} with `{made.answer}`: {self.flaw} ({change})"
        )


class History:
    """The versions of one entity, in order. Version 0 was there before the run."""

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.begun: list[float] = []
        self.acknowledged: list[float] = []

    def add(self, line: WriterLine) -> None:
        """The writer's next line about the entity; they come in order, and at most one version is on its way."""
        if isinstance(line, Begun):
            assert line.number == len(self.answers) == len(self.acknowledged), f"out of order: {line}"
            self.answers.append(line.answer)
            self.begun.append(line.at)
        else:
            assert line.number == len(self.acknowledged) == len(self.answers) - 1, f"out of order: {line}"
            self.acknowledged.append(line.at)

    def required(self, before: float) -> int:
        """The last version that was acknowledged before the instant."""
        return bisect_left(self.acknowledged, before) - 1

    def possible(self, at: float) -> int:
        """The last version that had begun at the instant."""
        return bisect_right(self.begun, at) - 1

    def shown(self, answer: str, newest: int) -> int | None:
        """The newest version up to `newest` with this answer: in case of doubt, the decision is right."""
        return next((number for number in range(newest, -1, -1) if self.answers[number] == answer), None)

    def staleness(self, shown: int, at: float) -> float:
        """Seconds since the first change after version `shown` was acknowledged; 0 when none was."""
        following = shown + 1
        known = following < len(self.acknowledged)
        return max(0.0, at - self.acknowledged[following]) if known else 0.0


class Verdict(Struct):
    """The sum of a run. Staleness is in seconds, by the state of the lease."""

    changes: int = 0
    decisions: dict[LeaseState, int] = field(default_factory=dict)
    worst: dict[LeaseState, float] = field(default_factory=dict)
    refusals: int = 0
    """Of workers that had decided before: at its beginning a worker has nothing to decide by."""
    flaws: dict[Flaw, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)

    def __str__(self) -> str:
        seen = ", worst staleness " + " ".join(f"{state} {worst:.3f} s" for state, worst in sorted(self.worst.items()))
        counts = " ".join(f"{state} {count}" for state, count in sorted(self.decisions.items()))
        flaws = " ".join(f"{flaw.name.lower()} {count}" for flaw, count in self.flaws.items())
        return (
            f"{self.changes} changes, decisions {counts or 0}, refused {self.refusals}"
            f"{seen if self.worst else ''}, violations {self.found}{flaws and f' ({flaws})'}"
        )

    @property
    def found(self) -> int:
        """Decisions that are wrong."""
        return sum(self.flaws.values())


def histories_of(lines: Iterable[WriterLine]) -> dict[str, History]:
    """The histories of all questions."""
    histories: dict[str, History] = {}
    for line in lines:
        histories.setdefault(line.question, History()).add(line)
    return histories


def check(histories: Mapping[str, History], lines: Iterable[WorkerLine], lease: Lease) -> Verdict:
    """Judges every decision. The workers' lines must have been read before the writers', or changes may seem missing.

    Raises AssertionError for lines that no writer or worker writes.
    """
    verdict = Verdict(changes=sum(len(history.acknowledged) - 1 for history in histories.values()))
    loaded: set[str] = set()
    for line in lines:
        if isinstance(line, Refused):
            verdict.refusals += line.worker in loaded
        else:
            loaded.add(line.worker)
            _judge(line, histories[line.question], lease, verdict)
    return verdict


def _judge(made: Decided, history: History, lease: Lease, verdict: Verdict) -> None:
    assert made.state in (LeaseState.FRESH, LeaseState.OUTAGE), f"nothing may be decided: {made}"
    verdict.decisions[made.state] = verdict.decisions.get(made.state, 0) + 1
    shown = history.shown(made.answer, history.possible(made.at))
    if shown is None:
        _found(Violation(Flaw.UNKNOWN, made, None, 0.0), verdict)
        return
    stale = history.staleness(shown, made.at)
    verdict.worst[made.state] = max(verdict.worst.get(made.state, 0.0), stale)
    bound = lease.revocation if made.state is LeaseState.FRESH else lease.outage
    if shown < history.required(made.at - bound):
        _found(Violation(Flaw.MISSED, made, shown + 1, stale), verdict)
    elif shown < history.required(made.at - made.age):
        _found(Violation(Flaw.YOUNGER, made, shown + 1, stale), verdict)


def _found(violation: Violation, verdict: Verdict) -> None:
    verdict.flaws[violation.flaw] = verdict.flaws.get(violation.flaw, 0) + 1
    if len(verdict.violations) < KEPT:
        verdict.violations.append(violation)

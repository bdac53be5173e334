"""No decision misses a change that was committed more than L ago, or G while in an outage: in separate processes, under
faults, on PostgreSQL behind PgBouncer. And each wrong design is caught at it.
"""

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sluicegate.bootstrap import SystemClock
from sluicegate.core.lease import LeaseState
from tests.history.chaos import all_faults, carry_out
from tests.history.checker import Flaw, Verdict
from tests.history.database import Place
from tests.history.mutants import MUTANTS, SOURCE, Mutant, mutated
from tests.history.plans import LEASE
from tests.history.records import boot_time
from tests.history.stage import Stage, Terms, stage

pytestmark = pytest.mark.timeout(300)  # a run takes seconds, but not on a machine that is busy with other things

Report = Callable[[str], None]
SEED = 3
SOAK = 240.0
"""Seconds of the long run."""
HUNT = 40.0
"""Seconds in which a mutant must be caught. It takes two or three on an idle machine."""
ACT = 1.5
"""Seconds between two looks at the verdict, at least."""


def test_no_decision_misses_a_change_for_longer_than_its_lease_allows(where: Place, tmp_path: Path, report: Report):
    terms = Terms(SOURCE.parent, "", SEED, workers=3)
    with stage(where, terms, tmp_path) as run:
        run.begin()
        carry_out(all_faults(random.Random(SEED), terms.workers, terms.writers), run.victims)
        run.recover()
        verdict = run.verdict()
    report(f"the design: {verdict}")
    must_be_right(verdict)


def test_a_run_goes_by_the_clock_of_the_gateway():
    before, gateway, after = boot_time(), SystemClock().boot(), boot_time()
    assert before <= gateway <= after


@pytest.mark.soak
@pytest.mark.timeout(SOAK + 300)
def test_no_decision_misses_a_change_in_a_long_run(where: Place, tmp_path: Path, report: Report):
    terms = Terms(SOURCE.parent, "", time.time_ns() % 1000, workers=3)
    chance, end = random.Random(terms.seed), time.monotonic() + SOAK
    with stage(where, terms, tmp_path) as run:
        run.begin()
        while time.monotonic() < end:
            carry_out(all_faults(chance, terms.workers, terms.writers), run.victims)
        run.recover()
        verdict = run.verdict()
    report(f"the design for {SOAK:g} s, seed {terms.seed}: {verdict}")
    must_be_right(verdict)


@pytest.fixture(scope="module")
def hunts(where: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Verdict]]]:
    """All at once, as most of the time they wait."""
    with ThreadPoolExecutor(len(MUTANTS)) as pool:
        yield {mutant.name: pool.submit(hunted, mutant, where, tmp_path_factory.mktemp("hunt")) for mutant in MUTANTS}


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_wrong_design_is_caught(hunts: dict[str, Future[Verdict]], report: Report, name: str):
    verdict = hunts[name].result()
    report(f"wrong: {name}: {verdict}")
    assert verdict.flaws.get(Flaw.MISSED), f"not caught within {HUNT:g} s: {verdict}"


def must_be_right(verdict: Verdict) -> None:
    """No violation, in a run that had all that a violation needs."""
    assert not verdict.violations, "\n".join(map(str, verdict.violations))
    assert verdict.changes > 50
    assert verdict.decisions[LeaseState.FRESH] > 1000
    assert verdict.decisions[LeaseState.OUTAGE] > 100
    assert verdict.worst[LeaseState.OUTAGE] > LEASE.revocation, "no outage was longer than L"
    assert verdict.refusals > 0, "no outage was longer than G"


def hunted(mutant: Mutant, where: Place, folder: Path) -> Verdict:
    """The verdict on a mutant, after as many acts as it takes to catch it."""
    (folder / "mutant").mkdir()
    terms = Terms(mutated(mutant, folder / "mutant"), mutant.sql, SEED, workers=1)
    chance, end = random.Random(SEED), time.monotonic() + HUNT
    with stage(where, terms, folder) as run:
        run.begin()
        while not (verdict := act(run, mutant, chance)).flaws.get(Flaw.MISSED) and time.monotonic() < end:
            pass
    return verdict


def act(run: Stage, mutant: Mutant, chance: random.Random) -> Verdict:
    """Some faults, and what the checker says afterwards."""
    begun = time.monotonic()
    carry_out(mutant.faults(chance, len(run.victims.workers)), run.victims)
    time.sleep(max(0.0, begun + ACT - time.monotonic()))
    return run.verdict()

"""The checker finds what is wrong and nothing else, on histories that are made by hand. L is 1 s, G is 10 s."""

import pytest

from sluicegate.core.lease import Lease, LeaseState
from tests.history.checker import Flaw, Verdict, check, histories_of
from tests.history.records import Acknowledged, Begun, Decided, Refused, WorkerLine, WriterLine

LEASE = Lease(revocation=1.0, outage=10.0)
FRESH, OUTAGE = LeaseState.FRESH, LeaseState.OUTAGE


def version(number: int, answer: str, *, begun: float, acknowledged: float | None) -> list[WriterLine]:
    lines: list[WriterLine] = [Begun("door", number, answer, begun)]
    return lines if acknowledged is None else [*lines, Acknowledged("door", number, acknowledged)]


OPEN_THEN_SHUT = [
    *version(0, "open", begun=0.0, acknowledged=0.0),
    *version(1, "shut", begun=100.0, acknowledged=100.1),
]
"""The change is committed at an instant between 100.0 and 100.1."""


def judged(history: list[WriterLine], answer: str, at: float, state: LeaseState, age: float | None = None) -> Verdict:
    """The verdict about one decision, of a directory that is as old as its state allows unless told otherwise."""
    oldest = LEASE.revocation if state is FRESH else LEASE.outage
    decision = Decided("worker", at, state, "door", answer, 1, oldest if age is None else age)
    return check(histories_of(history), [decision], LEASE)


@pytest.mark.parametrize("at", [50.0, 100.05, 101.1])
def test_the_old_answer_is_right_until_the_bound_has_passed_since_the_acknowledgement(at: float):
    assert judged(OPEN_THEN_SHUT, "open", at, FRESH).found == 0


def test_the_old_answer_is_wrong_as_soon_as_the_bound_has_passed():
    verdict = judged(OPEN_THEN_SHUT, "open", 101.2, FRESH)
    assert verdict.flaws == {Flaw.MISSED: 1}
    assert verdict.violations[0].missed == 1
    assert verdict.violations[0].ago == pytest.approx(1.1)


def test_in_an_outage_the_longer_bound_counts():
    assert judged(OPEN_THEN_SHUT, "open", 110.0, OUTAGE).found == 0
    assert judged(OPEN_THEN_SHUT, "open", 110.2, OUTAGE).flaws == {Flaw.MISSED: 1}


def test_a_decision_that_states_a_smaller_age_than_its_directory_has_is_wrong_within_the_bound():
    assert judged(OPEN_THEN_SHUT, "open", 100.6, FRESH, age=0.6).found == 0
    assert judged(OPEN_THEN_SHUT, "open", 100.6, FRESH, age=0.4).flaws == {Flaw.YOUNGER: 1}


def test_the_new_answer_is_right_from_the_beginning_of_its_transaction_on():
    assert judged(OPEN_THEN_SHUT, "shut", 100.0, FRESH).found == 0
    assert judged(OPEN_THEN_SHUT, "shut", 99.9, FRESH).flaws == {Flaw.UNKNOWN: 1}


def test_an_answer_that_no_version_gives_is_wrong():
    assert judged(OPEN_THEN_SHUT, "ajar", 100.0, FRESH).flaws == {Flaw.UNKNOWN: 1}


def test_a_change_that_was_never_acknowledged_may_be_seen_and_may_be_missed():
    history = [*OPEN_THEN_SHUT, *version(2, "ajar", begun=200.0, acknowledged=None)]
    assert judged(history, "shut", 300.0, FRESH).found == 0
    assert judged(history, "ajar", 300.0, FRESH).found == 0
    assert judged(history, "open", 300.0, FRESH).flaws == {Flaw.MISSED: 1}


def test_an_answer_that_comes_back_is_taken_for_its_newest_version():
    history = [*OPEN_THEN_SHUT, *version(2, "open", begun=200.0, acknowledged=200.1)]
    assert judged(history, "open", 150.0, FRESH).violations[0].missed == 1
    assert judged(history, "open", 200.05, FRESH).found == 0
    assert judged(history, "open", 300.0, FRESH).found == 0
    assert judged(history, "shut", 201.0, FRESH).found == 0
    assert judged(history, "shut", 201.2, FRESH).violations[0].missed == 2


def test_a_change_that_was_overtaken_is_named_with_its_own_age():
    history = [*OPEN_THEN_SHUT, *version(2, "ajar", begun=200.0, acknowledged=200.1)]
    violation = judged(history, "open", 200.5, FRESH).violations[0]
    assert (violation.missed, round(violation.ago, 3)) == (1, 100.4)
    assert "version 1, acknowledged 100.400 s before" in str(violation)


def test_the_sum_of_a_run_is_kept_also_of_decisions_that_are_right():
    lines: list[WorkerLine] = [
        Refused("worker", 100.4),
        Decided("worker", 100.5, FRESH, "door", "open", 1, 1.0),
        Decided("worker", 100.9, FRESH, "door", "shut", 2, 1.0),
        Decided("worker", 105.1, OUTAGE, "door", "open", 1, 6.0),
        Refused("worker", 112.0),
    ]
    verdict = check(histories_of(OPEN_THEN_SHUT), lines, LEASE)
    assert {state: round(worst, 3) for state, worst in verdict.worst.items()} == {FRESH: 0.4, OUTAGE: 5.0}
    assert (verdict.changes, verdict.decisions, verdict.refusals) == (1, {FRESH: 2, OUTAGE: 1}, 1)
    assert str(verdict) == (
        "1 changes, decisions fresh 2 outage 1, refused 1, worst staleness fresh 0.400 s outage 5.000 s, violations 0"
    )


def test_a_history_out_of_order_is_refused():
    with pytest.raises(AssertionError, match="out of order"):
        histories_of([OPEN_THEN_SHUT[0], OPEN_THEN_SHUT[2]])


def test_a_worker_that_decides_without_a_lease_that_allows_it_is_refused():
    with pytest.raises(AssertionError, match="nothing may be decided"):
        judged(OPEN_THEN_SHUT, "open", 100.0, LeaseState.CLOSED, age=0.0)

"""Schedules hold what they promise."""

import random
from itertools import combinations

import pytest

from tests.history.chaos import Fault, What, all_faults
from tests.history.plans import LEASE


@pytest.mark.parametrize("seed", range(20))
def test_each_worker_has_each_kind_of_fault_and_one_outage_is_longer_than_g(seed: int):
    faults = all_faults(random.Random(seed), 3, 3)
    assert {fault.what for fault in faults} == set(What)
    for who in range(3):
        own = [fault for fault in faults if fault.who == who]
        assert {What.LATE_ANSWERS, What.FROZEN_LINK, What.RESET_LINK, What.STOPPED_WORKER} <= {
            each.what for each in own
        }
        assert any(each.lasts > LEASE.outage for each in own if each.what is What.FROZEN_LINK)


@pytest.mark.parametrize("seed", range(20))
def test_a_fault_is_over_before_the_same_one_hits_the_same_victim_again(seed: int):
    def overlap(one: Fault, other: Fault) -> bool:
        return max(one.begins, other.begins) < min(one.begins + one.lasts, other.begins + other.lasts)

    faults = all_faults(random.Random(seed), 3, 3)
    same = [pair for pair in combinations(faults, 2) if pair[0].what is pair[1].what and pair[0].who == pair[1].who]
    assert not any(overlap(*pair) for pair in same)


def test_the_same_seed_makes_the_same_schedule():
    assert all_faults(random.Random(7), 3, 3) == all_faults(random.Random(7), 3, 3)

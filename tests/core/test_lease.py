"""The four states of the lease, from two instants."""

import pytest

from sluicegate.core.lease import Lease, LeaseState

LEASE = Lease(revocation=2.0, outage=300.0)


@pytest.mark.parametrize(
    ("age", "failing", "state"),
    [
        (0.0, False, LeaseState.FRESH),
        (2.0, True, LeaseState.FRESH),
        (2.001, False, LeaseState.LATE),
        (2.001, True, LeaseState.OUTAGE),
        (300.0, True, LeaseState.OUTAGE),
        (300.001, True, LeaseState.CLOSED),
        (9999.0, False, LeaseState.LATE),
    ],
)
def test_the_state_follows_from_the_age_and_whether_polling_fails(age, failing, state):
    assert LEASE.state(1000.0, failing, 1000.0 + age) is state


def test_without_a_confirmation_nothing_may_be_decided():
    assert LEASE.state(None, False, 5.0) is LeaseState.CLOSED


def test_with_an_outage_bound_of_zero_an_outage_closes_at_once():
    assert Lease(revocation=2.0, outage=0.0).state(0.0, True, 2.1) is LeaseState.CLOSED

"""The connection ledger by itself."""

import asyncio
from contextvars import copy_context

import pytest
from prometheus_client import REGISTRY

from sluicegate.ledger import LedgerViolation, Owner, checkout, data_plane, refuse_if_holding
from tests.store.writing import checked_out, checkouts


def test_a_checkout_is_counted_while_it_lasts() -> None:
    before = checkouts("admin")
    with checkout(Owner.ADMIN):
        assert (checkouts("admin"), checked_out("admin")) == (before + 1, 1)
    assert (checkouts("admin"), checked_out("admin")) == (before + 1, 0)


def test_a_checkout_is_given_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), checkout(Owner.ADMIN):
        raise ZeroDivisionError
    assert checked_out("admin") == 0
    refuse_if_holding()


def test_the_second_checkout_is_refused_and_the_first_goes_on() -> None:
    with checkout(Owner.FEED):
        with pytest.raises(LedgerViolation, match="held for `feed`"):
            checkout(Owner.ADMIN)
        assert checked_out("feed") == 1


def test_a_checkout_is_refused_when_it_is_asked_for_not_when_it_is_used() -> None:
    with data_plane(), pytest.raises(LedgerViolation):
        checkout(Owner.ADMIN)


def test_a_checkout_in_a_copied_context_is_not_one_in_the_original() -> None:
    entered = checkout(Owner.ADMIN)
    copy = copy_context()
    copy.run(entered.__enter__)
    refuse_if_holding()
    with pytest.raises(LedgerViolation):
        copy.run(refuse_if_holding)
    copy.run(entered.__exit__, None, None, None)


async def test_the_mark_of_a_request_ends_with_it_and_does_not_reach_its_neighbours() -> None:
    async def neighbour() -> None:
        with checkout(Owner.ADMIN):
            await asyncio.sleep(0)

    other = asyncio.ensure_future(neighbour())
    with data_plane():
        await other
    with checkout(Owner.ADMIN):
        pass


async def test_a_task_that_a_request_starts_is_the_request() -> None:
    async def child() -> None:
        checkout(Owner.ADMIN)

    with data_plane(), pytest.raises(LedgerViolation):
        await asyncio.ensure_future(child())


def test_a_request_counts_as_zero_before_it_does_wrong() -> None:
    assert REGISTRY.get_sample_value("db_checkouts_total", {"owner": "request"}) is not None
    assert REGISTRY.get_sample_value("db_checked_out", {"owner": "request"}) == 0


def test_the_time_of_a_checkout_is_measured() -> None:
    before = REGISTRY.get_sample_value("db_checkout_seconds_count") or 0
    with checkout(Owner.ADMIN):
        pass
    assert REGISTRY.get_sample_value("db_checkout_seconds_count") == before + 1

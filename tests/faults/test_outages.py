"""The database is away, in each of the ways in which it can be: faults 1 to 7 of the list.

Both instances are asked all the time. Each outage is lived through once, until the strict instance has stopped deciding
and a little longer; the tests look at what was answered.
"""

import time
from operator import methodcaller

import pytest

from tests.e2e.running import wait_until
from tests.faults.outage import Fault, Outage, lived_through
from tests.faults.site import PATIENCE, STRICT_G, L, Site
from tests.faults.traffic import DATA_PLANE, Sort, failures
from tests.faults.vitals import MORE_THREADS, leaves_nothing_behind

LATE_WAIT = 0.25
"""Seconds that a request waits for the database at most."""
MOST = 0.9
"""The share of the requests for which that can be shown on a busy machine."""
HANGS = 2.0
"""Seconds that none takes: what waits for a frozen database waits for longer."""
RECOVERED_WITHIN = 3.0
"""Seconds after the return until all is fresh: 1 as promised, and a busy machine."""
CLOSED_FOR = 0.5
"""Seconds that the outage goes on after the strict instance has stopped deciding."""
ENOUGH = 10
"""Answers of each sort in an outage; there are some sixty."""
CLOCKS = 0.1
"""Seconds between an instant of a test and what it stands for."""

OUTAGES: dict[str, Fault] = {
    "postgresql-stopped": lambda site: site.cluster.stopped(),
    "postgresql-frozen": lambda site: site.cluster.frozen(),
    "pgbouncer-frozen": lambda site: site.bouncer.frozen(),
    "pgbouncer-paused": methodcaller("paused"),
    "pgbouncer-killed": lambda site: site.bouncer.away(),
    "pool-used-up-by-another-application": methodcaller("pool_used_up"),
    "connections-exhausted": methodcaller("connections_exhausted"),
}


@pytest.fixture(scope="module", params=OUTAGES)
def outage(request: pytest.FixtureRequest, site: Site) -> Outage:
    def until_the_strict_one_has_refused() -> None:
        wait_until(lambda: site.strict.authorization() == "closed", PATIENCE, "the strict instance is closed")
        time.sleep(CLOSED_FOR)

    return lived_through(site, OUTAGES[request.param], until_the_strict_one_has_refused)


def test_tool_calls_lists_and_reads_go_on(outage: Outage) -> None:
    lasting = outage.site.lasting
    assert outage.state_at_its_end["lasting"] == "outage"
    assert not failures(outage.seen(lasting, *DATA_PLANE))
    for sort in DATA_PLANE:
        assert len(outage.meanwhile(lasting, sort)) >= ENOUGH


def test_no_request_waits_for_the_database(outage: Outage) -> None:
    for instance in outage.site.instances:
        took = sorted(each.took for each in outage.meanwhile(instance, *DATA_PLANE))
        print(f"{instance.name}: of {len(took)} requests half took {took[len(took) // 2]:.3f} s, all {took[-1]:.3f} s")
        assert took[int(MOST * len(took))] < LATE_WAIT
        assert took[-1] < HANGS


def test_each_answer_says_how_old_the_directory_is(outage: Outage) -> None:
    """None is younger than the outage: the last confirmation came before it."""
    answers = outage.meanwhile(outage.site.lasting, *DATA_PLANE)
    assert max(each.confirmed_after for each in answers) <= outage.began + CLOCKS
    assert max(each.age or 0 for each in answers) > L


def test_changes_are_refused_with_503_and_it_says_when_to_try_again(outage: Outage) -> None:
    """At first it is not known yet that the database is away; what is sent then may still happen when it returns."""
    answers = [each for each in outage.meanwhile(outage.site.lasting, Sort.WRITE) if each.done < outage.ended]
    answers += outage.writes_at_its_end.values()
    for each in answers:
        assert (each.status, each.code) in [(503, "authz_stale"), (503, "database_unavailable")]
        assert int(each.retry_after) >= 1
    assert {each.code for each in outage.writes_at_its_end.values()} == {"authz_stale"}


def test_the_strict_instance_decides_until_its_bound_and_not_after_it(outage: Outage) -> None:
    decided = [each for each in outage.meanwhile(outage.site.strict, *DATA_PLANE) if each.well]
    assert max(each.sent for each in decided) <= outage.began + STRICT_G + CLOCKS
    assert max(each.done for each in decided) >= outage.began + L - CLOCKS, "it went on for as long as it may"


def test_the_strict_instance_refuses_with_authz_stale_and_never_with_401(outage: Outage) -> None:
    refused = [each for each in outage.seen(outage.site.strict, *DATA_PLANE) if not each.well]
    assert {each.sort for each in refused} == set(DATA_PLANE)
    assert {(each.status, each.code) for each in refused} == {(503, "authz_stale")}
    assert all(int(each.retry_after) >= 1 for each in refused)
    assert outage.state_at_its_end["strict"] == "closed"


def test_all_is_well_soon_after_the_return(outage: Outage) -> None:
    assert outage.recovered - outage.ended < RECOVERED_WITHIN
    for instance in outage.site.instances:
        after = outage.answers[instance.name].seen(since=outage.recovered)
        assert after
        assert not failures(after)


def test_nothing_has_grown_and_nothing_is_left_behind(outage: Outage) -> None:
    for instance in outage.site.instances:
        before, at_its_end = outage.before[instance.name], outage.at_its_end[instance.name]
        assert at_its_end.threads - before.threads <= MORE_THREADS
        leaves_nothing_behind(instance, before)

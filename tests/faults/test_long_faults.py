"""The same faults for as long as the list says: `make soak`."""

import threading
from operator import methodcaller

import pytest

from tests.e2e.running import wait_until
from tests.faults.outage import Fault, lived_through
from tests.faults.site import LASTING_G, PATIENCE, Site
from tests.faults.traffic import DATA_PLANE, failures, last_well, traffic
from tests.faults.victim import CLOCKS
from tests.faults.vitals import leaves_nothing_behind, nothing_left_behind

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
FREEZE = 30.0
TERMINATIONS = 60
BEYOND_G = 20.0
FREEZES: dict[str, Fault] = {
    "postgresql": lambda site: site.cluster.frozen(),
    "pgbouncer": lambda site: site.bouncer.frozen(),
    "pgbouncer-paused": methodcaller("paused"),
    "links": lambda site: site.on_each_link(lambda link: link.frozen()),
}


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def test_calls_go_on_for_five_minutes_without_postgresql_and_not_for_longer(site: Site) -> None:
    outage = lived_through(
        site, lambda site: site.cluster.stopped(), lambda: wait(LASTING_G + BEYOND_G), at_most=2 * LASTING_G
    )
    answers = outage.meanwhile(site.lasting, *DATA_PLANE)
    last = last_well(answers) - outage.began
    assert LASTING_G - BEYOND_G < last <= LASTING_G + CLOCKS
    assert not failures([each for each in answers if each.done < outage.began + LASTING_G - BEYOND_G])
    assert {(each.status, each.code) for each in answers if not each.well} == {(503, "authz_stale")}
    assert not failures(outage.answers["lasting"].seen(since=outage.recovered))
    for instance in site.instances:
        leaves_nothing_behind(instance, outage.before[instance.name])


@pytest.mark.parametrize("name", FREEZES)
def test_a_freeze_of_half_a_minute_is_not_noticed_by_callers(site: Site, name: str) -> None:
    outage = lived_through(site, FREEZES[name], lambda: wait(FREEZE))
    assert not failures(outage.seen(site.lasting, *DATA_PLANE))
    for instance in site.instances:
        leaves_nothing_behind(instance, outage.before[instance.name])


def test_a_minute_of_terminations_is_not_noticed_by_callers(site: Site) -> None:
    with nothing_left_behind(site), traffic() as answers:
        for instance in site.instances:
            answers.everything(instance.url, site.tokens.alice, site.tokens.root)
        with site.terminating(every=1.0) as rounds:
            wait_until(lambda: rounds.done >= TERMINATIONS, TERMINATIONS + PATIENCE, "all were terminated for a minute")
    assert not failures(answers.seen(*DATA_PLANE))

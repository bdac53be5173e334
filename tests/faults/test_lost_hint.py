"""What wakes the feed sooner is lost, silently or not: fault 13 of the list. It is a hint: the bound stays."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.e2e.running import wait_until
from tests.faults.site import PATIENCE, L, Site
from tests.faults.traffic import last_well
from tests.faults.victim import CLOCKS, Victim, decided_rightly
from tests.faults.vitals import nothing_left_behind
from tests.support.fault_proxy import FaultProxy

LOSSES: dict[str, Callable[[FaultProxy], AbstractContextManager[None]]] = {
    "silently": FaultProxy.frozen,
    "with-its-connections": FaultProxy.away,
}


def all_listen(site: Site) -> bool:
    return site.hint.open == len(site.instances)


def test_all_instances_listen_past_pgbouncer(site: Site) -> None:
    """Or nothing would be lost below."""
    wait_until(lambda: all_listen(site), PATIENCE, "each instance listens")


@pytest.mark.parametrize("how", LOSSES)
def test_a_revocation_is_effective_within_the_bound_when_nothing_wakes_the_feed(site: Site, how: str) -> None:
    with nothing_left_behind(site), ExitStack() as using:
        victim = Victim(site, using)
        with LOSSES[how](site.hint):
            victim.revoked()
            wait_until(victim.is_refused_everywhere, PATIENCE, "it is refused everywhere")
        wait_until(lambda: all_listen(site), PATIENCE, "each instance listens again")
    for instance in site.instances:
        answers = victim.answers[instance.name].seen()
        decided_rightly(victim, answers, instance.trust)
        assert last_well(answers) <= victim.committed + L + CLOCKS

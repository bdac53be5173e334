"""The database is there, but connections to it break or are slow all the time: faults 8 and 12 of the list."""

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.e2e.running import wait_until
from tests.faults.site import PATIENCE, Rounds, Site
from tests.faults.traffic import DATA_PLANE, Sort, failures, traffic
from tests.faults.victim import Victim, decided_rightly
from tests.faults.vitals import nothing_left_behind
from tests.support.fault_proxy import Delay, Way

ROUNDS = 4
"""How often each fault strikes."""
JITTER = Delay(0.0, 2.0, share=0.3)
BREAKS: dict[str, Callable[[Site], AbstractContextManager[Rounds]]] = {
    "all-terminated-each-second": lambda site: site.terminating(every=1.0),
    "links-reset-twice-a-second": lambda site: site.resetting(every=0.5),
}


@pytest.mark.parametrize("name", BREAKS)
def test_no_request_fails_however_often_connections_break(site: Site, name: str) -> None:
    with nothing_left_behind(site), traffic() as answers:
        for instance in site.instances:
            answers.everything(instance.url, site.tokens.alice, site.tokens.root)
        with BREAKS[name](site) as rounds:
            wait_until(lambda: rounds.done >= ROUNDS, PATIENCE, "it struck as often as it should")
    assert not failures(answers.seen(*DATA_PLANE))
    changes = answers.seen(Sort.WRITE)
    assert any(each.well for each in changes)
    refused = {(each.status, each.code) for each in changes if not each.well}
    assert refused <= {(503, "database_unavailable"), (503, "authz_stale")}


def test_a_jittery_line_may_delay_but_never_falsifies_a_decision(site: Site) -> None:
    """Answers come late, one way more than the other, while two tokens are revoked behind the instances' backs."""
    with nothing_left_behind(site), ExitStack() as using:
        good = {each.name: using.enter_context(traffic()) for each in site.instances}
        for instance in site.instances:
            good[instance.name].calling(instance.url, site.tokens.alice)
            good[instance.name].reading(instance.url, site.tokens.root)
        victims = [Victim(site, using) for _ in range(2)]
        with site.on_each_link(lambda link: link.slowed(JITTER)), site.stuttering(Way.TO_CLIENT, 0.4, 0.8) as rounds:
            for victim in victims:
                victim.revoked()
            wait_until(lambda: rounds.done >= ROUNDS, PATIENCE, "it struck as often as it should")
        wait_until(lambda: all(each.is_refused_everywhere() for each in victims), PATIENCE, "the victims are refused")
    for victim in victims:
        for instance in site.instances:
            decided_rightly(victim, victim.answers[instance.name].seen(), instance.trust)
    assert not failures(good["lasting"].seen())
    assert {(each.status, each.code) for each in good["strict"].seen() if not each.well} <= {(503, "authz_stale")}

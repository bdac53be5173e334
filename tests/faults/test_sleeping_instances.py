"""An instance stands still for longer than it may decide, and the world has changed when it wakes up: faults 17, 21."""

import time
from contextlib import ExitStack
from threading import Event

import pytest
from msgspec import structs

from sluicegate.core.catalog import Team, Token
from sluicegate.core.identity import TeamId
from sluicegate.ports import Transaction
from tests.e2e.running import claims_of, http, wait_until
from tests.e2e.wire import sent
from tests.faults.directly import revision_of, trimmed_to, url_of
from tests.faults.site import PATIENCE, L, Site
from tests.faults.sleeping import asleep, call_of
from tests.faults.traffic import DATA_PLANE, Sort, failures, last_well, traffic
from tests.faults.victim import Victim
from tests.faults.vitals import nothing_left_behind
from tests.store.writing import inserting

AT_ONCE = 8
"""Requests that wait for the instance to wake up, each on a connection of its own."""
LONGER = 0.3
SUSPENDED = 60.0
"""Seconds of a soak."""
KEPT, LOST, NEW = (
    Team(TeamId(f"team_{slug}"), slug, slug, True) for slug in ("kept-asleep", "lost-asleep", "new-asleep")
)


def sleeps_through_a_revocation(site: Site, seconds: float) -> None:
    """All instances sleep; requests that came while they did are the first that they decide."""
    with nothing_left_behind(site), ExitStack() as using:
        victim = Victim(site, using)
        calls = [call_of(victim.token), call_of(site.tokens.alice)] * AT_ONCE
        wait_until(lambda: all(victim.answers[each.name].seen() for each in site.instances), PATIENCE, "it is used")
        with asleep(*(each.worker for each in site.instances)):
            slept = time.monotonic()
            victim.revoked()
            Event().wait(seconds)
            waiting = {
                each.name: [using.enter_context(sent(each.gateway.port, call)) for call in calls]
                for each in site.instances
            }
        answers = {name: [answer() for answer in waiting[name]] for name in waiting}
        wait_until(victim.is_refused_everywhere, PATIENCE, "it is refused everywhere")
    for instance in site.instances:
        assert last_well(victim.answers[instance.name].seen()) <= slept
        of_victim, of_alice = answers[instance.name][::2], answers[instance.name][1::2]
        assert {(each.status, each.code) for each in of_victim} == {(401, "token_revoked")}
        assert {each.status for each in of_alice} == {200}
        assert all("result" in each.json for each in of_alice)


def test_who_slept_for_longer_than_the_bound_polls_before_it_decides(site: Site) -> None:
    sleeps_through_a_revocation(site, L + LONGER)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_who_was_suspended_for_a_minute_polls_before_it_decides(site: Site) -> None:
    """The strict instance sleeps for far longer than it may go on; so do all sockets that it has."""
    sleeps_through_a_revocation(site, SUSPENDED)


def test_who_slept_below_the_floor_of_a_trimmed_log_misses_nothing(site: Site) -> None:
    token = site.lasting.gateway.issue(site.tokens.root, "alice@example.com")
    before = revision_of(url_of(site), inserting(KEPT, LOST))
    with nothing_left_behind(site), traffic() as answers, ExitStack() as using:
        wait_until(lambda: site.strict.metric("authz_revision") >= before, PATIENCE, "it knows both teams")
        answers.everything(site.lasting.url, site.tokens.alice, site.tokens.root)
        with asleep(site.strict.worker):
            slept_through = revision_of(url_of(site), lambda transaction: change(transaction, claims_of(token)["jti"]))
            wait_until(lambda: trimmed_to(url_of(site)) > slept_through, PATIENCE, "the log does not tell of it")
            Event().wait(L + LONGER)
            waiting = [using.enter_context(sent(site.strict.gateway.port, call_of(token))) for _ in range(AT_ONCE)]
        codes = {answer().code for answer in waiting}
        wait_until(lambda: site.strict.metric("authz_revision") > slept_through, PATIENCE, "it has caught up")
        assert [status_of(site, team) for team in (KEPT, LOST, NEW)] == [200, 404, 200]
    assert codes == {"token_revoked"}
    assert not failures(answers.seen(*DATA_PLANE)), "who was awake minds nothing"
    assert any(each.well for each in answers.seen(Sort.WRITE))


def change(transaction: Transaction, token_id: str) -> None:
    """What it sleeps through."""
    token = transaction.get(Token, token_id)
    assert token is not None
    transaction.update(structs.replace(token, revoked_at=int(time.time())))
    transaction.delete(LOST)
    transaction.insert(NEW)


def status_of(site: Site, team: Team) -> int:
    with http(site.tokens.root) as admin:
        return admin.get(f"{site.strict.url}/v1/teams/{team.slug}").status_code

"""The database tells another history than before, or one that cannot be read: faults 18 and 20 of the list.

Which test shows what the list promises, for the faults 9, 10 and 16 to 25:

    9   test_failover.py
    10  tests/store/test_replica.py
    16  test_floods.py
    17  test_sleeping_instances.py; tests/store/test_trimming.py
    18  here; tests/store/test_following.py and test_revision_log.py on each database
    19  tests/store/test_upgrade.py; tests/store/test_by_hand.py: kinds that no version knows, old ones included
    20  here; test_restored_file.py; tests/usecases/test_same_history.py
    21  test_sleeping_instances.py; tests/e2e/test_revocation.py with two workers on SQLite
    22  test_clocks.py; tests/test_watchdog.py: the alarm
    23  test_clocks.py; tests/test_watchdog.py: the stack; tests/usecases/test_follow_feed.py: late waits for the poll
    24  test_disconnects.py; tests/e2e/test_streams.py
    25  tests/e2e/test_three_gateways.py
"""

from contextlib import ExitStack

import pytest

from sluicegate.core.catalog import Team
from sluicegate.core.identity import TeamId
from tests.e2e.running import claims_of, http, wait_until
from tests.faults.directly import revision_of, url_of
from tests.faults.restoring import backup_of
from tests.faults.site import PATIENCE, Instance, Site
from tests.faults.traffic import DATA_PLANE, failures, traffic
from tests.faults.victim import Victim
from tests.faults.vitals import nothing_left_behind
from tests.store.conftest import run
from tests.store.writing import inserting

DIVERGED = 'authz_alarms_total{kind="diverged"}'
NEXT = "UPDATE authz_head SET rev = rev + 1"
MANY = 100
"""Changes: more than anybody makes between the backup and its return."""


def logged(kind: str, payload: str) -> str:
    return f"INSERT INTO authz_log (rev, kind, key, payload) SELECT rev, '{kind}', 'x', {payload} FROM authz_head"


UNREADABLE = {"of-an-unknown-kind": logged("planet", "NULL"), "malformed": logged("token", "'{\"id\":1}'")}


@pytest.mark.parametrize("row", UNREADABLE)
def test_a_change_that_the_log_states_unreadably_is_effective_within_the_bound(site: Site, row: str) -> None:
    """Everything is loaded anew, nothing is skipped, and nobody else notices."""
    alarms = {each.name: each.metric(DIVERGED) for each in site.instances}
    with nothing_left_behind(site), traffic() as others, ExitStack() as using:
        victim = Victim(site, using)
        for instance in site.instances:
            others.everything(instance.url, site.tokens.alice, site.tokens.root)
        wait_until(lambda: all(victim.answers[each.name].seen() for each in site.instances), PATIENCE, "it is used")
        revoked = f"UPDATE tokens SET revoked_at = 1 WHERE id = '{claims_of(victim.token)['jti']}'"
        run(url_of(site), NEXT, revoked, UNREADABLE[row])
        wait_until(victim.is_refused_everywhere, PATIENCE, "it is refused everywhere")
    assert not failures(others.seen(*DATA_PLANE))
    for instance in site.instances:
        assert instance.metric(DIVERGED) > alarms[instance.name]


def test_a_state_that_stays_unreadable_is_503_for_everybody_until_it_is_mended(site: Site) -> None:
    with nothing_left_behind(site), traffic() as answers:
        for instance in site.instances:
            answers.everything(instance.url, site.tokens.alice, site.tokens.root)
        run(url_of(site), NEXT, "UPDATE memberships SET role = role || '?'", logged("membership", "'{}'"))
        wait_until(lambda: {each.authorization() for each in site.instances} == {"closed"}, PATIENCE, "all are closed")
        wait_until(lambda: refuses(site.lasting, site), PATIENCE, "it is said so")
        run(url_of(site), "UPDATE memberships SET role = replace(role, '?', '')")
        wait_until(site.is_calm, PATIENCE, "all is well when it is mended")
    refused = [each for each in answers.seen(*DATA_PLANE) if not each.well]
    assert {(each.status, each.code) for each in refused} == {(503, "authz_stale")}


def refuses(instance: Instance, site: Site) -> bool:
    with http(site.tokens.root) as admin:
        return admin.get(f"{instance.url}/v1/upstreams/clock").status_code == 503


@pytest.mark.parametrize("overtaken", [False, True], ids=["as-it-was", "overtaken-by-newer-changes"])
def test_a_backup_that_was_put_back_is_loaded_whole_by_everybody(site: Site, overtaken: bool) -> None:
    """What was changed since is as it was, what is changed afterwards is followed, however the revisions compare."""
    alarms = {each.name: each.metric(DIVERGED) for each in site.instances}
    token = site.lasting.gateway.issue(site.tokens.root, "alice@example.com")
    lost, new = (team(f"{name}-{overtaken:d}") for name in ("lost", "new"))
    with nothing_left_behind(site), backup_of(site) as backup, traffic() as answers, http(site.tokens.root) as admin:
        answers.everything(site.lasting.url, site.tokens.alice, site.tokens.root)
        admin.post(f"{site.lasting.url}/v1/tokens/{claims_of(token)['jti']}/revoke").raise_for_status()
        stood_at = revision_of(url_of(site), inserting(lost))
        for instance in site.instances:
            wait_until(lambda: has_seen(instance, stood_at), PATIENCE, "all have followed so far")  # noqa: B023 - here
        with ExitStack() as cut_off:
            if overtaken:
                cut_off.enter_context(site.on_each_link(lambda link: link.frozen()))
            backup.take_its_place()
            many = [new, *(team(f"{new.slug}-{number}") for number in range(MANY if overtaken else 0))]
            stands_at = revision_of(url_of(site), inserting(*many))
            assert (stands_at > stood_at) is overtaken
        wait_until(site.is_calm, PATIENCE, "all is well afterwards")
        wait_until(
            lambda: all(admin.get(f"{each.url}/v1/teams/{new.slug}").status_code == 200 for each in site.instances),
            PATIENCE,
            "all follow the new history",
        )
        for instance in site.instances:
            assert admin.get(f"{instance.url}/v1/teams/{lost.slug}").status_code == 404
            with http(token) as as_before:
                assert as_before.get(f"{instance.url}/v1/upstreams/clock").status_code == 200, "as the backup says"
    assert {(each.status, each.code) for each in answers.seen(*DATA_PLANE)} == {(200, "")}
    for instance in site.instances:
        assert instance.metric(DIVERGED) > alarms[instance.name]


def has_seen(instance: Instance, revision: int) -> bool:
    return instance.metric("authz_revision") >= revision


def team(slug: str) -> Team:
    return Team(TeamId(f"team_{slug}"), slug, slug, True)

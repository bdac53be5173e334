"""One instance has lost the database while its peer goes on with it: fault 11 of the list."""

import time
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest
from msgspec import Struct

from tests.e2e.running import claims_of, http, wait_until
from tests.faults.site import PATIENCE, STRICT_G, L, Site
from tests.faults.traffic import Answered, last_well, traffic
from tests.faults.vitals import nothing_left_behind

WALL_CLOCK = 1.0
"""Seconds that a promise in whole seconds of wall time may be off."""


class Partition(Struct, frozen=True):
    """A token was revoked by way of the peer while the strict instance was cut off, from the instant `cut_off` on."""

    site: Site
    cut_off: float
    wall_before: float
    wall_after: float
    revoked: httpx2.Response
    of_peer: Sequence[Answered]
    of_cut_off: Sequence[Answered]

    @property
    def instances(self) -> dict[str, Any]:
        found: dict[str, Any] = self.revoked.json()["instances"]
        return found


@pytest.fixture(scope="module")
def partition(site: Site) -> Partition:
    token = site.lasting.gateway.issue(site.tokens.root, "alice@example.com")
    with nothing_left_behind(site), traffic() as of_peer, traffic() as of_cut_off, http(site.tokens.root) as admin:
        of_peer.calling(site.lasting.url, token)
        of_cut_off.calling(site.strict.url, token)
        wait_until(lambda: last_is(of_peer.seen(), 200) and last_is(of_cut_off.seen(), 200), PATIENCE, "it is good")
        with site.strict.link.frozen():
            cut_off, wall_before = time.monotonic(), time.time()
            url = f"{site.lasting.url}/v1/tokens/{claims_of(token)['jti']}/revoke"
            revoked = admin.post(url, timeout=PATIENCE)
            wall_after = time.time()
            wait_until(lambda: last_is(of_peer.seen(), 401), PATIENCE, "the peer refuses it")
            wait_until(lambda: last_is(of_cut_off.seen(), 503), PATIENCE, "who is cut off refuses everything")
        wait_until(lambda: last_is(of_cut_off.seen(), 401), PATIENCE, "it refuses the token when it is back")
    return Partition(site, cut_off, wall_before, wall_after, revoked, of_peer.seen(), of_cut_off.seen())


def last_is(answers: Sequence[Answered], status: int) -> bool:
    return bool(answers) and answers[-1].status == status


def test_the_peer_refuses_the_token_within_the_bound(partition: Partition) -> None:
    assert partition.revoked.status_code == 200
    assert last_well(partition.of_peer) <= partition.cut_off + L


def test_who_is_cut_off_lets_it_pass_for_no_longer_than_its_bound(partition: Partition) -> None:
    assert last_well(partition.of_cut_off) <= partition.cut_off + STRICT_G
    refused = [each for each in partition.of_cut_off if not each.well]
    assert {(each.status, each.code) for each in refused} == {(503, "authz_stale"), (401, "token_revoked")}


def test_once_it_is_back_it_never_lets_the_token_pass_again(partition: Partition) -> None:
    codes = [each.code for each in partition.of_cut_off]
    assert codes == sorted(codes, key=["", "authz_stale", "token_revoked"].index), "it never goes back a step"


def test_the_answer_to_the_revocation_names_who_is_cut_off_and_when_its_trust_ends(partition: Partition) -> None:
    assert (partition.instances["applied"], partition.instances["known"]) == (1, 2)
    [away] = partition.instances["away"]
    assert str(partition.site.strict.worker) in away["name"]
    earliest, latest = partition.wall_before + STRICT_G, partition.wall_after + STRICT_G
    assert earliest - WALL_CLOCK <= away["trusted_until"] <= latest + WALL_CLOCK


def test_its_trust_has_ended_when_it_was_said_to_end(partition: Partition) -> None:
    [away] = partition.instances["away"]
    assert (
        last_well(partition.of_cut_off) - partition.cut_off
        <= away["trusted_until"] - partition.wall_before + WALL_CLOCK
    )

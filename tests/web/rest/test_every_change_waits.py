"""`?wait=all` is a promise of every change, not of those that somebody thought of."""

import pytest

from sluicegate.web.rest.permissions import PERMISSION_OF
from tests.support.world import ROOT, principal
from tests.web.rest.api import revision
from tests.web.rest.test_permission_table import BODIES, CHANGED, api, path_of

CHANGES = [route for route in sorted(PERMISSION_OF) if route[0] != "GET"]
FAR = 1_000_000


@pytest.mark.parametrize("route", CHANGES, ids=str)
async def test_every_change_says_how_many_have_applied_it_when_it_is_asked_to_wait(route: tuple[str, str]) -> None:
    gateway = api()
    gateway.instances.stands("ahead", FAR)
    gateway.instances.stands("behind", 0)
    path = f"{path_of(route, **CHANGED.get(route, {}))}?wait=all"
    response = await gateway.call(principal(ROOT), route[0], path, BODIES.get(route))
    assert response.headers["sluicegate-applied"] == "2 of 3"
    assert response.headers["sluicegate-away"].startswith("behind; until=")
    assert revision(response) == gateway.directory.revision

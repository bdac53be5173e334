"""The checker finds what it is there to find."""

from collections.abc import Iterator
from functools import partial

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Entity, Kind, Team
from sluicegate.core.events import encode_entity
from sluicegate.core.identity import TeamId
from sluicegate.store import migrate, open_database
from tests.killing.agreement import Contents, Logged, disagreements, loaded_as_stored
from tests.killing.model import world_after, write_once
from tests.store.conftest import run
from tests.store.writing import inserting, numbered_team
from tests.support.servers import fresh_database, postgresql

TEAM = numbered_team(1)
RENAMED = replace(TEAM, name="Other")


def logged(rev: int, entity: Team, *, gone: bool = False) -> Logged:
    return Logged(rev, "team", entity.id, None if gone else encode_entity(entity).decode())


def rows(*teams: Team) -> dict[tuple[Kind, str], Entity]:
    return {(Kind.TEAM, team.id): team for team in teams}


SECOND, THIRD = numbered_team(2), numbered_team(3)
EPOCH = Logged(4, "epoch", "two", None)
LOG = (logged(1, TEAM), logged(2, SECOND), logged(3, RENAMED), logged(4, SECOND, gone=True))
SOUND = Contents("one", 4, 0, LOG, rows(RENAMED))
EARLIER = Contents("one", 2, 0, LOG[:2], rows(TEAM, SECOND))
TRIMMED = replace(SOUND, floor=3, log=LOG[2:])
NEW_EPOCH = Contents("two", 4, 4, (*LOG[:3], EPOCH), rows(THIRD))

SOUNDS: dict[str, tuple[Contents, Contents | None]] = {
    "empty": (Contents("one", 0, 0, (), {}), None),
    "followed from its beginning": (SOUND, None),
    "followed from before": (SOUND, EARLIER),
    "followed from itself": (SOUND, SOUND),
    "trimmed": (TRIMMED, None),
    "trimmed below what was before": (TRIMMED, EARLIER),
    "trimmed since": (TRIMMED, replace(EARLIER, revision=3, log=LOG[:3], rows=rows(RENAMED, SECOND))),
    "in a new epoch": (NEW_EPOCH, EARLIER),
    "in a new epoch, trimmed": (replace(NEW_EPOCH, log=(EPOCH,)), EARLIER),
    "followed in a new epoch": (
        replace(NEW_EPOCH, revision=5, log=(EPOCH, logged(5, TEAM)), rows=rows(THIRD, TEAM)),
        NEW_EPOCH,
    ),
}
DAMAGES: dict[str, tuple[Contents, Contents | None]] = {
    "a row differs": (replace(SOUND, rows=rows(TEAM)), None),
    "a row is missing": (replace(SOUND, rows={}), None),
    "a deleted row is there": (replace(SOUND, rows=rows(RENAMED, SECOND)), None),
    "a row that the log does not know": (replace(SOUND, rows=rows(RENAMED, THIRD)), EARLIER),
    "a row that went without the log": (
        replace(SOUND, log=(*LOG[:2], logged(3, THIRD), logged(4, SECOND, gone=True)), rows=rows(THIRD)),
        EARLIER,
    ),
    "a gap": (replace(SOUND, log=(LOG[0], *LOG[2:])), None),
    "no last row": (replace(SOUND, log=LOG[:3], rows=rows(RENAMED, SECOND)), None),
    "a row above the head": (replace(SOUND, revision=3), None),
    "a head behind which there is no log": (replace(SOUND, log=()), None),
    "no row at the floor": (replace(SOUND, floor=2, log=LOG[2:]), None),
    "a log that begins above its floor": (replace(SOUND, log=LOG[1:]), None),
    "a floor above the head": (replace(SOUND, floor=5), None),
    "a marker row": (replace(SOUND, log=(Logged(-1, "recording", "", None), *LOG)), None),
    "an unknown kind": (replace(SOUND, log=(*LOG[:3], Logged(4, "unrecorded", "", None))), None),
    "an epoch above the floor": (replace(NEW_EPOCH, floor=3), None),
    "a lower revision": (EARLIER, SOUND),
    "a lower floor": (SOUND, TRIMMED),
    "a rewritten log": (replace(SOUND, log=(logged(1, RENAMED), *LOG[1:])), EARLIER),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_what_agrees_is_left_alone(name: str) -> None:
    assert disagreements(*SOUNDS[name]) == []


@pytest.mark.parametrize("name", DAMAGES)
def test_what_disagrees_is_found(name: str) -> None:
    assert disagreements(*DAMAGES[name])


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('planted') / 'sluicegate.db'}"
    else:
        with postgresql() as cluster, fresh_database(cluster) as name:
            yield cluster.url(name)


async def test_a_disagreement_that_is_planted_in_a_database_is_found(url: str) -> None:
    migrate(url)
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    try:
        await database.write(inserting(Team(TeamId("team_counter"), "counter", "0", True)))
        for number in range(1, 6):
            await database.write(partial(write_once, number=number))
        before = await loaded_as_stored(database)
        assert disagreements(before) == []
        assert before.rows == world_after(5)
        run(url, "UPDATE teams SET name = 'planted' WHERE id = 'team_4'")
        assert len(disagreements(await loaded_as_stored(database))) == 1
        run(url, "DELETE FROM memberships", "DELETE FROM authz_log WHERE rev = 2")
        found = disagreements(await loaded_as_stored(database), before)
        assert len([each for each in found if each.startswith("membership")]) == len(
            [each for each in before.rows if each[0] is Kind.MEMBERSHIP]
        )
        assert any("no run" in each for each in found)
    finally:
        database.close()

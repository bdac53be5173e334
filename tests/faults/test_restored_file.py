"""A backup takes the place of the SQLite file while the gateway runs: fault 20 of the list."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import httpx2
import pytest
from msgspec import Struct

from sluicegate.core.catalog import Team
from sluicegate.core.identity import TeamId
from tests.e2e.running import Gateway, http, serving, wait_until, workers_of
from tests.faults.directly import revision_of
from tests.faults.site import PATIENCE
from tests.faults.sleeping import asleep
from tests.store.writing import inserting

PEOPLE = "users: [{email: root@example.com, platform_admin: true}]\n"
CHANGES = 3
"""Made since the backup, and lost."""


class OnFile(Struct, frozen=True):
    """A gateway on an SQLite file, and its administrator."""

    gateway: Gateway
    path: Path
    admin: httpx2.Client

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.path}"

    def insert(self, *slugs: str) -> int:
        """Teams, by another process; the revision."""
        teams = [Team(TeamId(f"team_{slug}"), slug, slug, True) for slug in slugs]
        return revision_of(self.database_url, inserting(*teams))

    def shows(self, slug: str) -> bool:
        status = self.admin.get(f"{self.gateway.url}/v1/teams/{slug}").status_code
        assert status in (200, 404)
        return status == 200


@pytest.fixture(scope="module")
def on_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnFile]:
    home = tmp_path_factory.mktemp("on-file")
    path = home / "sluicegate.db"
    with serving(home, {"SLUICEGATE_DATABASE_URL": f"sqlite:///{path}"}) as gateway:
        gateway.apply(home, PEOPLE)
        with http(gateway.token("root@example.com")) as admin:
            yield OnFile(gateway, path, admin)


def copied(source: Path, target: Path) -> None:
    """By SQLite's own backup, which also writes into a file that is in use."""
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)


def exchanged(backup: Path, path: Path) -> None:
    """Another file comes into its place, and the journal of the old one goes."""
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    backup.replace(path)


RESTORES: dict[str, Callable[[Path, Path], None]] = {"into-the-file": copied, "as-another-file": exchanged}


@pytest.mark.parametrize("overtaken", [False, True], ids=["as-it-was", "overtaken-by-newer-changes"])
@pytest.mark.parametrize("how", RESTORES)
def test_a_backup_that_was_put_back_is_loaded_whole(on_file: OnFile, tmp_path: Path, how: str, overtaken: bool) -> None:
    lost, new = ([f"{word}-{how}-{overtaken:d}-{each}" for each in range(CHANGES + 1)] for word in ("lost", "new"))
    copied(on_file.path, backup := tmp_path / "backup.db")
    stood_at = on_file.insert(*lost[:CHANGES])
    wait_until(lambda: on_file.shows(lost[0]), PATIENCE, "it has followed so far")
    with asleep(*workers_of(on_file.gateway.pid)) if overtaken else nullcontext():
        RESTORES[how](backup, on_file.path)
        stands_at = on_file.insert(*(new if overtaken else new[:1]))
    assert (stands_at > stood_at) is overtaken
    wait_until(lambda: on_file.shows(new[0]), PATIENCE, "it follows the new history")
    assert not any(map(on_file.shows, lost))
    assert on_file.gateway.metrics()['authz_alarms_total{kind="diverged"}'] > 0
    assert sum(value for name, value in on_file.gateway.metrics().items() if name.startswith("unexpected_errors")) == 0

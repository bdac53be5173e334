"""A backup of the gateways' database, and how it takes the place of what the database has become since."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from tests.faults.site import Site
from tests.support.servers import dumped, restore, run_as_superuser

_KEEP_OUT = "ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {allowed}"
_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"


class Backup:
    """Restored beside the database that is in use, whose place it can take."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._name = f"restored_{uuid4().hex}"

    def prepare(self) -> None:
        """Takes the backup now, and restores it under another name."""
        with dumped(self._site.cluster.server, self._site.database) as backup:
            restore(self._site.cluster.server, backup, self._name)

    def take_its_place(self) -> None:
        """As an operator does: everybody out, and the names are exchanged. Clients may come back at once."""
        used, gone = self._site.database, f"{self._name}_gone"
        self._run(_KEEP_OUT.format(name=used, allowed=False))
        self._run(_TERMINATE.format(name=used))
        self._run(f"ALTER DATABASE {used} RENAME TO {gone}")
        self._run(f"ALTER DATABASE {self._name} RENAME TO {used}")

    def drop_leftovers(self) -> None:
        for name in (self._name, f"{self._name}_gone"):
            self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def _run(self, sql: str) -> None:
        run_as_superuser(self._site.cluster.server, sql)


@contextmanager
def backup_of(site: Site) -> Iterator[Backup]:
    """Taken at once."""
    backup = Backup(site)
    try:
        backup.prepare()
        yield backup
    finally:
        backup.drop_leftovers()

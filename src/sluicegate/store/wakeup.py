"""LISTEN for what writers NOTIFY, so that the next poll comes at once instead of within the interval.

A hint and nothing else: it carries no state, and when it is lost or never comes, polling finds the change all the same.
LISTEN needs a session of its own, so it goes past PgBouncer.
"""

import random
import threading
from collections.abc import Callable

import psycopg
import structlog

from sluicegate.core.errors import ConfigurationError
from sluicegate.store.location import PostgresqlServer, located
from sluicegate.store.postgresql import DRIVER

log = structlog.get_logger()

CHANNEL = "sluicegate"
"""What the head's trigger notifies (migration 0002)."""
LOOK = 1.0
"""Seconds between two looks whether the process is ending."""
AWAY = (0.5, 5.0)
"""Seconds until the next attempt to connect, at random between the two, so that instances do not come in step."""


class Wakeup:
    """A thread that calls `wake`, from that thread, whenever a writer has committed; it ends with the process."""

    def __init__(self, direct_url: str, wake: Callable[[], None]) -> None:
        """Raises ConfigurationError unless the URL names a PostgreSQL database."""
        location = located(direct_url)
        if not isinstance(location, PostgresqlServer):
            raise ConfigurationError("SLUICEGATE_DATABASE_DIRECT_URL must name the PostgreSQL database itself")
        self._location = location
        self._wake = wake
        self._closed = threading.Event()
        self._away = False

    def start(self) -> None:
        """Begins to listen; returns at once, whether or not the database can be reached."""
        threading.Thread(target=self._run, name="wakeup", daemon=True).start()

    def close(self) -> None:
        """Lets the thread end within about a second, without waiting for it."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                if not self._away:
                    log.warning("nothing wakes the feed now: changes are seen by polling alone", error=str(error))
                self._away = True
                self._closed.wait(random.uniform(*AWAY))  # noqa: S311 - spreads load, keeps no secret

    def _listen(self) -> None:
        url = self._location.url
        options = {name: value for name, value in DRIVER.items() if name not in url.query}
        conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(conninfo, autocommit=True, **options) as connection:  # type: ignore[arg-type]
            connection.execute(f"LISTEN {CHANNEL}")
            self._wake()  # something may have been written while nobody listened
            if self._away:
                log.info("writers wake the feed again")
            self._away = False
            while not self._closed.is_set():
                for _ in connection.notifies(timeout=LOOK):
                    self._wake()

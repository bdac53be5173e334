"""A process that begins a change, holds the lock of the revision log's head, and stands still before it commits.

    python -m tests.faults.stuck_writer postgresql://… SLUG

It says `holding` and stops itself. When it is continued it tries to commit, and says what became of that.
"""

import os
import signal
import sys

from sqlalchemy.exc import DBAPIError

from sluicegate.core.catalog import Team
from sluicegate.core.identity import TeamId
from sluicegate.store.lending import ONE, Access, transaction
from sluicegate.store.location import engine_for, located
from sluicegate.store.registry import SqlTransaction

DEADLINE = 60.0
"""Seconds; far more than the database is to let it."""

if __name__ == "__main__":
    _, url, slug = sys.argv
    try:
        with transaction(engine_for(located(url), ONE, DEADLINE), Access.WRITE, DEADLINE) as connection:
            changing = SqlTransaction(connection)
            changing.insert(Team(id=TeamId(f"tm_{slug}"), slug=slug, name="Never", active=True))
            changing.finish()
            print("holding", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
    except DBAPIError:
        print("lost", flush=True)
    else:
        print("committed", flush=True)

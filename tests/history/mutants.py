"""Designs that look as good as ours and are wrong. Each is our code with a few lines changed, and must be caught."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

import sluicegate
from sluicegate.store.schema import TABLES
from tests.history.chaos import Fault, each_worker, frozen, late_then_frozen

SOURCE = Path(sluicegate.__file__).parent
Schedule = Callable[[random.Random, int], list[Fault]]
"""The faults of one act, for so many workers."""


class Edit(Struct, frozen=True):
    """In the module at `path`, `old` stands exactly once and becomes `new`."""

    path: str
    old: str
    new: str


class Mutant(Struct, frozen=True):
    """A wrong design: its edits, the SQL that its database needs besides, and the faults that show what is wrong."""

    name: str
    edits: tuple[Edit, ...]
    faults: Schedule
    sql: str = ""


def no_faults(_: random.Random, __: int) -> list[Fault]:
    """Slow commits are enough, and every run has those."""
    return []


NO_TRIGGERS = "".join(f"ALTER TABLE {table.name} DISABLE TRIGGER authz_unlogged;" for table in TABLES.values())
"""For a design whose rows of the log may lie above the head: ours refuses to commit what they state."""

AT_RECEIPT = Mutant(
    "the lease counts from the receipt of the poll, not from its sending",
    (
        Edit(
            "usecases/follow_feed.py",
            "if directory.revision == poll.revision:\n                self._confirmed_at = sent_at",
            "if directory.revision == poll.revision:\n                self._confirmed_at = self._clock.boot()",
        ),
        Edit(
            "usecases/follow_feed.py",
            "\n        self._confirmed_at = sent_at\n",
            "\n        self._confirmed_at = self._clock.boot()\n",
        ),
    ),
    lambda chance, workers: each_worker(chance, workers, late_then_frozen),
)

FROM_A_SEQUENCE = Mutant(
    "revisions come from a sequence, not from the head's row",
    (
        Edit(
            "store/revision_log.py",
            "revision = _advance(connection, rev=authz_head.c.rev + len(changes))",
            "revision = [connection.exec_driver_sql(\"SELECT nextval('ids')\").scalar_one() for _ in changes][-1]",
        ),
        # and a feed as such a design would have it: it asks for what is above the highest it knows, gaps are normal
        Edit(
            "store/feed.py",
            "    refuse_replica(replica)\n",
            "    refuse_replica(replica)\n    revision = max(revision, *(row[5] or 0 for row in rows))\n",
        ),
        Edit(
            "store/feed.py",
            "    .where(authz_log.c.rev <= select(authz_head.c.rev).where(authz_head.c.id == 1).scalar_subquery())\n",
            "",
        ),
        Edit("store/feed.py", "if rev != expected:", "if rev < expected:"),
        Edit("core/directory.py", "if change.rev != self.revision + 1:", "if change.rev <= self.revision:"),
    ),
    no_faults,
    sql=f"CREATE SEQUENCE ids; SELECT setval('ids', (SELECT rev FROM authz_head)); {NO_TRIGGERS}",
)

NO_LEASE = Mutant(
    "nobody looks at the lease",
    (
        Edit(
            "core/lease.py",
            "return confirmed_at is not None and now - confirmed_at <= self.revocation",
            "return confirmed_at is not None",
        ),
    ),
    lambda chance, workers: each_worker(chance, workers, frozen),
)

EARLY_HEAD = Mutant(
    "the head's row is updated and released before the change is committed",
    (
        Edit(
            "store/revision_log.py",
            "    revision = _advance(connection, rev=authz_head.c.rev + len(changes))\n",
            "    from sluicegate.store.lending import Access, transaction\n"
            "    with transaction(connection.engine, Access.WRITE, 60.0) as before:\n"
            "        revision = _advance(before, rev=authz_head.c.rev + len(changes))\n",
        ),
    ),
    no_faults,
)

MUTANTS = (AT_RECEIPT, FROM_A_SEQUENCE, NO_LEASE, EARLY_HEAD)


def mutated(mutant: Mutant, folder: Path) -> Path:
    """A folder to import the mutant from. Raises AssertionError when an edit does not fit our code any more."""
    package = folder / SOURCE.name
    shutil.copytree(SOURCE, package)
    for edit in mutant.edits:
        module = package / edit.path
        text = module.read_text(encoding="utf-8")
        times = text.count(edit.old)
        assert times == 1, f"`{mutant.name}` no longer fits {edit.path}: found {times} times: {edit.old!r}"
        module.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return folder

"""Compare the directory with the database while changes go on: at the very revision at which the database was read."""

from enum import StrEnum

from sluicegate.core.directory import Directory
from sluicegate.ports import Audit

LONGEST = 100_000
"""Revisions that are remembered at most during one audit."""


class AuditOutcome(StrEnum):
    """What an audit found."""

    SAME = "same"
    DIFFERENT = "different"
    UNMATCHED = "unmatched"
    """The directory did not come by the revision at which the database was read: nothing is known."""


class Trail:
    """The digests of one directory at the revisions that it comes by from now on."""

    def __init__(self, directory: Directory) -> None:
        self._epoch = directory.epoch
        self._digests = {directory.revision: directory.digest}

    def note(self, directory: Directory) -> None:
        """To be called after each change."""
        if len(self._digests) < LONGEST:
            self._digests[directory.revision] = directory.digest

    def compared(self, audit: Audit) -> AuditOutcome:
        """How the directory stood to what the audit found."""
        digest = self._digests.get(audit.revision)
        if digest is None or audit.epoch != self._epoch:
            return AuditOutcome.UNMATCHED
        return AuditOutcome.SAME if digest == audit.digest else AuditOutcome.DIFFERENT

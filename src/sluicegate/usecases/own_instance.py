"""What this worker process states of itself to the others."""

import os
import secrets
import socket

from sluicegate.core.errors import AuthorizationStale
from sluicegate.core.identity import InstanceId
from sluicegate.ports import AuthzFeed, Report


class OwnInstance:
    """One worker from its start to its end: another start is another instance."""

    def __init__(self, feed: AuthzFeed, trust: float, name: str = "") -> None:
        """`trust` is the longest time, in seconds, that the directory is trusted after a successful poll.

        `name` is for people; without one it is made of the machine's and the process's id.
        """
        self.id = InstanceId(secrets.token_hex(8))
        self._feed = feed
        self._trust = trust
        self._name = name or f"{socket.gethostname()}:{os.getpid()}"

    def report(self) -> Report:
        """How far this worker is at this moment; at revision 0 while it has no directory."""
        try:
            revision = self._feed.directory.revision
        except AuthorizationStale:
            revision = 0
        return Report(self.id, self._name, revision, self._trust)

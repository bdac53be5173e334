"""How long a directory may be trusted, from two instants of the same monotonic clock. Pure.

`confirmed_at` is the instant at which the last successful poll was *sent*: its snapshot was taken later, and it was
applied before `confirmed_at` moved, so a decision under a FRESH lease misses no change older than the bound.
"""

from enum import StrEnum

from msgspec import Struct


class LeaseState(StrEnum):
    FRESH = "fresh"
    """Decide."""
    LATE = "late"
    """The bound passed: wait for the shared poll, then look again."""
    OUTAGE = "outage"
    """The poll fails: reads and calls go on, writes do not."""
    CLOSED = "closed"
    """Nothing may be decided."""


class Lease(Struct, frozen=True, gc=False):
    """The two bounds in seconds: `revocation` is L, `outage` is G of the design."""

    revocation: float
    outage: float

    def state(self, confirmed_at: float | None, polling_failed: bool, now: float) -> LeaseState:
        """The state at `now`; `confirmed_at` is None until the first load and after a state that cannot be trusted."""
        if confirmed_at is None:
            return LeaseState.CLOSED
        age = now - confirmed_at
        if age <= self.revocation:
            return LeaseState.FRESH
        if not polling_failed:
            return LeaseState.LATE
        return LeaseState.OUTAGE if age <= self.outage else LeaseState.CLOSED

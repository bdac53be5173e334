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

    def fresh(self, confirmed_at: float | None, now: float) -> bool:
        """True when a decision may be made at once."""
        return confirmed_at is not None and now - confirmed_at <= self.revocation

    def state(self, confirmed_at: float | None, polling_failed: bool, now: float) -> LeaseState:
        """The state at `now`; `confirmed_at` is None until the first load and after a state that cannot be trusted."""
        if confirmed_at is None:
            return LeaseState.CLOSED
        if self.fresh(confirmed_at, now):
            return LeaseState.FRESH
        if not polling_failed:
            return LeaseState.LATE
        return LeaseState.OUTAGE if now - confirmed_at <= self.outage else LeaseState.CLOSED

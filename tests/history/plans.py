"""What each process of a run is told, as JSON."""

from msgspec import Struct

from sluicegate.core.lease import Lease

LEASE = Lease(revocation=0.5, outage=1.5)
"""L and G of all runs: so small that a violation shows in seconds."""


class WriterPlan(Struct, frozen=True):
    """One writer makes every `stride`th script's versions, beginning with the script of its `number`.

    `pause` is the longest time in seconds between two writes; their order and pauses follow from `seed`.
    """

    number: int
    stride: int
    pause: float
    seed: int
    url: str
    journal: str


class WorkerPlan(Struct, frozen=True):
    """One gateway worker on the database at `url`; `pause` seconds lie between two rounds of questions."""

    number: int
    pause: float
    url: str
    journal: str
    keys: str

    @property
    def name(self) -> str:
        return f"worker-{self.number}"


class Cast(Struct, frozen=True):
    """All processes of a run, which run the code below the folder `tree`."""

    tree: str
    pids: str
    """The file that gets the ids of the processes, once they are there."""
    writers: tuple[WriterPlan, ...]
    workers: tuple[WorkerPlan, ...]


class Pids(Struct, frozen=True):
    """The processes, in the order of their plans."""

    writers: list[int]
    workers: list[int]

"""What the processes of a run write down, one JSON line each. All instants are seconds of CLOCK_BOOTTIME."""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from sluicegate.core.lease import LeaseState


class Begun(Struct, frozen=True, array_like=True, tag=True):
    """At `at`, just before its transaction began, a writer set out to make version `number` of a question's entity.

    By that version the question is answered with `answer`.
    """

    question: str
    number: int
    answer: str
    at: float


class Acknowledged(Struct, frozen=True, array_like=True, tag=True):
    """At `at` the writer knew that version `number` is committed."""

    question: str
    number: int
    at: float


class Decided(Struct, frozen=True, array_like=True, tag=True):
    """A worker answered a question at `at`, the instant at which it looked at its lease.

    `state` is what its lease said then: FRESH, or OUTAGE for everything else that decides. `age` is what it says of its
    directory, and `revision` where that stood.
    """

    worker: str
    at: float
    state: LeaseState
    question: str
    answer: str
    revision: int
    age: float


class Refused(Struct, frozen=True, array_like=True, tag=True):
    """A worker decided nothing at `at`: its directory was too old for it."""

    worker: str
    at: float


WriterLine = Begun | Acknowledged
WorkerLine = Decided | Refused


def boot_time() -> float:
    """The one clock of a run."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Journal:
    """A file of lines. What was noted is there for other processes as soon as `flush` returned."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._encoder = msgspec.json.Encoder()

    def note(self, line: WriterLine | WorkerLine) -> None:
        """Adds a line."""
        self._file.write(self._encoder.encode(line) + b"\n")

    def flush(self) -> None:
        """Hands what was noted to the kernel."""
        self._file.flush()

    def close(self) -> None:
        """Flushes and ends."""
        self._file.close()


def written(path: Path) -> Iterator[WriterLine]:
    """The lines of a writer, but a last one that is not finished yet."""
    decoder = msgspec.json.Decoder(WriterLine)
    with path.open("rb") as file:
        yield from (decoder.decode(line) for line in file if line.endswith(b"\n"))


def decided(path: Path, size: int) -> Iterator[WorkerLine]:
    """The lines in the first `size` bytes of a worker's file, but a last one that is not finished yet."""
    decoder = msgspec.json.Decoder(WorkerLine)
    with path.open("rb") as file:
        for line in file:
            size -= len(line)
            if size < 0 or not line.endswith(b"\n"):
                return
            yield decoder.decode(line)


def last_decided(path: Path, size: int = 64 * 1024) -> list[WorkerLine]:
    """What a worker noted in about the last `size` bytes of its file."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - size))
        whole = file.read().rpartition(b"\n")[0].split(b"\n")
    decoder = msgspec.json.Decoder(WorkerLine)
    return [decoder.decode(line) for line in (whole if end <= size else whole[1:]) if line]

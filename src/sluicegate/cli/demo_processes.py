"""The processes of the demo: started together, waited for until they listen, ended by their ids whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from sluicegate.core.errors import ConfigurationError, SluicegateError

START_WITHIN = 30.0
"""Seconds until a process listens."""
END_WITHIN = 20.0
"""Seconds until a process that was asked to end is killed."""


class Running(Struct, frozen=True):
    """A process that listens on `port` of 127.0.0.1 and writes what it says to `log`."""

    name: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def require_alive(self) -> None:
        """Raises SluicegateError, with the end of its log, when the process has ended."""
        if (code := self.process.poll()) is not None:
            said = self.log.read_text(errors="replace")[-2000:].strip()
            raise SluicegateError(f"{self.name} ended with code {code}; it said: {said or 'nothing'}")

    def wait_until_listening(self) -> None:
        """Returns when the port is open. Raises SluicegateError when the process ends, or is too slow."""
        deadline = time.monotonic() + START_WITHIN
        while not _listens(self.port):
            self.require_alive()
            if time.monotonic() > deadline:
                raise SluicegateError(f"{self.name} does not listen after {START_WITHIN:.0f} s: see {self.log}")
            time.sleep(0.02)


class Command(Struct, frozen=True):
    """What to start: the arguments go to this Python."""

    name: str
    port: int
    arguments: Sequence[str]


@contextmanager
def running(commands: Sequence[Command], folder: Path) -> Iterator[list[Running]]:
    """All of the commands, listening; with a log each in `folder`. At the end none of them is left."""
    with ExitStack() as stack:
        started = [stack.enter_context(_started(command, folder / f"{command.name}.log")) for command in commands]
        for one in started:
            one.wait_until_listening()
        yield started


@contextmanager
def _started(command: Command, log: Path) -> Iterator[Running]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and scripts
            [sys.executable, *command.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its processes in order
        )
    try:
        yield Running(command.name, command.port, log, process)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the process to end, then makes it. A second Ctrl-C does not get in between."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.terminate()
        process.wait(END_WITHIN)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own, with its workers
        process.wait(END_WITHIN)
    finally:
        signal.signal(signal.SIGINT, before)


def free_ports(count: int, preferred: int | None = None) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now; the first is `preferred` if that is free."""
    with ExitStack() as stack:
        return [_free_port(stack, preferred if number == 0 else None) for number in range(count)]


def _free_port(stack: ExitStack, preferred: int | None) -> int:
    for port in ([preferred] if preferred is not None else []) + [0]:
        probe = stack.enter_context(socket.socket())  # all stay open until the last is found, so that none is equal
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise ConfigurationError("there is no free port on 127.0.0.1")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0

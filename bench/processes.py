"""Start servers on free ports, know what CPU they used, and end them by their process ids."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 60.0
"""Seconds for a server to listen, and to end."""


class NotUp(RuntimeError):
    """A server that a benchmark needs did not start; the message holds the end of its output."""


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(command: list[str], port: int, folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """Runs a server until it listens on `port`; gives its process id, and ends it and its children afterwards."""
    output = folder / f"{Path(command[0]).name}-{port}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_listening(process, port, output)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)


def cpu_seconds(pid: int) -> float:
    """User and system time that the process and its living descendants have used."""
    total, family = 0, {pid}
    for stat in sorted(Path("/proc").glob("[0-9]*/stat"), key=lambda path: int(path.parent.name)):
        try:
            name_end = (text := stat.read_text()).rindex(")")
        except OSError:
            continue  # it ended meanwhile
        fields = text[name_end + 2 :].split()
        this, parent = int(stat.parent.name), int(fields[1])
        if this in family or parent in family:
            family.add(this)
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _wait_until_listening(process: subprocess.Popen[bytes], port: int, output: Path) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NotUp(f"{process.args!r} did not listen on {port}: {output.read_text(errors='replace')[-800:]}")

"""A gateway that stands still, as on a machine that is suspended, while the world goes on."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.running import wait_until
from tests.e2e.wire import post
from tests.faults.site import PATIENCE


@contextmanager
def asleep(*workers: int) -> Iterator[None]:
    """These processes see nothing of what happens meanwhile; what is sent to them waits."""
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: all(map(is_stopped, workers)), PATIENCE, "they stand still")
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def is_stopped(pid: int) -> bool:
    """True for a process none of whose threads runs (proc_pid_stat(5), the third field)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def call_of(token: str, tool: str = "clock__now", arguments: str = "{}") -> bytes:
    """One `tools/call`, byte by byte."""
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}'
    return post(body.encode(), f"Authorization: Bearer {token}")

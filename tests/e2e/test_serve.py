"""`sluicegate serve` as an operator meets it: a process, its port, its end."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.running import Gateway, command, workers_of

STARTS_WITHIN = 30.0
ENDS_WITHIN = 15.0
SERVE = [sys.executable, "-m", "sluicegate", "serve"]


def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
    return kept | {"SLUICEGATE_DATA_DIR": str(home / "data")}


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the URL that it printed; it answers."""
    with (home / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [*SERVE, *options], stderr=log, text=True, env=environment(home), start_new_session=True
        )
    try:
        yield process, _answering(process, home / "serve.log")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(ENDS_WITHIN)


def _answering(process: subprocess.Popen[str], log: Path) -> str:
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        _, listens, rest = log.read_text().partition("sluicegate listens on ")
        if listens and "\n" in rest:
            url = rest.partition("\n")[0]
            try:
                get(f"{url}/health")
            except OSError:
                pass
            else:
                return url
        time.sleep(0.02)
    raise AssertionError(f"it does not serve: {log.read_text()}")


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
    return body.decode()


def wait_until_nobody_is_left(group: int) -> None:
    deadline = time.monotonic() + ENDS_WITHIN
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    raise AssertionError("processes are left")


def test_it_prints_its_address_answers_and_ends_with_code_0_on_ctrl_c(tmp_path: Path) -> None:
    with serving(tmp_path, "--port", "0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the worker gets it too
        assert process.wait(ENDS_WITHIN) == 0
        wait_until_nobody_is_left(process.pid)


def test_a_worker_leaves_ctrl_c_to_its_parent(gateway: Gateway) -> None:
    """Interrupted by the terminal and ended by its parent at the same time, one worker in twenty hung until killed."""
    [worker] = workers_of(gateway.pid)
    assert signal.SIGINT in blocked_signals(worker)


def blocked_signals(pid: int) -> set[int]:
    """The signals that the process's main thread does not take."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}


def test_a_port_in_use_is_refused_in_one_sentence(gateway: Gateway, tmp_path: Path) -> None:
    second = command({"SLUICEGATE_DATA_DIR": str(tmp_path)}, "serve", "--port", str(gateway.port))
    assert second.returncode == 1
    refusal = f"error: port {gateway.port} on 127.0.0.1 is in use: choose another with --port"
    assert second.stderr.splitlines()[-1] == refusal

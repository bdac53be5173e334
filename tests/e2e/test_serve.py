"""`sluicegate serve` as an operator meets it. How it ends is in `running.end` and in `test_revocation`."""

import signal
from pathlib import Path

from tests.e2e.running import Gateway, command, workers_of


def test_a_port_in_use_is_refused_in_one_sentence(gateway: Gateway, tmp_path: Path) -> None:
    second = command({"SLUICEGATE_DATA_DIR": str(tmp_path)}, "serve", "--port", str(gateway.port))
    assert second.returncode == 1
    refusal = f"error: port {gateway.port} on 127.0.0.1 is in use: choose another with --port"
    assert second.stderr.splitlines()[-1] == refusal


def test_a_worker_leaves_ctrl_c_to_its_parent(gateway: Gateway) -> None:
    """Interrupted by the terminal and ended by its parent at the same time, one worker in twenty hung until killed."""
    [worker] = workers_of(gateway.pid)
    assert signal.SIGINT in blocked_signals(worker)


def blocked_signals(pid: int) -> set[int]:
    """The signals that the process's main thread does not take."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in range(1, signal.NSIG) if mask >> (number - 1) & 1}

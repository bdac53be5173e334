"""The demo, as `make demo` runs it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

DEMO = [sys.executable, "-m", "sluicegate", "demo"]
WITHIN = 60.0
ROOT = Path(__file__).parents[2]


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def listening(ports: list[str]) -> list[str]:
    """Those of the ports on which somebody listens still."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    open_ports = {str(int(row[1].partition(":")[2], 16)) for row in rows if row[3] == "0A"}
    return [port for port in ports if port in open_ports]


def ports_in(story: str) -> list[str]:
    return re.findall(r"listens on 127\.0\.0\.1:(\d+)", story)


def test_the_story_comes_out_as_promised_and_nothing_is_left_running(tmp_path: Path) -> None:
    # settings of the shell, such as the address of somebody's database, are none of the demo's business
    hostile = os.environ | {"SLUICEGATE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = subprocess.run(DEMO, cwd=tmp_path, env=hostile, capture_output=True, text=True, timeout=WITHIN, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    story = done.stdout
    assert "clock__now -> 20" in story
    assert "clock__now -> unknown tool: clock__now" in story
    assert "deny: the user is not in the target's team (not_a_member)" in story
    revoked = re.search(r"refused (\d+) ms after the commit", story)
    assert revoked is not None
    assert int(revoked[1]) <= 2000
    assert re.search(r"\d+ requests answered, 0 database checkouts made by requests", story)
    assert len(ports_in(story)) == 3
    assert listening(ports_in(story)) == []
    assert list(tmp_path.iterdir()) == []


def test_left_running_it_prints_a_client_configuration_that_works_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    story_file = tmp_path / "story"
    with story_file.open("w") as output:
        process = subprocess.Popen(
            [*DEMO, "--keep-running"], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + WITHIN
        while '"mcpServers"' not in (story := story_file.read_text()) or not story.rstrip().endswith("}"):
            assert process.poll() is None, story
            assert time.monotonic() < deadline, story
            time.sleep(0.05)
        assert len(listening(ports_in(story))) == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN) == 0
        assert listening(ports_in(story)) == []
        assert group_is_gone(process.pid)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(WITHIN)

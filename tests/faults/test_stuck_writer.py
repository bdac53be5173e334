"""A writer stands still while it holds the lock that all writers need: fault 15 of the list."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.store.postgresql import IDLE_LIMIT
from tests.e2e.running import ROOT, http, wait_until
from tests.faults.site import PATIENCE, L, Site
from tests.faults.traffic import DATA_PLANE, Sort, failures, traffic
from tests.faults.vitals import nothing_left_behind
from tests.support.servers import Server

SLUG = "never-made"
FREED_WITHIN = IDLE_LIMIT + 3.0
"""Seconds until others write again: the limit, the wait of one of them, and a busy machine."""


class StuckWriter:
    """Holds the lock and stands still."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def continued(self) -> str:
        """What becomes of it when it goes on: `lost` or `committed`."""
        self._process.send_signal(signal.SIGCONT)
        said, _ = self._process.communicate(timeout=PATIENCE)
        return said.strip()


@contextmanager
def stuck_writer(site: Site) -> Iterator[StuckWriter]:
    url = Server(site.bouncer.port, 0).url(site.database)
    command = [sys.executable, "-m", "tests.faults.stuck_writer", url, SLUG]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "holding\n"
            wait_until(lambda: is_stopped(process.pid), PATIENCE, "it stands still")
            yield StuckWriter(process)
        finally:
            process.kill()


def is_stopped(pid: int) -> bool:
    found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    return found is not None and found.si_code == os.CLD_STOPPED


def test_a_writer_that_stands_still_with_the_lock_is_ended_and_only_writers_notice(site: Site) -> None:
    with nothing_left_behind(site), traffic() as answers:
        for instance in site.instances:
            answers.everything(instance.url, site.tokens.alice, site.tokens.root)
        wait_until(lambda: any(each.well for each in answers.seen(Sort.WRITE)), PATIENCE, "changes are made at first")
        with stuck_writer(site) as writer:
            held = time.monotonic()
            wait_until(lambda: not all(each.well for each in answers.seen(Sort.WRITE)), PATIENCE, "writers wait")
            wait_until(
                lambda: any(each.well for each in answers.seen(Sort.WRITE, since=held)), FREED_WITHIN, "they go on"
            )
            assert writer.continued() == "lost"
    assert not failures(answers.seen(*DATA_PLANE))
    assert max(each.age or 0 for each in answers.seen(*DATA_PLANE)) <= L, "the directory was followed all the time"
    refused = [each for each in answers.seen(Sort.WRITE) if not each.well]
    assert {(each.status, each.code) for each in refused} == {(503, "database_unavailable")}
    with http(site.tokens.root) as admin:
        assert admin.get(f"{site.lasting.url}/v1/teams/{SLUG}").status_code == 404

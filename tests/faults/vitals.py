"""What a process must not have more of after a fault than before it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from tests.e2e.running import wait_until
from tests.faults.site import PATIENCE, Instance, Site

MORE_THREADS = 4
"""That may have come: Python's default pool grows, to six at most, when several pages are rendered at once."""
MORE_FILES = 6
"""Connections that clients or upstreams keep."""
MORE_TASKS = 6
"""Requests that are being answered, that for the metrics among them, and upstream connections that are kept."""


class Vitals(Struct, frozen=True):
    """Of one worker, at one instant."""

    threads: int
    files: int
    tasks: int


def vitals(instance: Instance) -> Vitals:
    """Threads and files from /proc, the tasks on its event loop from its metrics."""
    proc = Path(f"/proc/{instance.worker}")
    match = re.search(r"^Threads:\s+(\d+)$", (proc / "status").read_text(), re.MULTILINE)
    assert match is not None
    return Vitals(int(match[1]), len(list((proc / "fd").iterdir())), round(instance.metric("event_loop_tasks")))


def has_not_grown(instance: Instance, before: Vitals) -> bool:
    now = vitals(instance)
    return (
        now.threads <= before.threads + MORE_THREADS
        and now.files <= before.files + MORE_FILES
        and now.tasks <= before.tasks + MORE_TASKS
    )


def leaves_nothing_behind(instance: Instance, before: Vitals) -> None:
    """Waits until each counter is back at zero and nothing has grown; fails when that does not come."""
    wait_until(lambda: instance.metric("db_checked_out") == 0, PATIENCE, "no connection is checked out")
    assert instance.metric('db_checkouts_total{owner="request"}') == 0
    assert instance.metric("unexpected_errors_total") == 0, instance.gateway.metrics()
    with suppress(AssertionError):
        wait_until(lambda: has_not_grown(instance, before), PATIENCE, "nothing has grown")
    assert has_not_grown(instance, before), f"grown from {before} to {vitals(instance)}"


@contextmanager
def nothing_left_behind(site: Site) -> Iterator[None]:
    """What both instances had before they have after the block, as soon as the site is calm again."""
    before = [(instance, vitals(instance)) for instance in site.instances]
    yield
    wait_until(site.is_calm, PATIENCE, "the site is calm again")
    for instance, its in before:
        leaves_nothing_behind(instance, its)

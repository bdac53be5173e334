"""Build and give up a directory of a million entities without holding up the event loop."""

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from sluicegate.core.directory import Directory

NEVER = 2**31 - 1
"""Younger collections after which an old one is due."""
STEP = 500
"""Entities let go at once: about a quarter of a millisecond."""
REST = 0.001
"""Seconds between two steps, for the other threads."""
IN_USE_LOOK = 0.25
IN_USE_LIMIT = 900.0
"""Seconds between two looks whether a request still uses the directory, and until its last user frees all at once."""


@contextmanager
def large_heap_expected() -> Iterator[None]:
    """Holds full garbage collections off while a directory is built, and exempts what is there then from all of them.

    Each would walk the whole of it, for a tenth of a second and more. Young garbage is collected as always; what is old
    garbage already goes first, for nothing that is exempt ever would.
    """
    gc.collect()
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)
    try:
        yield
        gc.freeze()
    finally:
        gc.set_threshold(young, middle, old)


def give_up(directory: Directory) -> None:
    """Frees the directory piece by piece in a thread, once nobody else uses it: all at once would take long.

    The caller must keep no reference.
    """
    threading.Thread(target=_free_slowly, args=([directory],), name="give-up-directory", daemon=True).start()


def _free_slowly(handed: list[Directory]) -> None:
    """Holds on to the entities, so that the end of the directory frees none of them, and lets them go afterwards."""
    directory = handed.pop()
    in_use = weakref.ref(directory)
    held = [list(table.values()) for table in vars(directory).values() if isinstance(table, dict)]
    del directory
    for _ in range(round(IN_USE_LIMIT / IN_USE_LOOK)):
        if in_use() is None:
            break
        time.sleep(IN_USE_LOOK)
    while held:
        entities = held.pop()
        while entities:
            del entities[-STEP:]
            time.sleep(REST)

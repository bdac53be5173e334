"""One site for the whole folder: starting it is what costs. Each test finds it calm, and must leave nothing behind.

A test takes `site`, begins `traffic`, makes a fault of `tests/faults/site.py`, and looks at what was answered:

    with nothing_left_behind(site), traffic() as seen:
        seen.calling(site.lasting.url, site.tokens.alice)
        with site.cluster.frozen():
            ...
    assert not failures(seen.seen())

A test that kills or restarts an instance, or replaces the database, makes a site of its own with `running_site`: others
rely on these two instances being the only ones known.
"""

from collections.abc import Iterator

import pytest

from tests.e2e.running import wait_until
from tests.faults.site import PATIENCE, Site, running_site


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory) as site:
        yield site


@pytest.fixture(scope="module")
def site(running: Site) -> Site:
    """Calm: what the module before has done is over."""
    wait_until(running.is_calm, PATIENCE, "the site is calm")
    return running

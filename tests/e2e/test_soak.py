"""Minutes of calls, refusals and revocations at once: `make soak`. What a short run shows must stay true for long."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.conftest import Stack
from tests.e2e.running import Caller, claims_of, wait_until, workers_of
from tests.e2e.test_bad_input import open_files, rss_mb

SECONDS = 180
CALLERS = 6
BOUND = 2.0
"""Seconds in which a revocation must be effective."""
MAY_GROW = 20
"""Megabytes of the worker, once it is warm."""


def churn(stack: Stack, until: float) -> None:
    """Calls that succeed, calls that must be refused, and lists, over connections of different ages."""
    endpoint = f"{stack.gateway.url}/mcp"
    while time.monotonic() < until:
        with Caller(endpoint, stack.tokens.alice) as alice, Caller(endpoint, stack.tokens.bob, modern=True) as bob:
            for _ in range(50):
                assert alice.text("clock__difference", earlier="2026-01-01", later="2026-01-02") == "86400.0"
                assert "unknown tool" in bob.call("clock__now").text
                assert "web__fetch" in bob.rpc("tools/list").text


def lag_of_a_revocation(stack: Stack) -> float:
    """Seconds from the answer of the revoking command until the token is refused."""
    token = stack.gateway.issue(stack.tokens.root, "alice@example.com")
    with Caller(f"{stack.gateway.url}/mcp", token) as caller:
        assert caller.rpc("tools/list").status_code == 200
        stack.gateway.cli("token", "revoke", claims_of(token)["jti"])
        return wait_until(lambda: caller.rpc("tools/list").status_code == 401, BOUND, "the token is refused")


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 120)
def test_minutes_of_churn_leave_nothing_behind_and_every_revocation_bites(stack):
    [worker] = workers_of(stack.gateway.pid)
    churn(stack, time.monotonic() + 10)  # warm
    memory, files = rss_mb(worker), open_files(worker)
    until = time.monotonic() + SECONDS
    lags = []
    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(churn, stack, until) for _ in range(CALLERS)]
        while time.monotonic() < until and not any(each.done() for each in callers):
            lags.append(lag_of_a_revocation(stack))
        for each in callers:
            each.result()
    assert max(lags) <= BOUND
    assert rss_mb(worker) - memory < MAY_GROW
    wait_until(lambda: open_files(worker) <= files + 8, 15, "the connections are closed")
    assert stack.gateway.metrics()['db_checkouts_total{owner="request"}'] == 0

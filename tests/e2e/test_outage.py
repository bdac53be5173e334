"""The database is gone: frozen, so that everything that waits for it hangs, or away, so that connecting is refused.

Two gateways work on one PostgreSQL behind a PgBouncer: one goes on for its 300 s, the other, strict, stops deciding. An
outage is lived through once; the tests look at what was seen.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import count

import httpx2
import pytest
from msgspec import Struct

from tests.e2e.conftest import Bouncer, Postgres, Stack
from tests.e2e.running import Caller, Gateway, Tokens, http, serving, wait_until

BOUND = 2.0
"""Seconds that a directory is trusted without a poll."""
WITHIN = 3.0
"""Seconds from the loss until a strict gateway refuses: the bound, 0.25 s of waiting, and a busy machine."""
SWIFT = 1.5
"""Seconds for a call while the database hangs; on an idle machine it takes some milliseconds."""
OUTAGE = 2
"""`authz_state` as a number."""
PATIENCE = 20.0
WAYS: dict[str, Callable[[Bouncer], AbstractContextManager[None]]] = {"frozen": Bouncer.frozen, "away": Bouncer.away}
slugs = (f"made-in-an-outage-{number}" for number in count())


class Call(Struct, frozen=True):
    """One `tools/call`: when it was sent and how long it took, in seconds, and the answer."""

    at: float
    took: float
    answer: httpx2.Response


class Witness:
    """Asks one gateway all it can be asked."""

    def __init__(self, gateway: Gateway, tokens: Tokens) -> None:
        self._gateway = gateway
        self._admin = http(tokens.root)
        self._caller = Caller(f"{gateway.url}/mcp", tokens.alice)

    def call(self) -> Call:
        began = time.monotonic()
        answer = self._caller.call("clock__now")
        return Call(began, time.monotonic() - began, answer)

    def read(self) -> httpx2.Response:
        return self._admin.get(f"{self._gateway.url}/v1/upstreams/clock")

    def write(self) -> httpx2.Response:
        return self._admin.post(f"{self._gateway.url}/v1/teams", json={"slug": next(slugs), "name": "Late"})

    def ready(self) -> httpx2.Response:
        return self._admin.get(f"{self._gateway.url}/ready")

    def is_fresh(self) -> bool:
        answer = self.ready()
        return answer.status_code == 200 and answer.json()["authorization"] == "fresh"

    def metric(self, name: str) -> float:
        return self._gateway.metrics().get(name, 0)


class Seen(Struct, frozen=True):
    """What one gateway did; `calls` are all from the loss of the database to its return."""

    calls: list[Call]
    read: httpx2.Response
    writes: list[httpx2.Response]
    ready: httpx2.Response
    written_after: httpx2.Response
    called_after: Call


class Story(Struct, frozen=True):
    """An outage that began at the instant `began`; the early write was sent before the gateway could know of it."""

    began: float
    early_write: httpx2.Response
    lasting: Seen
    strict: Seen


@pytest.fixture(scope="module")
def strict_gateway(postgres_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A second instance, that does not go on without the database."""
    settings = dict(postgres_stack.gateway.environment) | {"SLUICEGATE_OUTAGE_BOUND": "0"}
    with serving(tmp_path_factory.mktemp("strict"), settings) as second:
        yield second


@pytest.fixture(scope="module", params=WAYS)
def story(request: pytest.FixtureRequest, postgres: Postgres, postgres_stack: Stack, strict_gateway: Gateway) -> Story:
    both = [Witness(gateway, postgres_stack.tokens) for gateway in (postgres_stack.gateway, strict_gateway)]
    lasting, strict = both
    for witness in both:
        wait_until(witness.is_fresh, PATIENCE, "all is well at first")
        assert witness.call().answer.status_code == 200
    calls: dict[Witness, list[Call]] = {witness: [] for witness in both}

    def outage_has_shown() -> bool:
        for witness in both:
            calls[witness].append(witness.call())
        return lasting.metric("authz_state") == OUTAGE and calls[strict][-1].answer.status_code != 200

    with WAYS[request.param](postgres.bouncer):
        began = time.monotonic()
        early_write = lasting.write()
        wait_until(outage_has_shown, PATIENCE, "both know that the database is gone")
        met = {each: (each.read(), [each.write(), each.write()], each.ready()) for each in both}
        for _ in range(10):
            outage_has_shown()
    for witness in both:
        wait_until(witness.is_fresh, PATIENCE, "all is well again")
    seen = {each: Seen(calls[each], *met[each], each.write(), each.call()) for each in both}
    assert all(each.metric('db_checkouts_total{owner="request"}') == 0 for each in both)
    return Story(began, early_write, seen[lasting], seen[strict])


def test_calls_and_reads_go_on(story: Story) -> None:
    assert {call.answer.status_code for call in story.lasting.calls} == {200}
    assert all("result" in call.answer.json() for call in story.lasting.calls)
    assert max(call.took for call in story.lasting.calls) < SWIFT
    assert story.lasting.read.status_code == 200


def test_answers_say_how_old_what_decided_them_is_and_that_there_is_an_outage(story: Story) -> None:
    last = story.lasting.calls[-1].answer
    for answer in (last, story.lasting.read):
        assert float(answer.headers["sluicegate-authz-age"]) > BOUND
        assert answer.headers["sluicegate-authz-state"] == "outage"
    after = story.lasting.called_after.answer
    assert float(after.headers["sluicegate-authz-age"]) <= BOUND
    assert "sluicegate-authz-state" not in after.headers


def test_writes_answer_503_and_say_when_to_try_again(story: Story) -> None:
    early, later = story.early_write, story.lasting.writes
    assert (early.status_code, early.json()["code"]) == (503, "database_unavailable")
    assert [(answer.status_code, answer.json()["code"]) for answer in later] == [(503, "authz_stale")] * 2
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in (early, *later))


def test_the_gateway_stays_ready_and_says_that_there_is_an_outage(story: Story) -> None:
    assert (story.lasting.ready.status_code, story.lasting.ready.json()["authorization"]) == (200, "outage")


def test_a_strict_gateway_refuses_after_the_bound_with_a_503_of_its_own_code(story: Story) -> None:
    refused = [call for call in story.strict.calls if call.answer.status_code != 200]
    assert BOUND / 2 < refused[0].at + refused[0].took - story.began < WITHIN
    for call in refused:
        assert (call.answer.status_code, call.answer.json()["code"]) == (503, "authz_stale")
        assert int(call.answer.headers["retry-after"]) >= 1
    assert refused == story.strict.calls[-len(refused) :], "once it refuses it does not go back"


def test_a_strict_gateway_refuses_reads_and_writes_too_and_is_not_ready(story: Story) -> None:
    for answer in (story.strict.read, *story.strict.writes, story.strict.ready):
        assert (answer.status_code, answer.json()["code"]) == (503, "authz_stale")
        assert int(answer.headers["retry-after"]) >= 1


def test_all_is_well_when_the_database_is_back(story: Story) -> None:
    for seen in (story.lasting, story.strict):
        assert seen.written_after.status_code == 201, seen.written_after.text
        assert seen.called_after.answer.status_code == 200

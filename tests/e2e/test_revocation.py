"""What is taken away is gone on every instance within two seconds of the commit, and what is given works at once.

Two instances follow the same database: the stack's, with one worker, and one with two. How long it took is printed.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path

import httpx2
import pytest
from msgspec import Struct

from tests.e2e.forging import forged
from tests.e2e.running import (
    CLI,
    Caller,
    Gateway,
    Tokens,
    claims_of,
    has_ended_well,
    http,
    serving,
    wait_until,
    workers_of,
)
from tests.e2e.wire import post, sent

BOUND = 2.0
"""Seconds, as promised."""
PATIENCE = 30.0
PAUSE = 0.02
"""Seconds between two calls, so that the command that makes the change gets some of the processor."""
ALL_HAVE_REFUSED = 12
"""Connections that were refused one after the other: each lands on any of an instance's workers."""
numbers = count()


@pytest.fixture(scope="module")
def two_workers(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A second instance on the stack's database, with the same public URL."""
    with serving(tmp_path_factory.mktemp("two-workers"), gateway.environment, "--workers", "2") as second:
        yield second


@pytest.fixture
def instances(gateway: Gateway, two_workers: Gateway) -> list[Gateway]:
    return [gateway, two_workers]


class Person(Struct, frozen=True):
    """A developer in payments who has just been made, and a token."""

    email: str
    token: str


@pytest.fixture
def person(gateway: Gateway, tokens: Tokens) -> Person:
    email = f"person-{next(numbers)}@example.com"
    with http(tokens.root) as admin:
        admin.post(f"{gateway.url}/v1/users", json={"email": email}).raise_for_status()
        membership = f"{gateway.url}/v1/teams/payments/members/{email}"
        admin.put(membership, json={"role": "developer"}).raise_for_status()
    return Person(email, gateway.issue(tokens.root, email))


def call_now(instance: Gateway, token: str) -> httpx2.Response:
    """One call of a payments tool, over a connection of its own."""
    with Caller(f"{instance.url}/mcp", token) as caller:
        return caller.call("clock__now")


def is_allowed(answer: httpx2.Response) -> bool:
    return answer.status_code == 200 and "result" in answer.json()


def is_allowed_everywhere(instance: Gateway, token: str) -> bool:
    return all(is_allowed(call_now(instance, token)) for _ in range(4))


def last_allowed(instance: Gateway, token: str) -> float:
    """The instant of the last call that was let through, seen by calling until everybody refuses."""
    last, refusals, began = time.monotonic(), 0, time.monotonic()
    while refusals < ALL_HAVE_REFUSED:
        sent = time.monotonic()
        assert sent - began < PATIENCE, "it is never refused"
        allowed = is_allowed(call_now(instance, token))
        last, refusals = (sent, 0) if allowed else (last, refusals + 1)
        time.sleep(PAUSE)
    return last


def allows(instance: Gateway, token: str) -> bool:
    return is_allowed(call_now(instance, token))


class Watch:
    """Calls on every instance, from before a change until all have refused."""

    def __init__(self, instances: list[Gateway], token: str) -> None:
        for instance in instances:
            # of the user, the role and the token this instance may know some and not yet others
            wait_until(partial(allows, instance, token), BOUND, "it is allowed at first")
        self._pool = ThreadPoolExecutor(len(instances))
        self._seen = [self._pool.submit(last_allowed, instance, token) for instance in instances]

    def lag_after(self, committed: float, what: str) -> float:
        """Seconds from the commit to the last call that was let through; printed."""
        lag = max(0.0, *(seen.result(PATIENCE) - committed for seen in self._seen))
        self._pool.shutdown()
        print(f"{what}: effective {lag * 1000:.0f} ms after the commit")
        return lag


def committed_by(gateway: Gateway, *arguments: str) -> float:
    """Runs a command; the instant at which it began to say what it had done, which is right after the commit."""
    with subprocess.Popen(
        [*CLI, *arguments], env={**os.environ, **gateway.environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        committed = time.monotonic()
        process.stdout.read()
    assert process.returncode == 0
    return committed


def test_a_token_that_the_command_line_revokes(gateway: Gateway, instances: list[Gateway], person: Person) -> None:
    watch = Watch(instances, person.token)
    committed = committed_by(gateway, "token", "revoke", claims_of(person.token)["jti"])
    assert watch.lag_after(committed, "token revoke") <= BOUND
    assert call_now(gateway, person.token).status_code == 401
    assert call_now(gateway, person.token).json()["code"] == "token_revoked"


def test_a_membership_that_apply_removes(
    gateway: Gateway, instances: list[Gateway], person: Person, tmp_path: Path
) -> None:
    watch = Watch(instances, person.token)
    file = tmp_path / "leaver.yaml"
    file.write_text(f"users: [{{email: {person.email}, teams: {{}}}}]\n")
    committed = committed_by(gateway, "apply", str(file))
    assert watch.lag_after(committed, "apply without the membership") <= BOUND
    answer = call_now(gateway, person.token)
    assert (answer.status_code, answer.json()["error"]["message"]) == (200, "unknown tool: clock__now")


def test_a_user_whom_the_api_disables(
    gateway: Gateway, instances: list[Gateway], person: Person, tokens: Tokens
) -> None:
    watch = Watch(instances, person.token)
    with http(tokens.root) as admin:
        answer = admin.patch(f"{gateway.url}/v1/users/{person.email}", json={"active": False})
    committed = time.monotonic()
    assert answer.status_code == 200
    assert not is_allowed(call_now(gateway, person.token)), "the instance that made the change knows it at once"
    assert watch.lag_after(committed, "PATCH of the user") <= BOUND
    assert call_now(gateway, person.token).json()["code"] == "user_inactive"


@contextmanager
def asleep(workers: list[int]) -> Iterator[None]:
    """They see nothing of what happens meanwhile, as on a machine that is suspended."""
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


def call_of(token: str) -> bytes:
    """A call of a payments tool."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"clock__now","arguments":{}}}'
    return post(body, f"Authorization: Bearer {token}")


def test_an_instance_that_slept_through_a_revocation_does_not_let_it_pass(
    gateway: Gateway, two_workers: Gateway, person: Person, tokens: Tokens
) -> None:
    """Its directory is old when it wakes up, and requests are there already: they have to wait for the poll."""
    with ExitStack() as waiting:
        with asleep(workers_of(two_workers.pid)):
            with http(tokens.root) as admin:
                token_id = claims_of(person.token)["jti"]
                admin.post(f"{gateway.url}/v1/tokens/{token_id}/revoke").raise_for_status()
            committed = time.monotonic()
            wait_until(lambda: time.monotonic() > committed + BOUND, 2 * BOUND, "the bound has passed")
            answers = [waiting.enter_context(sent(two_workers.port, call_of(person.token))) for _ in range(8)]
        assert [answer().status for answer in answers] == [401] * 8


def test_a_user_and_a_token_made_by_the_command_line_work_at_the_first_request(
    gateway: Gateway, two_workers: Gateway, tmp_path: Path
) -> None:
    with ExitStack() as waiting:
        with asleep(workers_of(two_workers.pid)):
            gateway.apply(tmp_path, "users: [{email: newcomer@example.com, teams: {payments: developer}}]\n")
            token = gateway.token("newcomer@example.com", "--team", "payments")
            answers = [waiting.enter_context(sent(two_workers.port, call_of(token))) for _ in range(8)]
        assert ["result" in answer().json for answer in answers] == [True] * 8


def test_a_user_made_on_one_instance_works_on_another_at_the_first_request(
    gateway: Gateway, two_workers: Gateway, tokens: Tokens
) -> None:
    """Their polls are 250 ms apart, and the request comes much sooner: most of these wait for the next poll."""
    with http(tokens.root) as admin:
        for _ in range(6):
            email = f"person-{next(numbers)}@example.com"
            made = admin.post(f"{gateway.url}/v1/users", json={"email": email}).raise_for_status().json()
            token = forged({"sub": made["id"], "jti": f"tok_of_{made['id']}"})(gateway, tokens)
            with Caller(f"{two_workers.url}/mcp", token) as caller:
                assert "A sluice is a gate" in caller.text("web__fetch", url="https://example.com/")


def test_each_of_two_workers_gives_the_same_answers_and_metrics_are_their_sum(
    two_workers: Gateway, tokens: Tokens
) -> None:
    answered = 'http_requests_total{entrance="mcp",status="2xx"}'
    before = two_workers.metrics().get(answered, 0)
    first, second = workers_of(two_workers.pid)
    told = []
    for other in (first, second):
        with asleep([other]), Caller(f"{two_workers.url}/mcp", tokens.alice) as caller:
            connect_to_one_that_is_awake(caller.http, two_workers)
            told.append([caller.rpc("tools/list").text, caller.text("clock__now")[:11]])
    assert told[0] == told[1]
    for _ in range(4):  # each of them, whoever answers
        samples = two_workers.metrics()
        assert samples[answered] == before + 4
        assert samples['db_checkouts_total{owner="request"}'] == 0


def connect_to_one_that_is_awake(client: httpx2.Client, gateway: Gateway) -> None:
    """The kernel gives each new connection to any worker; this one is kept."""

    def is_answered() -> bool:
        try:
            return client.get(f"{gateway.url}/health", timeout=0.5).status_code == 200
        except httpx2.TimeoutException:
            return False

    wait_until(is_answered, PATIENCE, "a worker that is awake answers")


def test_ctrl_c_ends_the_process_with_code_0_and_leaves_no_child(two_workers: Gateway, tokens: Tokens) -> None:
    """The last test of the module: the instance is gone afterwards. SIGTERM is how every other one ends."""
    with Caller(f"{two_workers.url}/mcp", tokens.alice) as idle:  # a client that keeps its connection open
        assert idle.text("clock__now")
        os.killpg(two_workers.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        has_ended_well(two_workers)

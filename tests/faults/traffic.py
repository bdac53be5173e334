"""Traffic that never stops: callers, each in a thread of its own, that note every answer and go on whatever it is."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count
from math import inf
from threading import Event, Lock

import httpx2
from msgspec import Struct

from tests.e2e.running import Caller, http

PAUSE = 0.04
"""Seconds between an answer and the next request of the same caller: enough traffic, and room for what is tested."""
NO_ANSWER_WITHIN = 10.0
"""Seconds after which a caller gives up on an answer and notes that."""
LONGEST = 120.0
"""Seconds after which traffic ends by itself."""
NO_ANSWER = 0
"""The status of a request that got none."""
slugs = (f"made-under-fault-{number}" for number in count())


class Sort(StrEnum):
    CALL = "call"
    """`tools/call` of a tool of alice's team."""
    LIST = "list"
    """`tools/list`"""
    READ = "read"
    """REST, an object"""
    WRITE = "write"
    """REST, a new team"""


DATA_PLANE = (Sort.CALL, Sort.LIST, Sort.READ)


class Answered(Struct, frozen=True):
    """One request: when it was sent and how long it took, in seconds of `time.monotonic`, and what came back.

    `code` is that of a problem or of a JSON-RPC error, the kind of the failure where no answer came, or empty.
    """

    sort: Sort
    sent: float
    took: float
    status: int
    code: str = ""
    retry_after: str = ""
    age: float | None = None
    """`Sluicegate-Authz-Age`, where the answer has it."""

    @property
    def done(self) -> float:
        return self.sent + self.took

    @property
    def well(self) -> bool:
        """What was asked for was given."""
        return self.status in (200, 201) and not self.code

    @property
    def confirmed_after(self) -> float:
        """The earliest instant at which the directory that decided can have been confirmed."""
        assert self.age is not None, f"no Sluicegate-Authz-Age: {self}"
        return self.sent - self.age


Ask = Callable[[], httpx2.Response]


class Traffic:
    """All answers so far, by whoever asked. Callers are added until the traffic ends."""

    def __init__(self, at_most: float = LONGEST) -> None:
        self._answers: list[Answered] = []
        self._lock = Lock()
        self._enough = Event()
        self._until = time.monotonic() + at_most
        self._pool = ThreadPoolExecutor(thread_name_prefix="traffic", max_workers=32)
        self._callers: list[Future[None]] = []

    def calling(self, url: str, token: str, tool: str = "clock__now") -> None:
        """Adds a caller of a tool."""
        caller = Caller(f"{url}/mcp", token)
        self._begin(Sort.CALL, caller.http, lambda: caller.call(tool))

    def listing(self, url: str, token: str) -> None:
        """Adds a caller of `tools/list`."""
        caller = Caller(f"{url}/mcp", token)
        self._begin(Sort.LIST, caller.http, lambda: caller.rpc("tools/list"))

    def reading(self, url: str, token: str, path: str = "/v1/upstreams/clock") -> None:
        """Adds a reader over REST."""
        client = http(token)
        self._begin(Sort.READ, client, lambda: client.get(url + path))

    def writing(self, url: str, admin: str) -> None:
        """Adds a writer over REST, who makes one team after the other."""
        client = http(admin)
        self._begin(Sort.WRITE, client, lambda: _new_team(client, url))

    def everything(self, url: str, token: str, admin: str) -> None:
        """Adds one of each sort."""
        self.calling(url, token)
        self.listing(url, token)
        self.reading(url, admin)
        self.writing(url, admin)

    def seen(self, *sorts: Sort, since: float = -inf, until: float = inf) -> Sequence[Answered]:
        """The answers of these sorts to requests that were sent in the time, oldest first."""
        with self._lock:
            answers = list(self._answers)
        chosen = (each for each in answers if each.sort in (sorts or Sort) and since <= each.sent < until)
        return sorted(chosen, key=lambda each: each.sent)

    def end(self) -> None:
        """Lets each caller take its last answer. Raises what went wrong in one, but for answers that did not come."""
        self._enough.set()
        self._pool.shutdown()
        for caller in self._callers:
            caller.result()

    def _begin(self, sort: Sort, client: httpx2.Client, ask: Ask) -> None:
        client.timeout = httpx2.Timeout(NO_ANSWER_WITHIN)
        self._callers.append(self._pool.submit(self._go_on, sort, client, ask))

    def _go_on(self, sort: Sort, client: httpx2.Client, ask: Ask) -> None:
        with client:
            while time.monotonic() < self._until and not self._enough.is_set():
                answer = answered(sort, ask)
                with self._lock:
                    self._answers.append(answer)
                self._enough.wait(PAUSE)


@contextmanager
def traffic(at_most: float = LONGEST) -> Iterator[Traffic]:
    """Traffic that has ended, for good or ill, when the block is left."""
    made = Traffic(at_most)
    try:
        yield made
    finally:
        made.end()


def write_now(url: str, admin: str) -> Answered:
    """One change over REST, on a connection of its own."""
    with http(admin) as client:
        client.timeout = httpx2.Timeout(NO_ANSWER_WITHIN)
        return answered(Sort.WRITE, lambda: _new_team(client, url))


def answered(sort: Sort, ask: Ask) -> Answered:
    """Asks once, and notes it."""
    sent = time.monotonic()
    try:
        answer = ask()
    except httpx2.TransportError as failure:
        return Answered(sort, sent, time.monotonic() - sent, NO_ANSWER, type(failure).__name__)
    took, age = time.monotonic() - sent, answer.headers.get("sluicegate-authz-age")
    return Answered(
        sort,
        sent,
        took,
        answer.status_code,
        _code(answer),
        answer.headers.get("retry-after", ""),
        None if age is None else float(age),
    )


def failures(answers: Sequence[Answered]) -> list[str]:
    """What was refused or went wrong, for people; empty when all is well."""
    return [f"{each.sort} at {each.sent:.2f}: {each.status} {each.code}" for each in answers if not each.well]


def last_well(answers: Sequence[Answered]) -> float:
    """When the last request was sent that was granted."""
    return max((each.sent for each in answers if each.well), default=-inf)


def _new_team(client: httpx2.Client, url: str) -> httpx2.Response:
    return client.post(f"{url}/v1/teams", json={"slug": next(slugs), "name": "Late"})


def _code(answer: httpx2.Response) -> str:
    content: object = None
    with suppress(json.JSONDecodeError):
        content = answer.json()
    if not isinstance(content, dict):
        return "" if answer.is_success else "no problem document"
    error = content.get("error", content if not answer.is_success else {})
    return str(error.get("code", ""))

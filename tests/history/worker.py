"""A process that decides as a gateway's worker does: the real feed, lease, authenticator, routing and policy.

Only HTTP and upstreams are left out. The order of things is that of `web/token_scoping.py` and `web/mcp_endpoint.py`:
lease, token, then the body arrives, lease again, then route and decision without an `await`.
"""

import asyncio
import signal
import time
from pathlib import Path

from msgspec import Struct

from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.auth.key_files import load_or_create_keys
from sluicegate.auth.tokens import JwtIssuer, JwtVerifier
from sluicegate.core.errors import AuthorizationStale, Unauthenticated
from sluicegate.core.identity import Principal, TokenId, UpstreamId
from sluicegate.core.lease import LeaseState
from sluicegate.core.policy import decide
from sluicegate.core.routing import MERGED, tool_at
from sluicegate.ports import IssuedClaims
from sluicegate.store import open_database
from sluicegate.usecases.calling import Caller
from sluicegate.usecases.follow_feed import DirectoryFeed
from tests.history.plans import LEASE, WorkerPlan
from tests.history.records import Decided, Journal, Refused, boot_time
from tests.history.scripts import ASKED, EXPIRES, ISSUED, Question, answer_of

ISSUER = "http://127.0.0.1:4444"
REQUESTS = 2
"""Requests that a worker has on their way at a time."""


class NotingClock:
    """The machine's clocks; it remembers what the last one to ask for the boot time was told."""

    def __init__(self) -> None:
        self.told = 0.0

    def wall(self) -> float:
        return time.time()

    def boot(self) -> float:
        self.told = boot_time()
        return self.told


class Checked(Struct, frozen=True):
    """What the lease said, and the very reading of the clock by which it did."""

    at: float
    state: LeaseState


class Desk:
    """Where one worker answers questions and notes its answers."""

    def __init__(self, name: str, feed: DirectoryFeed, clock: NotingClock, journal: Journal) -> None:
        self._name = name
        self._feed = feed
        self._clock = clock
        self._journal = journal

    async def lease(self) -> Checked:
        """Passes as a request does, or raises AuthorizationStale. Good until the next `await`."""
        if self._feed.fresh:
            return Checked(self._clock.told, LeaseState.FRESH)
        await self._feed.ensure_current()
        told = self._clock.told  # nothing has run since it looked at the lease
        if self._feed.state is LeaseState.FRESH:
            return Checked(self._clock.told, LeaseState.FRESH)
        return Checked(told, LeaseState.OUTAGE)

    def caller(self, principal: Principal) -> Caller:
        """The principal in the world of this moment."""
        return Caller(principal, self._feed.directory, self._clock.wall())

    def note(self, checked: Checked, question: Question, answer: str) -> None:
        """Writes an answer down; to be called before the next `await`."""
        age = self._feed.age
        assert age is not None, "decided without a directory"
        revision = self._feed.directory.revision
        self._journal.note(Decided(self._name, checked.at, checked.state, question.name, answer, revision, age))

    def refuse(self) -> None:
        """Writes down that nothing was decided."""
        self._journal.note(Refused(self._name, self._clock.boot()))


class Door:
    """Turns token ids into principals, by way of signed tokens."""

    def __init__(self, keys: Path, feed: DirectoryFeed, clock: NotingClock) -> None:
        known = load_or_create_keys(keys)
        self._issuer = JwtIssuer(known, ISSUER, ISSUER)
        verifier = JwtVerifier(known, ISSUER, ISSUER, float(EXPIRES))
        self._authenticator = DirectoryAuthenticator(verifier, lambda: feed.directory, clock)
        self._texts: dict[TokenId, str] = {}

    def principal(self, question: Question, token: int = 0) -> Principal:
        """The principal of the question's token. Raises Unauthenticated."""
        token_id = question.tokens[token]
        if token_id not in self._texts:
            claims = IssuedClaims(question.user_id, token_id, ISSUED, EXPIRES, None, None, None)
            self._texts[token_id] = self._issuer.issue(claims)
        return self._authenticator.authenticate(self._texts[token_id])


class Asking:
    """Asks one worker all questions, again and again."""

    def __init__(self, desk: Desk, door: Door, questions: list[Question]) -> None:
        self._desk = desk
        self._door = door
        self._once = [question for question in questions if len(question.tokens) == 1]
        self._counted = [question for question in questions if len(question.tokens) > 1]
        self._revoked = dict.fromkeys((question.name for question in self._counted), 0)

    async def round(self) -> None:
        """One request for each question, side by side, so that they share their looks at the lease."""
        try:
            admitted = self._admitted(await self._desk.lease())
            await asyncio.sleep(0)  # here a request reads its body
            checked = await self._desk.lease()
        except AuthorizationStale:
            self._desk.refuse()
            return
        for question, principal in admitted:
            self._desk.note(checked, question, answered(self._desk.caller(principal), question))
        for question in self._counted:
            self._desk.note(checked, question, f"{self._count(question)} revoked")

    def _admitted(self, checked: Checked) -> list[tuple[Question, Principal]]:
        admitted = []
        for question in self._once:
            try:
                admitted.append((question, self._door.principal(question)))
            except Unauthenticated as refusal:
                self._desk.note(checked, question, refusal.code)
        return admitted

    def _count(self, question: Question) -> int:
        """How many of the question's tokens are refused as revoked: they are revoked in their order."""
        revoked = self._revoked[question.name]
        while revoked < len(question.tokens) and self._is_revoked(question, revoked):
            revoked += 1
        self._revoked[question.name] = revoked
        return revoked

    def _is_revoked(self, question: Question, token: int) -> bool:
        try:
            caller = self._desk.caller(self._door.principal(question, token))
            return answered(caller, question) == "token_revoked"
        except Unauthenticated as refusal:
            return refusal.code == "token_revoked"


def answered(caller: Caller, question: Question) -> str:
    """The reasons of the question's decisions and where a call would go, or the code by which the caller is refused."""
    try:
        caller.require_live()
    except Unauthenticated as refusal:
        return refusal.code
    tool = tool_at(MERGED, question.tool, caller.directory)
    if tool is None:
        return "no such tool"
    made = [decide(caller.principal, permission, tool, caller.directory, caller.at) for permission in ASKED]
    return answer_of(" ".join(each.reason for each in made), caller.directory.upstreams[tool.upstream_id].url)


async def decide_on(plan: WorkerPlan, questions: list[Question]) -> None:
    """Decides until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    journal = Journal(Path(plan.journal))
    clock = NotingClock()
    database = open_database(plan.url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    feed = DirectoryFeed(database.feed_source(), clock, LEASE, _forget)
    desk, door = Desk(plan.name, feed, clock, journal), Door(Path(plan.keys), feed, clock)

    async def ask() -> None:
        asking = Asking(desk, door, questions)
        while not ended.is_set():
            await asking.round()
            journal.flush()
            await asyncio.sleep(plan.pause)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(feed.run())
        asked = [tasks.create_task(ask()) for _ in range(REQUESTS)]
        await asyncio.wait(asked)
        following.cancel()
    database.close()
    journal.close()


async def _forget(_: UpstreamId) -> None:
    """Where the gateway closes connections, others get a turn."""
    await asyncio.sleep(0)

"""What the demo shows, act by act. Each act checks what it promises; SluicegateError says what did not hold."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sluicegate import bootstrap
from sluicegate.bootstrap import Administration
from sluicegate.cli import apply, demo_client
from sluicegate.cli.explain import rendered
from sluicegate.cli.token import end, issue
from sluicegate.core.catalog import Era, Token
from sluicegate.core.errors import SluicegateError
from sluicegate.core.permissions import Permission
from sluicegate.settings import Settings
from sluicegate.usecases.apply_form import Declaration
from sluicegate.usecases.explain import Question, ToolNamed, explain
from sluicegate.usecases.manage_tokens import TokenRequest

FOLLOWS_WITHIN = 5.0
"""Seconds that the gateway gets to follow a change; it takes 0.25."""
LIFETIME = 30 * 86400
"""Seconds that the tokens are good for: who keeps the demo running pastes one into a client."""
CLOCK = ["clock__add", "clock__difference", "clock__now"]
WEB = ["web__fetch", "web__search"]
PAGE = {"url": "https://example.com/"}


class Cast(Struct, frozen=True):
    """Tokens of the three users, and one of alice's that is narrowed to what is public."""

    alice: tuple[Token, str]
    narrowed: tuple[Token, str]
    bob: tuple[Token, str]
    root: tuple[Token, str]


class Stage(Struct, frozen=True):
    """A gateway that serves at `origin`, and where to tell the story."""

    origin: str
    settings: Settings
    console: Console

    @property
    def merged(self) -> str:
        """The endpoint with all tools."""
        return f"{self.origin}/mcp"

    def say(self, text: str) -> None:
        self.console.print(f"\n[bold]{escape(text)}[/bold]")

    def show(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


async def set_up(stage: Stage, declaration: Declaration) -> Cast:
    """Applies the file, and issues the tokens while the gateway serves; returns when the gateway has followed."""
    async with bootstrap.administration(stage.settings) as admin:
        applied = await apply.carry_out(admin, declaration)
        stage.show(apply.report(applied))
        _require(not apply.warnings(applied), "; ".join(apply.warnings(applied)))
    async with bootstrap.administration(stage.settings) as admin:
        eras = {upstream.slug: upstream.era for upstream in admin.directory.upstreams.values()}
        _require(eras == {"clock": Era.LEGACY, "web": Era.MODERN}, f"one upstream was to speak each era, not {eras}")
        cast = Cast(
            alice=await issue(admin, "alice@example.com", _asked("alice's laptop")),
            narrowed=await issue(admin, "alice@example.com", _asked("alice's public one", teams=())),
            bob=await issue(admin, "bob@example.com", _asked("bob's laptop")),
            root=await issue(admin, "root@example.com", _asked("root's laptop")),
        )
        revision = (await admin.reload()).revision
    await _followed(stage, revision)
    return cast


async def tell(stage: Stage, cast: Cast) -> None:
    """The whole story."""
    await _what_each_token_lists(stage, cast)
    await _an_allowed_call(stage, cast)
    await _a_refused_call(stage, cast)
    await _a_revocation(stage, cast)
    await _the_count(stage)


async def _what_each_token_lists(stage: Stage, cast: Cast) -> None:
    stage.say("What each token lists, by the official Python SDK's client")
    support = f"{stage.origin}/servers/support/mcp"
    rows = [
        ("alice, developer in payments", "/mcp", cast.alice, stage.merged, [*CLOCK, *WEB]),
        ("alice, token without teams", "/mcp", cast.narrowed, stage.merged, WEB),
        ("bob, developer in research", "/mcp", cast.bob, stage.merged, WEB),
        ("root, platform admin", "/mcp", cast.root, stage.merged, [*CLOCK, *WEB]),
        ("alice, developer in payments", "/servers/support/mcp", cast.alice, support, [*_short(CLOCK), "read_page"]),
    ]
    table = Table("token", "endpoint", "tools")
    for number, (whose, path, (_, token), url, expected) in enumerate(rows):
        mode = demo_client.LEGACY if number % 2 else demo_client.MODERN
        found = await demo_client.listed(url, token, mode)
        table.add_row(whose, path, ", ".join(found))
        _require(found == sorted(expected), f"{whose} was to list {expected} at {path}, not {found}")
    stage.console.print(table)


async def _an_allowed_call(stage: Stage, cast: Cast) -> None:
    stage.say("alice calls; each upstream is spoken to in its own era, and web gets a credential that alice never sees")
    for tool, arguments in (("clock__now", {}), ("web__fetch", PAGE)):
        answer = await demo_client.called(stage.merged, cast.alice[1], tool, arguments)
        _require(bool(answer.text) and not answer.refused, f"alice was to be allowed {tool}: {answer.text}")
        stage.show([f"{tool} -> {answer.text}"])


async def _a_refused_call(stage: Stage, cast: Cast) -> None:
    stage.say("bob calls clock__now: to him it does not exist, and the operator can ask why")
    answer = await demo_client.called(stage.merged, cast.bob[1], "clock__now", {})
    _require(answer.refused, f"bob was to be refused, and got: {answer.text}")
    stage.show([f"clock__now -> {answer.text}", "$ sluicegate explain --token-file bob --tool clock__now"])
    async with bootstrap.administration(stage.settings) as admin:
        question = Question(cast.bob[1], ToolNamed("clock__now"), Permission.TOOLS_CALL)
        found = explain(question, admin.authenticator, admin.directory, admin.clock.wall())
        stage.show(rendered(found, admin.directory))
    _require(found.deciding is not None, "the explanation was to name the clause that objects")


async def _a_revocation(stage: Stage, cast: Cast) -> None:
    stage.say("root revokes alice's token while it is calling")
    row, token = cast.alice
    async with bootstrap.administration(stage.settings) as admin:
        milliseconds, calls = await _until_refused(admin, stage, row, token)
    bound = stage.settings.revocation_bound * 1000
    stage.show([f"refused {milliseconds:.0f} ms after the commit (promised: {bound:.0f}), at call {calls}"])
    _require(milliseconds <= bound, "the revocation was to bite sooner")


async def _until_refused(admin: Administration, stage: Stage, row: Token, token: str) -> tuple[float, int]:
    """Milliseconds from the commit of the revocation to the first 401, and how many calls were made until then."""
    caller = demo_client.Caller(stage.merged, token, "clock__now", {})
    try:
        _require(await caller.status() == 200, "the token was to be good before it is revoked")
        revocation = asyncio.create_task(_committed_at(admin, row))
        async with _within(FOLLOWS_WITHIN, "a revoked token was to be refused"):
            calls = 2
            while (status := await caller.status()) == 200:
                calls += 1
        refused_at = time.perf_counter()
        _require(status == 401, f"a revoked token was to be answered with 401, not {status}")
        return max(0.0, refused_at - await revocation) * 1000, calls
    finally:
        await caller.close()


async def _committed_at(admin: Administration, row: Token) -> float:
    await end(admin, row.id)
    return time.perf_counter()


async def _the_count(stage: Stage) -> None:
    stage.say("What all this took from the database")
    samples = await demo_client.metrics(stage.origin)
    answered = sum(value for series, value in samples.items() if series.startswith("http_requests_total"))
    taken = samples["db_checkouts_total{owner=request}"]
    stage.show([f"{answered:.0f} requests answered, {taken:.0f} database checkouts made by requests"])
    _require(taken == 0, "no request was to take a database connection")


async def _followed(stage: Stage, revision: int) -> None:
    """Returns when the gateway's directory stands at `revision`."""
    async with _within(FOLLOWS_WITHIN, "the gateway was to follow the database"):
        while (await demo_client.metrics(stage.origin)).get("authz_revision", 0) < revision:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _within(seconds: float, promise: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        _require(False, f"{promise} within {seconds:.0f} s")


def _asked(name: str, teams: tuple[str, ...] | None = None) -> TokenRequest:
    return TokenRequest(name=name, expires_in=LIFETIME, teams=teams, servers=None, permissions=None)


def _short(names: list[str]) -> list[str]:
    return [name.partition("__")[2] for name in names]


def _require(held: bool, promise: str) -> None:
    if not held:
        raise SluicegateError(f"the demo did not come out as promised: {promise}")

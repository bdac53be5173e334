"""`sluicegate apply FILE.yaml`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from sluicegate.bootstrap import Administration
from sluicegate.cli.administer import administer
from sluicegate.cli.declaration import read_declaration
from sluicegate.core.catalog import Upstream
from sluicegate.core.errors import SluicegateError
from sluicegate.usecases.apply_declaration import ApplyDeclaration, Effect, Outcome
from sluicegate.usecases.apply_form import Declaration
from sluicegate.usecases.sync_upstream import SyncReport

AT_ONCE = 8
"""Upstreams that are synchronised at the same time."""


class Synchronised(Struct, frozen=True):
    """How the synchronisation of one upstream ended, and the revision after it."""

    slug: str
    result: SyncReport | SluicegateError
    revision: int


class Applied(Struct, frozen=True):
    """All that applying a file did."""

    revision: int
    outcomes: list[Outcome]
    synchronised: list[Synchronised]


def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="teams, users, upstreams and servers")],
) -> None:
    """Make teams, users, upstreams and servers what a file says, then list the tools of its upstreams.

    What the file does not name is left alone. Nothing is changed when anything in the file is wrong.
    """
    declaration = read_declaration(file)
    applied = administer(lambda admin: carry_out(admin, declaration))
    for line in report(applied):
        typer.echo(line)
    for line in warnings(applied):
        typer.echo(f"warning: {line}", err=True)


async def carry_out(admin: Administration, declaration: Declaration) -> Applied:
    """Writes the declaration and synchronises its upstreams. Raises InvalidInput when nothing could be written."""
    written = await ApplyDeclaration(admin.database, admin.sealer, admin.egress)(declaration)
    directory = await admin.reload()
    named = [directory.upstream_by_slug(one.slug) for one in declaration.upstreams]
    free = asyncio.Semaphore(min(AT_ONCE, admin.settings.db_pool_size))  # a full pool refuses instead of waiting
    async with asyncio.TaskGroup() as group:
        enabled = [upstream for upstream in named if upstream is not None and upstream.enabled]
        tasks = [group.create_task(_synchronised(admin, upstream, free)) for upstream in enabled]
    synchronised = [task.result() for task in tasks]
    revision = max(written.revision, *(one.revision for one in synchronised), 0)
    return Applied(revision, written.value, synchronised)


async def _synchronised(admin: Administration, upstream: Upstream, free: asyncio.Semaphore) -> Synchronised:
    async with free:
        try:
            done = await admin.sync(upstream)
        except SluicegateError as error:
            return Synchronised(upstream.slug, error, revision=0)
        return Synchronised(upstream.slug, done.value, done.revision)


def report(applied: Applied) -> list[str]:
    """A line per object, a line per upstream that answered, and a last one with the counts."""
    lines = [f"{one.effect:<10} {one.kind} {one.name}{_fields(one)}" for one in applied.outcomes]
    done = [(one.slug, one.result) for one in applied.synchronised if isinstance(one.result, SyncReport)]
    lines += [f"{'listed':<10} upstream {slug}: {_counts(result)}" for slug, result in done]
    effects = [one.effect for one in applied.outcomes]
    counts = ", ".join(f"{effects.count(effect)} {effect}" for effect in Effect)
    return [*lines, f"{counts}; the gateway's state is at revision {applied.revision}"]


def warnings(applied: Applied) -> list[str]:
    """A sentence for each upstream that could not be listed and for each of its tools that was left out."""
    lines = []
    for done in applied.synchronised:
        if isinstance(done.result, SyncReport):
            lines += [f"upstream `{done.slug}`: {odd}" for odd in done.result.warnings]
        else:
            lines.append(f"{done.result}; its tools are not listed yet: apply the file again once it answers")
    return lines


def _fields(outcome: Outcome) -> str:
    return f" ({', '.join(outcome.fields)})" if outcome.effect is Effect.CHANGED else ""


def _counts(done: SyncReport) -> str:
    return f"{done.offered} tools, {done.added} added, {done.changed} changed, {done.withdrawn} withdrawn"

"""All commands, and how errors and interruptions end the process."""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from sluicegate import __version__
from sluicegate.cli.apply import apply
from sluicegate.cli.config import config
from sluicegate.cli.demo import demo
from sluicegate.cli.explain import explain
from sluicegate.cli.migrate import migrate
from sluicegate.cli.serve import serve
from sluicegate.cli.token import create, revoke
from sluicegate.core.errors import SluicegateError
from sluicegate.settings import CONFIG

P = ParamSpec("P")

FAILED = 1
INTERRUPTED = 130


def ending(command: Callable[P, None]) -> Callable[P, None]:
    """What we foresaw going wrong ends with one line a problem on stderr and code 1; Ctrl-C with 130 and no words."""

    @wraps(command)
    def ended(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except SluicegateError as error:
            for line in str(error).splitlines():
                typer.echo(f"error: {line}", err=True)
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return ended


app = typer.Typer(
    help="An MCP gateway for teams that never makes a request wait for the database.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
tokens = typer.Typer(help="Issue and revoke tokens, on the database itself.", no_args_is_help=True)
tokens.command("create")(ending(create))
tokens.command("revoke")(ending(revoke))
app.add_typer(tokens, name="token")
for command in (serve, migrate, apply, explain, demo, config):
    app.command()(ending(command))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    config: Annotated[
        Path | None, typer.Option(help=f"a file of settings, one SLUICEGATE_NAME=value a line; as {CONFIG}")
    ] = None,
    version: Annotated[  # noqa: ARG001 - `_show_version` reads it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and end")
    ] = False,
) -> None:
    """Every setting can be given in the environment or a file: see `sluicegate config`."""
    if config is not None:
        os.environ[CONFIG] = str(config)  # worker processes read it there


def main() -> None:
    """Runs the command line and ends the process."""
    app(prog_name="sluicegate")

"""`sluicegate demo`: two real upstreams, a gateway on SQLite and a short story; `--keep-running` leaves all that."""

import asyncio
import importlib.util
import json
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from sluicegate import telemetry
from sluicegate.cli.declaration import read_declaration
from sluicegate.cli.demo_processes import Command, Running, free_ports, running
from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import PREFIX, load_settings
from sluicegate.usecases.apply_form import Declaration, DeclaredUpstream

if TYPE_CHECKING:
    from sluicegate.cli.demo_story import Cast, Stage

EXAMPLES = Path(__file__).parents[3] / "examples"
"""In the repository, next to `src`; the package itself does not bring them."""
STANDING = Path("sluicegate-demo")
"""Where `--keep-running` keeps its database and keys, so that tokens stay good when it is started again."""
GATEWAY_PORT = 4444
WIDTH = 110
"""Columns, where there is no terminal to tell."""


def demo(
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="leave it running, and print how to connect a client")
    ] = False,
) -> None:
    """Start two upstreams and a gateway on free ports of this machine and show what the gateway does."""
    _require_parts()
    telemetry.configure_logging()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _folder(keep_running) as folder:
            _perform(folder, keep_running)
    finally:
        signal.signal(signal.SIGTERM, before)


def _perform(folder: Path, keep_running: bool) -> None:
    from sluicegate.cli import demo_story  # noqa: PLC0415 - only the demo needs the SDK

    gateway, clock, web = free_ports(3, GATEWAY_PORT if keep_running else None)
    origin = f"http://127.0.0.1:{gateway}"
    _set_environment(folder, gateway, origin)
    console = Console(width=None if Console().is_terminal else WIDTH)
    stage = demo_story.Stage(origin, load_settings(), console)
    declaration = _moved(read_declaration(EXAMPLES / "demo.yaml"), {"clock": clock, "web": web})
    stage.say("Two MCP servers made with the official SDK, one of each era, and a gateway on SQLite")
    with running(_commands(gateway, clock, web), folder) as processes:
        stage.show([f"{one.name} listens on 127.0.0.1:{one.port}" for one in processes])
        stage.say("sluicegate apply examples/demo.yaml, while the gateway serves")
        cast = asyncio.run(demo_story.set_up(stage, declaration))
        if keep_running:
            _show_connection(stage, cast)
            _wait(processes)
        else:
            asyncio.run(demo_story.tell(stage, cast))
    if not keep_running:
        codes = {one.name: one.process.returncode for one in processes}
        if codes["gateway"] != 0:
            raise ConfigurationError(f"the gateway was to end with code 0, not {codes['gateway']}")
        stage.say("All processes have ended.")


def _commands(gateway: int, clock: int, web: int) -> Sequence[Command]:
    return [
        Command("clock", clock, [str(EXAMPLES / "clock_upstream.py"), str(clock)]),
        Command("web", web, [str(EXAMPLES / "web_upstream.py"), str(web)]),
        Command("gateway", gateway, ["-m", "sluicegate", "serve"]),
    ]


def _set_environment(folder: Path, port: int, origin: str) -> None:
    """For this process and all that it starts: the demo's own settings, whatever the shell has."""
    for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(
        SLUICEGATE_DATA_DIR=str(folder),
        SLUICEGATE_PORT=str(port),
        SLUICEGATE_PUBLIC_URL=origin,
        SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS="true",
        WEB_TOKEN=secrets.token_urlsafe(24),
    )


def _moved(declaration: Declaration, ports: dict[str, int]) -> Declaration:
    """The declaration with its upstreams on the ports that were free."""

    def moved(upstream: DeclaredUpstream) -> DeclaredUpstream:
        url = msgspec.structs.replace(upstream.url, name=f"http://127.0.0.1:{ports[upstream.slug]}/mcp")
        return msgspec.structs.replace(upstream, url=url)

    return msgspec.structs.replace(declaration, upstreams=tuple(map(moved, declaration.upstreams)))


def _show_connection(stage: "Stage", cast: "Cast") -> None:
    stage.say("Running. Ctrl-C ends it.")
    _, token = cast.alice
    _, admin_token = cast.root
    server = {"type": "http", "url": stage.merged, "headers": {"Authorization": f"Bearer {token}"}}
    stage.show([f"URL          {stage.merged}", f"token        {token}"])
    stage.show([f"REST, docs   {stage.origin}/docs", f"admin token  {admin_token}"])
    stage.say("For an mcp.json:")
    stage.console.print(
        json.dumps({"mcpServers": {"sluicegate": server}}, indent=2), highlight=False, markup=False, soft_wrap=True
    )


def _wait(processes: Sequence[Running]) -> None:
    """Returns on Ctrl-C. Raises SluicegateError when one of the processes ends by itself."""
    try:
        while True:
            for one in processes:
                one.require_alive()
            time.sleep(0.5)
    except KeyboardInterrupt:
        return


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    with ExitStack() as stack:
        if keep:
            STANDING.mkdir(mode=0o700, exist_ok=True)
            yield STANDING.absolute()
        else:
            yield Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluicegate-demo-")))


def _require_parts() -> None:
    if not (EXAMPLES / "demo.yaml").is_file():
        raise ConfigurationError("the demo needs the examples of the repository: clone it, and run `make demo` there")
    if importlib.util.find_spec("mcp") is None:
        raise ConfigurationError("the demo needs the official SDK: install `sluicegate[demo]`, or run `make demo`")

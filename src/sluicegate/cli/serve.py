"""`sluicegate serve`: what must hold, then granian with the application in worker processes."""

import errno
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.log import LogLevels

from sluicegate import bootstrap, telemetry
from sluicegate.core.errors import ConfigurationError
from sluicegate.settings import Settings, load_settings, variable

HEADER_TIMEOUT = 30_000
"""Milliseconds in which a request's headers must arrive, and for which an idle connection is kept."""
MAX_HEADERS = 64 * 1024
"""Bytes of a request's headers."""
BACKLOG = 2048
CONNECTIONS = 16_384
"""Connections that one worker serves at a time."""
KILL_AFTER = 15
"""Seconds that a worker gets to end."""
WANTED_FILES = 65_536
"""Open files: each connection is one."""
GRANIAN_LOGS: dict[str, Any] = {
    "loggers": {name: {"handlers": [], "propagate": True} for name in ("_granian", "granian.access")}
}


def serve(
    host: Annotated[str | None, typer.Option(help="address to listen on")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="worker processes")] = None,
) -> None:
    """Serve MCP, REST, documentation and metrics until SIGTERM or Ctrl-C."""
    telemetry.configure_logging()
    _to_environment({"host": host, "port": port, "workers": workers})
    settings = load_settings()
    for warning in bootstrap.prepare(settings):
        typer.echo(f"warning: {warning}", err=True)
    address, free_port = checked_address(settings.host, settings.port)
    _to_environment({"port": free_port})
    _raise_file_limit()
    with shared_metrics(settings.workers):
        shown = f"[{address}]" if ":" in address else address
        typer.echo(f"sluicegate listens on http://{shown}:{free_port}", err=True)
        _run(settings, address, free_port)


def checked_address(host: str, port: int) -> tuple[str, int]:
    """The numeric address and the port, a free one for 0. Raises ConfigurationError when it cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise ConfigurationError(f"`{host}` is not an address of this machine: choose another with --host") from None
    with socket.socket(family, kind, protocol) as probe:
        # granian's own socket would share a port with another granian, and nobody would notice
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            raise ConfigurationError(_why_not(error, host, port)) from None
        return str(address[0]), int(probe.getsockname()[1])


def _why_not(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use: choose another with --port"
        case errno.EACCES:
            return f"port {port} on {host} is for root alone: choose one above 1023 with --port"
        case errno.EADDRNOTAVAIL:
            return f"`{host}` is not an address of this machine: choose another with --host"
        case _:
            return f"port {port} on {host} cannot be listened on: {error.strerror}"


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """Several workers count into files of one folder, so that each can show the sum."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="sluicegate-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read by the workers, when they import prometheus_client
        yield


def _run(settings: Settings, address: str, port: int) -> None:
    multiprocessing.set_start_method("spawn")  # a fork would inherit our threads' locks and single-process metrics
    server = Granian(
        "sluicegate.bootstrap:create_app",
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        factory=True,
        workers=settings.workers,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT, max_buffer_size=MAX_HEADERS),
        websockets=False,
        backlog=BACKLOG,
        backpressure=CONNECTIONS,
        log_level=LogLevels.warning,
        log_dictconfig=GRANIAN_LOGS,
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_AFTER,
    )
    try:
        server.serve()
    except SystemExit:
        if server.interrupt_signal:
            return  # a signal to the whole group reaches the workers too, and one that ends untold counts as failed
        raise


def _to_environment(values: dict[str, str | int | None]) -> None:
    """Where the workers read their settings."""
    os.environ.update({variable(field): str(value) for field, value in values.items() if value is not None})


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if sys.platform == "linux" and soft < ceiling:
        resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))

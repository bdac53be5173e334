"""`tools/call` to one upstream: directly, through nginx as a plain reverse proxy, and through the gateway.

The three take turns in short rounds of one run, so that a noisy machine hits all of them; medians are compared. CPU is
that of the process in the middle alone, per call.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from bench.processes import NotUp, cpu_seconds, free_port, server

HERE = Path(__file__).parent
CLI = [sys.executable, "-m", "sluicegate"]
CONNECTIONS = 32
NGINX = """
daemon off; worker_processes 1; error_log {folder}/nginx-error.log; pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""


class Way(Struct, frozen=True):
    """One way to the upstream. `pid` is the process in the middle, or the upstream itself."""

    name: str
    url: str
    tool: str
    pid: int
    token: str | None = None


class Round(Struct, frozen=True):
    """What one round measured."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """Per call, of the process in the middle."""


def run(rounds: int, seconds: int, folder: Path, console: Console) -> dict[str, object]:
    """Runs the comparison, prints a table and returns the medians."""
    with ExitStack() as stack:
        ways = list(_ways(stack, folder))
        results: dict[str, list[Round]] = {way.name: [] for way in ways}
        for way in ways:
            _measure(way, 1)  # warm
        for _ in range(rounds):
            for way in ways:
                results[way.name].append(_measure(way, seconds))
    medians = {name: _median(measured) for name, measured in results.items()}
    _print(medians, rounds, seconds, console)
    return {
        name: {field: getattr(median, field) for field in Round.__struct_fields__} for name, median in medians.items()
    }


def _ways(stack: ExitStack, folder: Path) -> Iterator[Way]:
    upstream_port, nginx_port, gateway_port = free_port(), free_port(), free_port()
    granian = [sys.executable, "-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--no-ws"]
    command = [*granian, "--port", str(upstream_port), "--log-level", "error", "bench.upstream:app"]
    upstream = stack.enter_context(server(command, upstream_port, folder, {}))
    yield Way("direct", f"http://127.0.0.1:{upstream_port}/mcp", "echo", upstream)
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        raise NotUp("nginx is not installed: `make bench` installs it")
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, upstream=upstream_port, port=nginx_port))
    proxy = stack.enter_context(server([nginx, "-c", str(config)], nginx_port, folder, {}))
    yield Way("nginx", f"http://127.0.0.1:{nginx_port}/mcp", "echo", proxy)
    environment = {"SLUICEGATE_DATA_DIR": str(folder / "data"), "SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS": "true"}
    declaration = folder / "bench.yaml"
    declaration.write_text(
        "users: [{email: bench@example.com}]\n"
        f'upstreams: [{{slug: bench, url: "http://127.0.0.1:{upstream_port}/mcp", visibility: public}}]\n'
    )
    _cli(["apply", str(declaration)], environment)
    token = _cli(["token", "create", "--user", "bench@example.com"], environment).strip()
    command = [*CLI, "serve", "--port", str(gateway_port)]
    gateway = stack.enter_context(server(command, gateway_port, folder, environment))
    yield Way("sluicegate", f"http://127.0.0.1:{gateway_port}/mcp", "bench__echo", gateway, token)


def _cli(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [*CLI, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise NotUp(f"sluicegate {arguments[0]} failed: {done.stderr}")
    return done.stdout


def _measure(way: Way, seconds: int) -> Round:
    environment = {**os.environ, "BENCH_TOOL": way.tool}
    environment.pop("BENCH_TOKEN", None)
    if way.token is not None:
        environment["BENCH_TOKEN"] = way.token
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "wrk.lua"), way.url]
    before = cpu_seconds(way.pid)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds + 30, check=True)
    used = cpu_seconds(way.pid) - before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["wrong"] or found["errors"]:
        raise RuntimeError(
            f"{way.name}: {found['wrong']} wrong answers and {found['errors']} errors: not a measurement"
        )
    calls = found["requests"]
    return Round(calls / found["seconds"], found["p50_ms"], found["p99_ms"], used / calls * 1e6)


def _median(measured: list[Round]) -> Round:
    return Round(*(statistics.median(getattr(each, field) for each in measured) for field in Round.__struct_fields__))


def _print(medians: dict[str, Round], rounds: int, seconds: int, console: Console) -> None:
    table = Table(title=f"tools/call, {CONNECTIONS} connections, medians of {rounds} rounds of {seconds} s in turn")
    for column in ("way", "calls/s", "of direct", "of nginx", "p50 ms", "p99 ms", "CPU us/call", "CPU of nginx"):
        table.add_column(column, justify="left" if column == "way" else "right")
    direct, nginx = medians["direct"], medians["nginx"]
    for name, each in medians.items():
        ratios = f"{each.per_second / direct.per_second:.2f}", f"{each.per_second / nginx.per_second:.2f}"
        table.add_row(
            name,
            f"{each.per_second:,.0f}",
            *ratios,
            f"{each.p50_ms:.2f}",
            f"{each.p99_ms:.2f}",
            f"{each.cpu_us:.0f}",
            f"{each.cpu_us / nginx.cpu_us:.1f}",
        )
    console.print(table)
    console.print(
        "CPU is that of the process in the middle (for `direct`, of the upstream). All share this machine with wrk."
    )

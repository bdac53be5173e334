"""Run the gateway as its users do: the command line, and `serve` as a process with a real port."""

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from msgspec import Struct

from bench.processes import free_port, server

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-m", "sluicegate"]
CLI_WITHIN = 60.0
"""Seconds for one command; starting Python takes most of them on a busy machine."""
READY_WITHIN = 30.0
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


class Gateway(Struct, frozen=True):
    """A gateway that serves. `environment` is what its commands need to work on the same database."""

    url: str
    pid: int
    environment: Mapping[str, str]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def cli(self, *arguments: str) -> str:
        """What a command prints on stdout."""
        done = command(self.environment, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, folder: Path, declaration: str) -> None:
        """Makes the gateway's state what the YAML says, tools listed."""
        file = folder / "declaration.yaml"
        file.write_text(declaration)
        self.cli("apply", str(file))

    def token(self, user: str, *options: str) -> str:
        """A new token, by the command line."""
        return self.cli("token", "create", "--user", user, "--expires", "1h", *options).strip()

    def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, by name and labels, such as `db_checkouts_total{owner="request"}`."""
        answer = httpx2.get(f"{self.url}/metrics")
        answer.raise_for_status()
        found = (SAMPLE.fullmatch(line) for line in answer.text.splitlines())
        return {f"{each[1]}{{{each[2]}}}" if each[2] else each[1]: float(each[3]) for each in found if each}


class Tokens(Struct, frozen=True):
    """Secrets of the three users of `examples/demo.yaml`."""

    root: str
    alice: str
    bob: str


def command(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """One `sluicegate` command, run to its end."""
    return subprocess.run(
        [*CLI, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=CLI_WITHIN,
        check=False,
    )


@contextmanager
def serving(folder: Path, settings: Mapping[str, str], *options: str) -> Iterator[Gateway]:
    """`sluicegate serve` on a free port, ready; ended with its workers."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {
        "SLUICEGATE_DATA_DIR": str(folder / "data"),
        "SLUICEGATE_PUBLIC_URL": url,
        "SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS": "true",
        "PYTHONDONTWRITEBYTECODE": "",  # most of a start is importing
        **settings,
    }
    with server([*CLI, "serve", "--port", str(port), *options], port, folder, environment) as pid:
        gateway = Gateway(url, pid, environment)
        wait_until(lambda: httpx2.get(f"{url}/ready").status_code == 200, READY_WITHIN, "the gateway is ready")
        yield gateway


def wait_until(condition: Callable[[], bool], within: float, promise: str) -> float:
    """Seconds until the condition held; fails with `promise` when it does not hold in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within} s: {promise}"
        time.sleep(0.02)
    return time.monotonic() - began


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def claims_of(token: str) -> dict[str, Any]:
    """The payload of a JWT, unverified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


def descendants(pid: int) -> list[int]:
    """The process and all that it has started and that live."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended meanwhile
    family = [pid]
    for known in family:
        family += [child for child, parent in parents.items() if parent == known]
    return family

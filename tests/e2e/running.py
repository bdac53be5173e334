"""Run the gateway as its users do: the command line, and `serve` as a process with a real port."""

import base64
import json
import os
import re
import signal
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
PATIENT = {"SLUICEGATE_DB_DEADLINE": "20"}
"""For commands: what a gateway must answer soon, a command on a busy machine may take its time for."""
CLI_WITHIN = 60.0
"""Seconds for one command; starting Python takes most of them on a busy machine."""
READY_WITHIN = 30.0
ENDS_WITHIN = 20.0
MODERN = "2026-07-28"
PARENT, GROUP = 1, 2
"""Fields of `/proc/…/stat`, counted from the state."""
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
        done = command({**self.environment, **PATIENT}, *arguments)
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

    def issue(self, admin: str, user: str) -> str:
        """A new token, by the API."""
        wanted = {"user": user, "name": "end to end", "expires_in": 3600}
        with http(admin) as client:
            answer = client.post(f"{self.url}/v1/tokens", json=wanted).raise_for_status()
        token: str = answer.json()["token"]
        return token

    def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`, by name and labels, such as `db_checkouts_total{owner="request"}`."""
        with http() as client:
            answer = client.get(f"{self.url}/metrics").raise_for_status()
        found = (SAMPLE.fullmatch(line) for line in answer.text.splitlines())
        return {f"{each[1]}{{{each[2]}}}" if each[2] else each[1]: float(each[3]) for each in found if each}


class Caller:
    """Speaks MCP by raw HTTP with one token, over kept connections: the legacy era unless told otherwise."""

    def __init__(self, url: str, token: str, *, modern: bool = False) -> None:
        self.url = url
        self._modern = modern
        self.http = http(token)
        self.http.headers["Accept"] = "application/json, text/event-stream"

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def rpc(self, method: str, **params: object) -> httpx2.Response:
        """The answer to one request."""
        headers = {}
        if self._modern:
            headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
            headers |= {"Mcp-Name": str(params["name"])} if "name" in params else {}
            prefix = "io.modelcontextprotocol/"
            params |= {"_meta": {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}}
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.http.post(self.url, json=message, headers=headers)

    def call(self, tool: str, **arguments: object) -> httpx2.Response:
        """The answer to one `tools/call`."""
        return self.rpc("tools/call", name=tool, arguments=arguments)

    def text(self, tool: str, **arguments: object) -> str:
        """What the tool says, when all goes well."""
        answer = self.call(tool, **arguments)
        assert answer.status_code == 200, answer.text
        content = answer.json()["result"]["content"]
        return "".join(part["text"] for part in content)


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
    """`sluicegate serve` on a free port, ready; it ends with code 0."""
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
        with http() as client:
            wait_until(lambda: client.get(f"{url}/ready").status_code == 200, READY_WITHIN, "the gateway is ready")
        yield gateway
        end(gateway)


def end(gateway: Gateway) -> None:
    """SIGTERM to the process alone, as a supervisor does."""
    os.kill(gateway.pid, signal.SIGTERM)
    has_ended_well(gateway)


def has_ended_well(gateway: Gateway) -> None:
    """Waits for the exit code, which must be 0, and until no child is left. The process is not reaped here."""
    wait_until(lambda: ended(gateway) is not None, ENDS_WITHIN, "the gateway ends")
    assert ended(gateway) == 0
    wait_until(lambda: group(gateway.pid) == [gateway.pid], ENDS_WITHIN, "its children have ended")


def ended(gateway: Gateway) -> int | None:
    """The exit code, once there is one."""
    found = os.waitid(os.P_PID, gateway.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def group(leader: int) -> list[int]:
    """The processes of a process group, those among them that have ended but were not reaped."""
    return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if number_in(stat, GROUP) == leader]


def number_in(stat: Path, field: int) -> int | None:
    """A field of `/proc/…/stat`, counted from the state; None when the process has ended meanwhile."""
    try:
        return int(stat.read_text().rpartition(")")[2].split()[field])
    except OSError:
        return None


def wait_until(condition: Callable[[], bool], within: float, promise: str) -> float:
    """Seconds until the condition held; fails with `promise` when it does not hold in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"not within {within} s: {promise}"
        time.sleep(0.02)
    return time.monotonic() - began


def http(token: str | None = None) -> httpx2.Client:
    """A client with this token; without TLS, whose trust store takes longer to load than most tests take."""
    return httpx2.Client(verify=False, headers=bearer(token) if token else {})


def async_http(token: str) -> httpx2.AsyncClient:
    """The same for asyncio."""
    return httpx2.AsyncClient(verify=False, headers=bearer(token))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def unb64(text: str) -> bytes:
    """Base64url without padding, decoded."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def claims_of(token: str) -> dict[str, Any]:
    """The payload of a JWT, unverified."""
    claims: dict[str, Any] = json.loads(unb64(token.split(".")[1]))
    return claims


def workers_of(pid: int) -> list[int]:
    """The worker processes of a gateway."""
    family = descendants(pid)[1:]
    return [each for each in family if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]


def descendants(pid: int) -> list[int]:
    """The process and all that it has started and that live."""
    parents = {int(stat.parent.name): number_in(stat, PARENT) for stat in Path("/proc").glob("[0-9]*/stat")}
    family = [pid]
    for known in family:
        family += [child for child, parent in parents.items() if parent == known]
    return family

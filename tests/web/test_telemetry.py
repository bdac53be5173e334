"""Log lines that cannot be forged and hold no credential; metrics of one process and of several."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr

from sluicegate import telemetry

JWT = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ1c3JfYWxpY2UifQ.c2lnbmF0dXJl"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root, level, handlers = logging.getLogger(), logging.getLogger().level, logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers


pytestmark = pytest.mark.usefixtures("restored_logging")


def logged(stream: io.StringIO, event: str, **values: object) -> str:
    telemetry.configure_logging(stream)
    structlog.get_logger().info(event, **values)
    return stream.getvalue()


def test_a_line_is_one_json_object_with_time_and_level() -> None:
    line = json.loads(logged(io.StringIO(), "ready", port=4444, rate=0.5, team=None))
    assert (line["event"], line["level"], line["port"], line["rate"], line["team"]) == (
        "ready",
        "info",
        4444,
        0.5,
        None,
    )
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_value_can_neither_forge_a_line_nor_steer_the_terminal(stream: type[io.StringIO]) -> None:
    evil = 'x\r\n{"event": "forged"}\x1b[2J\x9b\u2028\u202e'
    text = logged(stream(), f"event {evil}", tool=evil, tools=[evil])
    assert text.count("\n") == 1
    assert "\x1b[2J" not in text
    assert not {"\r", "\x9b", "\u2028", "\u202e"} & set(text)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_credentials_are_left_out(stream: type[io.StringIO]) -> None:
    secret = "n0t-for-the-log-123"
    text = logged(
        stream(),
        f"called with {JWT}",
        authorization=f"Bearer {secret}",
        cookie=secret,
        token=secret,
        metrics_token=secret,
        password=[secret],
        header=f"bearer {secret}",
        setting=SecretStr(secret),
        names=[JWT],
    )
    assert secret not in text
    assert JWT[:20] not in text


def test_ids_of_tokens_are_no_credentials() -> None:
    assert json.loads(logged(io.StringIO(), "revoked", token_id="tok_1"))["token_id"] == "tok_1"


def test_long_values_are_cut() -> None:
    assert len(logged(io.StringIO(), "x", name="y" * 100_000, names=["z"] * 100_000)) < 10_000


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_shows_no_variables_and_no_credential(stream: type[io.StringIO]) -> None:
    def fails() -> None:
        local = "a local variable's value"
        raise ValueError(f"{len(local)} refused {JWT}\x1b[2J")

    out = stream()
    telemetry.configure_logging(out)
    for log in (structlog.get_logger().error, logging.getLogger("library").error):
        try:
            fails()
        except ValueError:
            log("failed", exc_info=True)
    text = out.getvalue()
    assert text.count("ValueError: ") == 2
    assert "in fails" in text
    assert "variable's value" not in text
    assert JWT[:20] not in text
    assert "\x1b[2J" not in text


def test_other_libraries_log_in_the_same_form_from_warnings_on() -> None:
    out = io.StringIO()
    telemetry.configure_logging(out)
    logging.getLogger("library").info("chatter")
    logging.getLogger("library").warning("odd %s", JWT)
    line = json.loads(out.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("odd [token]", "library", "warning")


WORKER = """
import sys
from sluicegate import telemetry
from sluicegate.core.lease import LeaseState
telemetry.requests.labels("mcp", "2xx").inc(int(sys.argv[1]))
telemetry.record_authz(LeaseState(sys.argv[2]), int(sys.argv[3]), float(sys.argv[1]))
sys.stdout.write(telemetry.render_metrics().decode())
"""


def test_metrics_of_several_workers_are_added_and_of_their_leases_the_worst_is_shown(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = ""
    for arguments in (["3", "outage", "7"], ["4", "fresh", "9"]):
        command = [sys.executable, "-c", WORKER, *arguments]
        shown = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout
    expected = {'http_requests_total{entrance="mcp",status="2xx"} 7.0', "authz_state 2.0", "authz_revision 7.0"}
    assert expected <= set(shown.splitlines())


def test_the_gauges_of_a_worker_that_ended_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    alive, dead = (tmp_path / f"gauge_livemax_{pid}.db" for pid in (os.getpid(), ended.pid))
    for file in (alive, dead):
        file.touch()
    telemetry.forget_dead_workers()
    assert (alive.exists(), dead.exists()) == (True, False)

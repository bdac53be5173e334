"""Metrics and logs: what is counted, how it is shown, and what a log line may not hold."""

import logging
import math
import os
import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TextIO

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from structlog.typing import EventDict, Processor, WrappedLogger

from sluicegate.core.lease import LeaseState

requests = Counter("http_requests_total", "Requests answered, by entrance and class of status", ["entrance", "status"])
auth_failures = Counter("auth_failures_total", "Requests refused for their credential, by code", ["code"])
unexpected_errors = Counter("unexpected_errors_total", "Failures that no code foresaw: each is a bug", ["place"])
upkeep_failures = Counter("upkeep_failures_total", "Background chores that failed; each is tried again", ["chore"])

# Of several workers the worst is shown.
authz_state = Gauge(
    "authz_state", "Lease on the directory: 0 fresh, 1 late, 2 outage, 3 closed", multiprocess_mode="livemax"
)
authz_revision = Gauge("authz_revision", "Revision that the directory stands at", multiprocess_mode="livemin")
authz_age = Gauge(
    "authz_age_seconds", "Seconds since the directory was known to be current", multiprocess_mode="livemax"
)
revocation_lag = Histogram(
    "revocation_lag_seconds",
    "Seconds from when a change was written until this process decided by it",
    buckets=(0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
streams_open = Gauge("mcp_streams_open", "Answers of `subscriptions/listen` that are open", multiprocess_mode="livesum")
authz_alarms = Counter("authz_alarms_total", "What must never happen to the authorization data, by kind", ["kind"])
authz_audits = Counter(
    "authz_audits_total", "Comparisons of the directory with the database, by what came out", ["outcome"]
)


class Alarm(StrEnum):
    """Why somebody should look at the authorization data; the process mends itself where it can."""

    REPLICA = "replica"
    """The database is a read replica: no lease is renewed from it."""
    DIVERGED = "diverged"
    """The log is not the one that was followed, or has a row that cannot be read: everything was to be loaded anew."""
    AUDIT_DIFFERENCE = "audit_difference"
    """The directory was not what the database holds at the same revision."""
    CLOCK_JUMP = "clock_jump"
    """The wall clock was set, by seconds or more: tokens expire by it. The lease does not mind."""


for _alarm in Alarm:
    authz_alarms.labels(_alarm)  # so that /metrics shows a 0, not nothing
STATE_NUMBER = {state: number for number, state in enumerate(LeaseState)}

MAX_VALUE = 4096
"""Characters of one value in a log line."""
MAX_TRACE = 16384
"""Characters of a traceback in a log line."""
SECRET_NAME = re.compile(r"authorization|cookie|credential|password|secret|token$|api_?key", re.IGNORECASE)
BEARER = re.compile(r"(?i)\bbearer\s+[!-~]{16,}|\beyJ[\w-]{8,}(?:\.[\w-]*){1,4}")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
CONTROL_BUT_LINES = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def record_authz(state: LeaseState, revision: int, age: float | None) -> None:
    """Sets the lease's gauges; `age` in seconds, None when the directory cannot be trusted at all."""
    authz_state.set(STATE_NUMBER[state])
    authz_revision.set(revision)
    authz_age.set(math.inf if age is None else age)


def forget_dead_workers() -> None:
    """Removes the live gauges of workers that have ended: a new worker calls it, so that no old lease is shown."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    for file in Path(folder).glob("gauge_live*_*.db") if folder else ():
        pid = file.stem.rpartition("_")[2]
        if not Path("/proc", pid).exists():
            mark_process_dead(int(pid))  # type: ignore[no-untyped-call]


def render_metrics() -> bytes:
    """All metrics in Prometheus' text format; of all workers when `PROMETHEUS_MULTIPROC_DIR` is set, which `serve`
    does before anything imports prometheus_client.
    """
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def configure_logging(stream: TextIO = sys.stderr) -> None:
    """All logs, structlog's and the standard library's, go to `stream`: for people on a terminal, else one JSON a line.

    Values are cut, control characters are escaped, and what looks like a credential is left out.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # plain: the console's own would show variables, tokens among them
        harmless,
    ]
    renderer: Processor = structlog.processors.JSONRenderer()
    if stream.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    formatter = structlog.stdlib.ProcessorFormatter
    handler.setFormatter(
        formatter(processors=[formatter.remove_processors_meta, renderer], foreign_pre_chain=[_logger_name, *shared])
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """The event with values that can neither forge a line, nor steer a terminal, nor show a credential."""
    return {name: _harmless_value(name, value) for name, value in event.items()}


def _harmless_value(name: str, value: object) -> object:
    if name.startswith("_") or value is None or isinstance(value, bool | int | float):
        return value
    if SECRET_NAME.search(name):
        return "[removed]"
    if isinstance(value, list | tuple | set | frozenset):
        return [_harmless_value(name, item) for item in _first(value)]
    text, cap, unsafe = str(value), MAX_VALUE, CONTROL
    if name == "exception":
        cap, unsafe = MAX_TRACE, CONTROL_BUT_LINES
    return unsafe.sub(_escape, BEARER.sub("[token]", text[:cap]))


def _first(values: Iterable[object]) -> list[object]:
    return [value for value, _ in zip(values, range(100), strict=False)]


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def _logger_name(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event

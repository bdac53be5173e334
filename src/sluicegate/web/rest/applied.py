"""What the answer to a change says of the instances that decide by it."""

import re
from datetime import UTC, datetime

from sluicegate.usecases.applied import Applied, Away
from sluicegate.web.rest.answers import AwayView, InstancesView

REVISION = "Sluicegate-Revision"
"""Header of every answer to a change: the revision of the directory at which it stands."""
WAIT, ALL = "wait", "all"
"""Query parameter of every change: the answer comes when all instances have applied it, or says which have not."""
APPLIED = "Sluicegate-Applied"
"""Header of an answer that was waited for: `2 of 3`, or `unknown`."""
AWAY = "Sluicegate-Away"
"""Header that names instances which have not applied the change, and when each stops deciding without it."""
MOST_NAMED = 16
"""Instances in the header: proxies refuse long ones, and each worker of a crash loop is another instance."""
_UNSAFE = re.compile("[^A-Za-z0-9._:-]")


def applied_headers(applied: Applied | None) -> dict[str, str]:
    """Who has applied the change; of those who have not the names, first of whom may decide without it longest."""
    if applied is None:
        return {APPLIED: "unknown"}
    headers = {APPLIED: f"{applied.applied} of {applied.known}"}
    longest = sorted(applied.away, key=lambda away: -away.trusted_until)[:MOST_NAMED]
    return headers | {AWAY: ", ".join(map(_listed, longest))} if longest else headers


def instances_view(applied: Applied | None) -> InstancesView | None:
    """The same for a body."""
    if applied is None:
        return None
    away = [AwayView(each.name, each.revision, each.trusted_until) for each in applied.away]
    return InstancesView(applied.applied, applied.known, away)


def _listed(away: Away) -> str:
    """`name; until=…` (RFC 3339). Names come from machines, which may be called anything."""
    until = datetime.fromtimestamp(away.trusted_until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{_UNSAFE.sub('_', away.name)}; until={until}"

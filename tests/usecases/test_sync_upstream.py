"""A synchronisation records the difference, and nothing that an administrator said about a tool is lost by it."""

import json
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import Tool, Upstream, Visibility
from sluicegate.core.errors import Conflict, NotFound, UpstreamTimeout
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import Reason, decide
from sluicegate.ports import Written
from sluicegate.usecases.sync_upstream import MAX_WARNINGS, SyncReport, SyncUpstream, readable_tools
from tests.support.memory import FakeDatabase, FakeUpstreams
from tests.support.world import ALICE, CLOCK, NOW, OLGA, PAYMENTS, ZOE, principal, tool, world


def described(name: str, text: str = "x") -> bytes:
    return json.dumps({"name": name, "description": text, "inputSchema": {"type": "object"}}).encode()


class Syncing:
    """One upstream, what it lists now, and the catalog that follows."""

    def __init__(self, *changed: Tool) -> None:
        self.directory = world(*changed)
        self.database = FakeDatabase(self.directory)
        self.upstreams = FakeUpstreams()

    @property
    def upstream(self) -> Upstream:
        return self.directory.upstreams[CLOCK]

    async def listing(self, *tools: bytes) -> Written[SyncReport]:
        self.upstreams.listings[self.upstream.url] = tools
        return await SyncUpstream(self.database, self.upstreams)(self.upstream)

    def tool(self, name: str) -> Tool:
        return self.directory.tools_of(CLOCK)[name]


async def test_new_tools_come_changed_ones_change_and_missing_ones_are_withdrawn():
    syncing = Syncing()
    report = (await syncing.listing(described("now", "new text"), described("zone"))).value
    assert (report.offered, report.added, report.changed, report.withdrawn) == (2, 1, 1, 1)
    assert "new text" in syncing.tool("now").described
    assert not syncing.tool("sleep").offered


async def test_nothing_is_written_when_nothing_changed():
    syncing = Syncing()
    first = await syncing.listing(described("now"), described("sleep"))
    again = await syncing.listing(described("now"), described("sleep"))
    assert again.revision == first.revision
    assert (again.value.added, again.value.changed, again.value.withdrawn) == (0, 0, 0)


async def test_an_override_survives_a_refresh_and_the_tools_absence():
    hidden = replace(tool(CLOCK, "now"), visibility=Visibility.PRIVATE, enabled=False, team_id=PAYMENTS)
    syncing = Syncing(hidden)
    await syncing.listing(described("now", "changed"))
    await syncing.listing(described("sleep"))
    await syncing.listing(described("now", "back again"))
    kept = syncing.tool("now")
    assert (kept.visibility, kept.enabled, kept.team_id, kept.offered) == (Visibility.PRIVATE, False, PAYMENTS, True)


async def test_a_withdrawn_tool_cannot_be_called_any_more():
    syncing = Syncing()
    await syncing.listing(described("sleep"))
    decision = decide(principal(ALICE), Permission.TOOLS_CALL, syncing.tool("now"), syncing.directory, NOW)
    assert decision.reason is Reason.TARGET_DISABLED


async def test_a_new_tool_inherits_what_its_upstream_is():
    syncing = Syncing()
    await syncing.listing(described("zone"))
    for who, reason in ((ALICE, Reason.ALLOWED), (OLGA, Reason.ALLOWED), (ZOE, Reason.NOT_A_MEMBER)):
        asked = decide(principal(who), Permission.TOOLS_CALL, syncing.tool("zone"), syncing.directory, NOW)
        assert asked.reason is reason


async def test_one_odd_tool_is_a_warning_and_the_others_are_there():
    syncing = Syncing()
    report = (await syncing.listing(b'{"name":"bad name"}', described("now"), described("now"), b"[]")).value
    assert (report.offered, len(report.warnings)) == (1, 3)
    assert syncing.upstream.sync_warnings == report.warnings


def test_warnings_are_bounded_and_the_last_one_counts_the_rest():
    odd: Sequence[bytes] = [b"[]"] * (MAX_WARNINGS + 5)
    _, warnings = readable_tools("clock", odd)
    assert len(warnings) == MAX_WARNINGS
    assert warnings[-1] == "and 6 more"


async def test_an_upstream_that_cannot_be_listed_changes_nothing():
    syncing = Syncing()
    syncing.upstreams.listings[syncing.upstream.url] = UpstreamTimeout("upstream `clock` did not answer within 1 s")
    with pytest.raises(UpstreamTimeout):
        await SyncUpstream(syncing.database, syncing.upstreams)(syncing.upstream)
    assert syncing.database.writes == 0


async def test_what_an_old_address_said_is_not_recorded_for_the_new_one():
    syncing = Syncing()
    moved = replace(syncing.upstream, url="http://127.0.0.1:9/elsewhere")
    syncing.database.before_write = lambda tx: tx.update(moved)
    with pytest.raises(Conflict, match="synchronise it again"):
        await syncing.listing(described("evil"))
    assert "evil" not in syncing.directory.tools_of(CLOCK)


async def test_an_upstream_that_was_deleted_meanwhile_is_missing():
    syncing = Syncing()
    asked = replace(syncing.upstream, id="ups_gone")
    syncing.upstreams.listings[asked.url] = ()
    with pytest.raises(NotFound):
        await SyncUpstream(syncing.database, syncing.upstreams)(asked)

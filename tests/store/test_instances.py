"""The table of instances, on each database."""

from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from sluicegate import ledger
from sluicegate.core.identity import InstanceId
from sluicegate.ports import Report
from sluicegate.store import SqlDatabase, SqlInstances, SqlLogKeeping

RunSql = Callable[[str], None]
LONG_AGO = "'2020-01-01 00:00:00'"
OLD = f"UPDATE instances SET reported_at = {LONG_AGO} WHERE id = 'a'"
FOREVER = 1e10


@pytest.fixture
def instances(database: SqlDatabase) -> SqlInstances:
    return SqlInstances(database)


def report(id: str, *, name: str = "", revision: int = 7, trust: float = 300.0) -> Report:
    return Report(InstanceId(id), name or f"name of {id}", revision, trust)


async def names(instances: SqlInstances) -> list[str]:
    return [seen.report.name for seen in await instances.seen()]


async def test_what_is_reported_is_seen_as_it_was_reported_and_by_name(instances: SqlInstances) -> None:
    reports = [report("a", name="web-2:11"), report("b", name="web-1:12", revision=0, trust=2.5)]
    for each in reports:
        await instances.report(each)
    seen = await instances.seen()
    assert [each.report for each in seen] == reports[::-1]
    assert all(0 <= each.ago < 60 for each in seen)


async def test_the_last_report_of_an_instance_takes_the_place_of_the_one_before(
    instances: SqlInstances, run_sql: RunSql
) -> None:
    await instances.report(report("a", trust=FOREVER))
    run_sql(OLD)
    assert (await instances.seen())[0].ago > 1e8
    await instances.report(report("a", revision=8))
    (seen,) = await instances.seen()
    assert (seen.report.revision, seen.report.trust) == (8, 300.0)
    assert seen.ago < 60


async def test_who_leaves_is_not_seen_and_others_are(instances: SqlInstances) -> None:
    await instances.report(report("a"))
    await instances.report(report("b"))
    await instances.leave(InstanceId("a"))
    await instances.leave(InstanceId("never there"))
    assert await names(instances) == ["name of b"]


async def test_who_has_been_silent_for_longer_than_it_is_trusted_is_not_seen(
    instances: SqlInstances, run_sql: RunSql
) -> None:
    for trust, expected in ((300.0, []), (FOREVER, ["name of a"])):
        await instances.report(report("a", trust=trust))
        assert await names(instances) == ["name of a"]
        run_sql(OLD)
        assert await names(instances) == expected


async def test_a_report_that_comes_late_while_polls_go_well_does_not_hide_a_strict_instance(
    instances: SqlInstances,
) -> None:
    await instances.report(report("a", trust=0.0))
    assert await names(instances) == ["name of a"]


async def test_only_those_who_were_silent_for_a_day_and_trust_nothing_are_forgotten(
    instances: SqlInstances, run_sql: RunSql
) -> None:
    await instances.report(report("a"))
    await instances.report(report("b"))
    assert await instances.forget_silent() == 0
    run_sql(OLD)
    assert await instances.forget_silent() == 1
    await instances.report(report("a", trust=FOREVER))
    run_sql(OLD)
    assert await instances.forget_silent() == 0
    assert await names(instances) == ["name of a", "name of b"]


async def test_a_report_is_no_change_of_the_authorization_state(instances: SqlInstances, database: SqlDatabase) -> None:
    before = (await database.write(lambda _: None)).revision
    await instances.report(report("a"))
    await instances.leave(InstanceId("a"))
    assert (await database.write(lambda _: None)).revision == before
    assert (await database.feed_source().poll(before)).changes == ()


async def test_reports_take_the_connection_for_upkeep_and_looks_one_for_administration(
    instances: SqlInstances,
) -> None:
    def taken() -> tuple[float, ...]:
        owners = (ledger.Owner.UPKEEP, ledger.Owner.ADMIN)
        return tuple(REGISTRY.get_sample_value("db_checkouts_total", {"owner": owner}) or 0 for owner in owners)

    upkeep, admin = taken()
    await instances.report(report("a"))
    assert taken() == (upkeep + 1, admin)
    await instances.seen()
    assert taken() == (upkeep + 1, admin + 1)


async def test_upkeep_trims_the_log(database: SqlDatabase, run_sql: RunSql) -> None:
    for rev in (1, 2, 3):
        run_sql(f"INSERT INTO authz_log (rev, kind, key, at) VALUES ({rev}, 'team', 'team_x', {LONG_AGO})")
    run_sql("UPDATE authz_head SET rev = 3")
    keeping = SqlLogKeeping(database)
    assert await keeping.trim(60.0) == 2, "the row at the floor stays"
    assert await keeping.trim(60.0) == 0
    assert (await database.feed_source().poll(3)).floor == 3

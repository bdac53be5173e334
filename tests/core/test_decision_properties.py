"""Of every decision in random worlds: it is what `explain` says, it hides what it must, and lists agree with it."""

from hypothesis import given, settings

from sluicegate.core.catalog import Tool
from sluicegate.core.policy import SEEN_BUT_FORBIDDEN, UNAUTHENTICATED, Reason, decide, explain
from sluicegate.core.sieve import Sieve
from tests.core.worlds import NOW, World, worlds

IDENTITY = ("token_is_live", "user_is_active")
GRANT = "permission_is_granted"


@settings(deadline=None)
@given(worlds())
def test_a_decision_is_the_first_objection_of_its_explanation(world: World) -> None:
    for target in world.targets:
        asked = world.principal, world.permission, target, world.directory, NOW
        objections = [(clause, reason) for clause, reason in explain(*asked) if reason is not None]
        clause, reason = objections[0] if objections else (None, Reason.ALLOWED)
        decision = decide(*asked)
        assert (decision.allowed, decision.reason, decision.permission) == (not objections, reason, world.permission)
        assert decision.hidden is (clause is not None and clause not in (*IDENTITY, GRANT))
        assert (decision.reason in UNAUTHENTICATED) is (clause in IDENTITY)
        assert (decision.reason in SEEN_BUT_FORBIDDEN) is (clause == GRANT)


@settings(deadline=None)
@given(worlds())
def test_a_sieve_lets_exactly_what_decisions_allow(world: World) -> None:
    sieve = Sieve(world.principal, world.permission, world.directory, NOW)
    for target in [*world.targets, *world.targets]:  # twice: what it remembers counts as much as what it asks
        allowed = decide(world.principal, world.permission, target, world.directory, NOW).allowed
        assert sieve.lets(target) is allowed
        if allowed and isinstance(target, Tool):
            assert sieve.may_let_some(target.upstream_id)


@settings(deadline=None)
@given(worlds())
def test_a_sieve_passes_over_an_upstream_only_if_it_lets_none_of_its_tools(world: World) -> None:
    sieve = Sieve(world.principal, world.permission, world.directory, NOW)
    for upstream_id in world.directory.upstreams:
        tools = world.directory.tools_of(upstream_id).values()
        if any(sieve.lets(tool) for tool in tools):
            assert sieve.may_let_some(upstream_id)
        if not tools:
            assert not sieve.may_let_some(upstream_id)

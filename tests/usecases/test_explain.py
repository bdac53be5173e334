"""An explanation is the decision, clause by clause."""

from sluicegate.core import policy
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Unauthenticated
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.usecases.explain import Explanation, Question, ServerNamed, ToolNamed, explain
from tests.support.world import ALICE, BOB, NOW, principal, world

CLAUSES = ["token_is_accepted", "target_exists", *(clause.__name__ for clause in policy.CLAUSES)]


class Accepting:
    """Takes every token for this principal's."""

    def __init__(self, who: Principal) -> None:
        self._who = who

    def authenticate(self, token: str) -> Principal:
        return self._who


class Refusing:
    """Takes no token."""

    def authenticate(self, token: str) -> Principal:
        raise Unauthenticated("the token was revoked: get a new one", code="token_revoked")


def asked(who: Principal, target: ToolNamed | ServerNamed, directory: Directory | None = None) -> Explanation:
    question = Question("token", target, Permission.TOOLS_CALL)
    return explain(question, Accepting(who), directory or world(), NOW)


def test_when_nothing_objects_every_clause_was_asked() -> None:
    found = asked(principal(ALICE), ToolNamed("clock__now"))
    assert found.deciding is None
    assert [clause.name for clause in found.clauses] == CLAUSES
    assert found.principal == principal(ALICE)


def test_the_first_clause_that_objects_decides_and_the_others_are_still_asked() -> None:
    found = asked(principal(BOB), ToolNamed("clock__now"))
    assert found.deciding is not None
    assert (found.deciding.name, found.deciding.objection) == ("within_audience", "not_a_member")
    assert [clause.name for clause in found.clauses] == CLAUSES
    objections = [clause.objection for clause in found.clauses if clause.objection]
    assert objections == ["not_a_member", "permission_not_in_role"]


def test_it_says_what_a_request_would_be_told() -> None:
    for who in (ALICE, BOB):
        for name, tool in (("clock__now", "tool_clock_now"), ("web__fetch", "tool_web_fetch")):
            directory = world()
            target = next(one for one in directory.tools.values() if one.id == tool)
            decision = policy.decide(principal(who), Permission.TOOLS_CALL, target, directory, NOW)
            assert (asked(principal(who), ToolNamed(name), directory).deciding is None) == decision.allowed


def test_a_target_that_is_not_there_is_a_clause_that_objects() -> None:
    for target in (ToolNamed("clock__nothing"), ToolNamed("nothing"), ServerNamed("nothing")):
        found = asked(principal(ALICE), target)
        assert found.deciding is not None
        assert (found.deciding.name, found.deciding.objection) == ("target_exists", "not_found")
        assert [clause.name for clause in found.clauses] == CLAUSES[:2]


def test_a_token_that_is_not_accepted_is_a_clause_that_objects() -> None:
    question = Question("token", ServerNamed("support"), Permission.SERVERS_USE)
    found = explain(question, Refusing(), world(), NOW)
    assert found.principal is None
    assert found.deciding is not None
    assert (found.deciding.name, found.deciding.objection) == ("token_is_accepted", "token_revoked")
    assert found.deciding.detail == "the token was revoked: get a new one"


def test_a_server_is_found_by_slug_and_by_id() -> None:
    assert (
        asked(principal(ALICE), ServerNamed("support")).target
        == asked(principal(ALICE), ServerNamed("srv_support")).target
    )

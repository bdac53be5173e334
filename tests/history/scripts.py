"""What writers do, and what each version of it means for the one question that depends on it.

The answers here are written by hand from the rules (design, section 6), not computed by the policy that they judge.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from sluicegate.core.catalog import Entity, Membership, Token, Tool, Upstream, User, Visibility
from sluicegate.core.identity import TeamId, TokenId, UpstreamId, UserId
from sluicegate.core.permissions import Permission, Role
from sluicegate.ports import Transaction
from tests.support.world import member, team, tool, upstream, user

CREW, OTHERS = TeamId("team_crew"), TeamId("team_others")
ASKED = (Permission.TOOLS_READ, Permission.TOOLS_CALL, Permission.TOOLS_MANAGE)
"""What each question asks about its tool; the answer has one reason for each."""
TOOL = "look"
COPIES = 3
"""Of each kind of script, so that each writer has some of each."""
TOKENS = 300
"""For each copy to revoke. A writer makes about two revocations a second."""
ISSUED, EXPIRES = 1_700_000_000, 4_000_000_000
"""Unix seconds."""

VIEWS = "allowed permission_not_in_role permission_not_in_role"
CALLS = "allowed allowed permission_not_in_role"
OWNS = "allowed allowed allowed"
STRANGER = "not_a_member not_a_member not_a_member"
NOT_MINE = "not_the_owner not_the_owner not_the_owner"
DISABLED = "not_a_member target_disabled not_a_member"
INACTIVE = "user_inactive"
"""Whoever is inactive gets no further than to the door."""


class Question(Struct, frozen=True):
    """May the user of these tokens do what is ASKED on the tool with this public name?"""

    name: str
    user_id: UserId
    tokens: tuple[TokenId, ...]
    tool: str


class Script(Protocol):
    """The versions of one entity."""

    @property
    def question(self) -> Question:
        """The question that depends on it."""

    @property
    def length(self) -> int | None:
        """The last version; None when it goes on for ever."""

    def world(self) -> Sequence[Entity]:
        """What must be there before, in any order: version 0."""

    def change(self, number: int) -> Callable[[Transaction], None]:
        """From the version before to this one."""

    def answer(self, number: int) -> str:
        """The answer by this version."""


def answer_of(reasons: str, url: str) -> str:
    """How an answer is written: the reasons, and where the tool's upstream is."""
    return f"{reasons} at {url}"


class State(Struct, frozen=True):
    """A state of an entity, None while it is not there, and the reasons by it."""

    entity: Entity | None
    reasons: str


class Turning(Struct, frozen=True):
    """One entity goes through its states over and over. An upstream moves to another URL each time."""

    question: Question
    around: tuple[Entity, ...]
    states: tuple[State, ...]

    @property
    def length(self) -> int | None:
        return None

    def world(self) -> Sequence[Entity]:
        first = self._entity(0)
        return self.around if first is None else (*self.around, first)

    def change(self, number: int) -> Callable[[Transaction], None]:
        before, after = self._entity(number - 1), self._entity(number)

        def work(tx: Transaction) -> None:
            if after is None:
                assert before is not None
                tx.delete(before)
            elif before is None:
                tx.insert(after)
            else:
                tx.update(after)

        return work

    def answer(self, number: int) -> str:
        state = self._state(number)
        if state.reasons == INACTIVE:
            return INACTIVE
        return answer_of(state.reasons, _url(number if isinstance(state.entity, Upstream) else 0))

    def _state(self, number: int) -> State:
        return self.states[number % len(self.states)]

    def _entity(self, number: int) -> Entity | None:
        entity = self._state(number).entity
        return replace(entity, url=_url(number)) if isinstance(entity, Upstream) else entity


class Revoking(Struct, frozen=True):
    """The tokens of one user are revoked, one after the other. The answer is how many."""

    question: Question
    around: tuple[Entity, ...]

    @property
    def length(self) -> int | None:
        return len(self.question.tokens)

    def world(self) -> Sequence[Entity]:
        return (*self.around, *(self._token(number) for number in range(len(self.question.tokens))))

    def change(self, number: int) -> Callable[[Transaction], None]:
        revoked = replace(self._token(number - 1), revoked_at=ISSUED)
        return lambda tx: tx.update(revoked)

    def answer(self, number: int) -> str:
        return f"{number} revoked"

    def _token(self, number: int) -> Token:
        token_id, user_id = self.question.tokens[number], self.question.user_id
        return Token(token_id, user_id, "of the history", ISSUED, EXPIRES, None, None, None, None)


def all_scripts() -> list[Script]:
    """COPIES of each kind."""
    kinds: dict[str, Callable[[str], Script]] = {
        "revocation": revocation,
        "membership": membership,
        "upstream": upstream_visibility,
        "tool": tool_visibility,
        "activity": activity,
    }
    return [make(f"{kind}-{copy}") for copy in range(COPIES) for kind, make in kinds.items()]


def common_world() -> list[Entity]:
    """What all scripts refer to."""
    return [team(CREW, "crew"), team(OTHERS, "others")]


def revocation(name: str) -> Script:
    ids = tuple(TokenId(f"tok_{name}-{number}") for number in range(TOKENS))
    asked = Question(name, _user_id(name), ids, _tool_name(name))
    return Revoking(asked, (_user(name), _member(name, CREW, Role.DEVELOPER), _upstream(name), _tool(name)))


def membership(name: str) -> Script:
    around = (_user(name), _upstream(name), _tool(name))
    states = (
        State(None, STRANGER),
        State(_member(name, CREW, Role.VIEWER), VIEWS),
        State(_member(name, CREW, Role.DEVELOPER), CALLS),
        State(_member(name, CREW, Role.OWNER), OWNS),
    )
    return Turning(_question(name), around, states)


def upstream_visibility(name: str) -> Script:
    around = (_user(name), _member(name, OTHERS, Role.OWNER), _tool(name))
    states = (
        State(_upstream(name, Visibility.PUBLIC), CALLS),
        State(_upstream(name, Visibility.TEAM), STRANGER),
        State(_upstream(name, Visibility.PRIVATE), NOT_MINE),
        State(_upstream(name, Visibility.TEAM, enabled=False), DISABLED),
    )
    return Turning(_question(name), around, states)


def tool_visibility(name: str) -> Script:
    around = (_user(name), _member(name, OTHERS, Role.OWNER), _upstream(name))
    states = (
        State(_tool(name), STRANGER),
        State(_tool(name, Visibility.PUBLIC), CALLS),
        State(_tool(name, Visibility.PRIVATE), NOT_MINE),
        State(_tool(name, team_id=OTHERS), OWNS),
        State(_tool(name, enabled=False), DISABLED),
    )
    return Turning(_question(name), around, states)


def activity(name: str) -> Script:
    around = (_upstream(name), _tool(name))
    states = (
        State(_user(name), STRANGER),
        State(_user(name, admin=True), OWNS),
        State(_user(name, active=False), INACTIVE),
    )
    return Turning(_question(name), around, states)


def _question(name: str) -> Question:
    return Question(name, _user_id(name), (TokenId(f"tok_{name}"),), _tool_name(name))


def _url(number: int) -> str:
    return f"http://127.0.0.1:9/{number}"


def _tool_name(name: str) -> str:
    return f"{name}__{TOOL}"


def _user_id(name: str) -> UserId:
    return UserId(f"usr_{name}")


def _user(name: str, *, active: bool = True, admin: bool = False) -> User:
    return user(_user_id(name), active=active, admin=admin)


def _member(name: str, team_id: TeamId, role: Role) -> Membership:
    return member(_user_id(name), team_id, role)


def _upstream(name: str, visibility: Visibility = Visibility.TEAM, *, enabled: bool = True) -> Upstream:
    made = upstream(UpstreamId(f"ups_{name}"), team=CREW, visibility=visibility, enabled=enabled)
    return replace(made, url=_url(0))


def _tool(
    name: str, visibility: Visibility | None = None, team_id: TeamId | None = None, *, enabled: bool = True
) -> Tool:
    return tool(UpstreamId(f"ups_{name}"), TOOL, visibility=visibility, team=team_id, enabled=enabled)

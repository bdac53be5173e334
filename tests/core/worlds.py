"""Random small worlds, dense with what decisions turn on: switched off, moved, of another team, narrowed by a token."""

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st
from msgspec import Struct

from sluicegate.core.catalog import (
    Entity,
    Membership,
    NoAuth,
    Team,
    Token,
    Tool,
    ToolSelector,
    Upstream,
    User,
    VirtualServer,
    Visibility,
    membership_id,
)
from sluicegate.core.directory import Directory
from sluicegate.core.identity import (
    AllPermissions,
    AllServers,
    AllTeams,
    OnlyPermissions,
    OnlyServers,
    OnlyTeams,
    Principal,
    ServerId,
    TeamId,
    TokenId,
    TokenScope,
    ToolId,
    UpstreamId,
    UserId,
)
from sluicegate.core.permissions import Permission, Role
from sluicegate.core.policy import PLATFORM, Target

NOW = 1_800_000_000
TEAMS = [TeamId(f"team_{n}") for n in "abc"]
USERS = [UserId(f"usr_{n}") for n in "abc"]
UPSTREAMS = [UpstreamId(f"ups_{n}") for n in "abc"]
SERVERS = [ServerId(f"srv_{n}") for n in "ab"]
TOKENS = [TokenId(f"tok_{n}") for n in "ab"]
NAMES = ["x", "y", "z_z"]
SLUGS = ["s", "s-t", "st"]
"""By bytes `s-t__` lies before `s__`, and that before `st__`."""

T = TypeVar("T")
mostly = st.sampled_from([True, True, True, False])
team_or_none = st.sampled_from([None, *TEAMS])
visibilities = st.sampled_from(Visibility)


def some(items: Sequence[T]) -> st.SearchStrategy[frozenset[T]]:
    return st.frozensets(st.sampled_from(items))


class World(Struct, frozen=True):
    """A directory, and who asks for what on it."""

    directory: Directory
    principal: Principal
    permission: Permission

    @property
    def targets(self) -> list[Target]:
        """Everything in it, and an object of each kind that is not."""
        known = self.directory
        tables = (known.teams, known.users, known.upstreams, known.tools, known.servers, known.tokens)
        stray = Tool(ToolId("tool_stray"), UpstreamId("ups_gone"), "x", "{}", Visibility.PUBLIC, None, True, True)
        return [PLATFORM, stray, *(each for table in tables for each in table.values())]


@st.composite
def memberships(draw: st.DrawFn) -> list[Entity]:
    held = draw(st.dictionaries(st.tuples(st.sampled_from(USERS), st.sampled_from(TEAMS)), st.sampled_from(Role)))
    return [Membership(membership_id(user, team), user, team, role) for (user, team), role in held.items()]


@st.composite
def upstreams(draw: st.DrawFn) -> list[Entity]:
    made: list[Entity] = []
    for id, slug in zip(UPSTREAMS, draw(st.permutations(SLUGS)), strict=True):
        team, owner = draw(team_or_none), draw(st.sampled_from([None, *USERS]))
        visibility, enabled = draw(visibilities), draw(mostly)
        made.append(Upstream(id, slug, "http://x", team, owner, visibility, enabled, NoAuth(), None, None, ()))
        names = draw(st.permutations(NAMES))
        for number in draw(some(range(len(NAMES)))):
            override = draw(st.sampled_from([None, None, *Visibility])), draw(st.sampled_from([None, None, *TEAMS]))
            tool_id = ToolId(f"tool_{id}_{number}")
            made.append(Tool(tool_id, id, names[number], "{}", *override, draw(mostly), draw(mostly)))
    return made


@st.composite
def servers(draw: st.DrawFn) -> list[Entity]:
    selectors = [f"{slug}__{name}" for slug in SLUGS for name in ("x", "*")]
    slugs = draw(st.permutations(["server-0", "server-1"]))
    return [
        VirtualServer(
            id,
            slugs[number],
            draw(team_or_none),
            draw(st.sampled_from([None, *USERS])),
            draw(visibilities),
            draw(mostly),
            tuple(ToolSelector(each) for each in sorted(draw(some(selectors)))),
        )
        for number, id in enumerate(SERVERS)
    ]


@st.composite
def entities(draw: st.DrawFn) -> list[Entity]:
    team_slugs, emails = draw(st.permutations(["t-0", "t-1", "t-2"])), draw(st.permutations(["a@x", "b@x", "c@x"]))
    teams = [Team(id, slug, id, draw(mostly)) for id, slug in zip(TEAMS, team_slugs, strict=True)]
    users = [User(id, email, draw(mostly), draw(st.booleans())) for id, email in zip(USERS, emails, strict=True)]
    revoked = st.sampled_from([None, None, 1])
    tokens = [
        Token(id, draw(st.sampled_from(USERS)), "t", 0, NOW + 9, draw(revoked), None, None, None) for id in TOKENS
    ]
    return [*teams, *users, *draw(memberships()), *draw(upstreams()), *draw(servers()), *tokens]


@st.composite
def scopes(draw: st.DrawFn) -> TokenScope:
    return TokenScope(
        draw(st.just(AllTeams()) | some(TEAMS).map(OnlyTeams)),
        draw(st.just(AllServers()) | some(SERVERS).map(OnlyServers)),
        draw(st.just(AllPermissions()) | st.frozensets(st.sampled_from(Permission)).map(OnlyPermissions)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    directory = Directory("epoch", 1, draw(entities()))
    user, token = draw(st.sampled_from([*USERS, UserId("usr_gone")])), draw(st.sampled_from(TOKENS))
    principal = Principal(user, token, draw(scopes()), draw(st.sampled_from([NOW + 1.0, NOW + 1.0, NOW + 1.0, NOW])))
    return World(directory, principal, draw(st.sampled_from(Permission)))

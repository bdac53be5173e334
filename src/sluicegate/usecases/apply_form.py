"""What a file for `sluicegate apply` declares. Each part knows its line, so that what is wrong can be pointed at.

What is UNSET was not written: an object that exists keeps it, a new one gets the default.
"""

from collections.abc import Iterable

from msgspec import UNSET, Struct, UnsetType

from sluicegate.core.catalog import ToolSelector, Visibility
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Role

MAX_PROBLEMS = 20
"""Problems that one error names."""


class Odd(Exception):
    """What is wrong, and in which line. Never leaves the reading and applying of a file: see `refused`."""

    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(sentence)
        self.line = line


def refused(source: str, problems: Iterable[Odd]) -> InvalidInput:
    """One error for all that is wrong: `FILE:LINE: sentence` in a line of its own for each, in their order."""
    lines = [f"{source}:{odd.line}: {odd}" for odd in sorted(problems, key=lambda odd: odd.line)]
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"and {len(lines) - MAX_PROBLEMS} more"]
    return InvalidInput("\n".join(lines), code="declaration_refused")


class Named(Struct, frozen=True):
    """A reference to another object: a team by its slug, or a user by the email address."""

    line: int
    name: str


class DeclaredTeam(Struct, frozen=True):
    line: int
    slug: str
    name: str | UnsetType


class DeclaredMembership(Struct, frozen=True):
    team: Named
    role: Role


class DeclaredUser(Struct, frozen=True):
    """`teams`, when written, are exactly the teams the user is in."""

    line: int
    email: str
    platform_admin: bool | UnsetType
    teams: tuple[DeclaredMembership, ...] | UnsetType


class Ownership(Struct, frozen=True):
    """What upstreams and servers have in common."""

    team: Named | UnsetType = UNSET
    owner: Named | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class PlainBearer(Struct, frozen=True):
    """A bearer token for an upstream, not yet sealed. Its repr does not show it."""

    line: int
    secret: str

    def __repr__(self) -> str:
        return f"PlainBearer({self.line}, …)"


class NoCredential(Struct, frozen=True):
    """`auth: {type: none}`: the upstream asks for no credential."""


class DeclaredUpstream(Struct, frozen=True):
    line: int
    slug: str
    url: Named
    ownership: Ownership
    auth: PlainBearer | NoCredential | UnsetType


class DeclaredSelector(Struct, frozen=True):
    line: int
    selector: ToolSelector


class DeclaredServer(Struct, frozen=True):
    line: int
    slug: str
    ownership: Ownership
    tools: tuple[DeclaredSelector, ...]


class Declaration(Struct, frozen=True):
    """A whole file; `source` is its name as the user gave it."""

    source: str
    teams: tuple[DeclaredTeam, ...]
    users: tuple[DeclaredUser, ...]
    upstreams: tuple[DeclaredUpstream, ...]
    servers: tuple[DeclaredServer, ...]

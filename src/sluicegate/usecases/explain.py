"""Why a token may, or may not, do something: every clause that is looked at, and what it says."""

from msgspec import Struct

from sluicegate.core import policy
from sluicegate.core.catalog import Tool, VirtualServer
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Unauthenticated
from sluicegate.core.identity import Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.routing import merged_tool
from sluicegate.ports import Authenticator

ACCEPTED = "token_is_accepted"
EXISTS = "target_exists"


class ToolNamed(Struct, frozen=True):
    """A tool by its public name."""

    name: str


class ServerNamed(Struct, frozen=True):
    """A virtual server by its slug or id."""

    name: str


class Question(Struct, frozen=True):
    """May the bearer of `token` do `permission` on `target`?"""

    token: str
    target: ToolNamed | ServerNamed
    permission: Permission


class Clause(Struct, frozen=True):
    """One thing that was looked at. `objection` is a stable code, None when there is none; `detail` explains it."""

    name: str
    objection: str | None
    detail: str = ""


class Explanation(Struct, frozen=True):
    """The clauses in the order in which a request meets them; the first that objects decides.

    When the token is not accepted or the target is not there, later clauses cannot be asked and are left out.
    """

    permission: Permission
    principal: Principal | None
    target: Tool | VirtualServer | None
    clauses: tuple[Clause, ...]

    @property
    def deciding(self) -> Clause | None:
        """The first clause that objects; None when the request is allowed."""
        return next((clause for clause in self.clauses if clause.objection is not None), None)


def explain(question: Question, authenticator: Authenticator, directory: Directory, at: float) -> Explanation:
    """Answers by the state of `directory` at `at` (Unix seconds), as a gateway with that state would decide."""
    target = _found(question.target, directory)
    existence = Clause(EXISTS, None if target else "not_found", "" if target else _missing(question.target))
    try:
        principal = authenticator.authenticate(question.token)
    except Unauthenticated as error:
        refused = (Clause(ACCEPTED, error.code, str(error)), existence)
        return Explanation(question.permission, None, target, refused)
    clauses = [Clause(ACCEPTED, None), existence]
    if target is not None:
        asked = policy.explain(principal, question.permission, target, directory, at)
        clauses += [Clause(name, None if reason is None else reason.value) for name, reason in asked]
    return Explanation(question.permission, principal, target, tuple(clauses))


def _found(target: ToolNamed | ServerNamed, directory: Directory) -> Tool | VirtualServer | None:
    return merged_tool(target.name, directory) if isinstance(target, ToolNamed) else directory.server(target.name)


def _missing(target: ToolNamed | ServerNamed) -> str:
    noun = "tool" if isinstance(target, ToolNamed) else "virtual server"
    return f"there is no {noun} `{target.name[:80]}`"

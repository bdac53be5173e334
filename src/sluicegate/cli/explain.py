"""`sluicegate explain`: allow or deny, with every clause that was looked at."""

from pathlib import Path
from typing import Annotated

import typer

from sluicegate.bootstrap import Administration
from sluicegate.cli.administer import administer
from sluicegate.core.directory import Directory
from sluicegate.core.errors import InvalidInput
from sluicegate.core.identity import OnlyPermissions, OnlyServers, OnlyTeams, Principal
from sluicegate.core.permissions import Permission
from sluicegate.core.policy import Reason
from sluicegate.usecases import explain as usecase
from sluicegate.usecases.explain import ACCEPTED, EXISTS, Clause, Explanation, Question, ServerNamed, ToolNamed

DENIED = 3
"""Exit code when the answer is deny."""
MAX_FILE = 64 * 1024

ASKS = {
    ACCEPTED: "the token is well formed, ours, in time and not revoked",
    EXISTS: "the target is known",
    "token_is_live": "the token has not expired and is not revoked",
    "user_is_active": "its user is active",
    "target_is_enabled": "the target is enabled, and its upstream offers it",
    "within_token_servers": "the token's list of servers, if it has one, holds the target",
    "within_audience": "the target is public, or its team is the user's and in the token's reach, or the user owns it",
    "permission_is_granted": "both the token and the user's role give the permission",
}
MEANS: dict[str, str] = {
    Reason.TOKEN_EXPIRED: "the token has expired",
    Reason.TOKEN_REVOKED: "the token was revoked",
    Reason.USER_INACTIVE: "the user does not exist or was deactivated",
    Reason.TARGET_DISABLED: "the target or its upstream is disabled, or the upstream does not offer it now",
    Reason.OUTSIDE_TOKEN_SERVERS: "the token is narrowed to servers that do not select it",
    Reason.OUTSIDE_TOKEN_TEAMS: "the token is narrowed to other teams",
    Reason.TEAM_INACTIVE: "the target's team was deactivated",
    Reason.NOT_A_MEMBER: "the user is not in the target's team",
    Reason.NOT_THE_OWNER: "the target is private, and the user is not its owner",
    Reason.PERMISSION_NOT_IN_TOKEN: "the token is narrowed to other permissions",
    Reason.PERMISSION_NOT_IN_ROLE: "the user's role in the target's team does not give it",
}


def explain(
    token_file: Annotated[Path, typer.Option(help="a file that holds the token, and nothing else")],
    tool: Annotated[str | None, typer.Option(metavar="PUBLIC_NAME", help="a tool, such as clock__now")] = None,
    server: Annotated[str | None, typer.Option(metavar="SLUG", help="a virtual server")] = None,
    permission: Annotated[
        Permission | None, typer.Option(help="what is to be done; by default the target is used")
    ] = None,
) -> None:
    """Say whether a token may use a tool or a virtual server, and why. Ends with code 0 for allow and 3 for deny."""
    if (tool is None) == (server is None):
        raise typer.BadParameter("name either a --tool or a --server")
    target = ToolNamed(tool) if tool is not None else ServerNamed(server or "")
    using = Permission.TOOLS_CALL if tool is not None else Permission.SERVERS_USE
    question = Question(_token_in(token_file), target, permission or using)
    explanation, directory = administer(lambda admin: answer(admin, question))
    for line in rendered(explanation, directory):
        typer.echo(line)
    if explanation.deciding is not None:
        raise typer.Exit(DENIED)


async def answer(admin: Administration, question: Question) -> tuple[Explanation, Directory]:
    """The explanation, and the directory by which it was found."""
    found = usecase.explain(question, admin.authenticator, admin.directory, admin.clock.wall())
    return found, admin.directory


def rendered(explanation: Explanation, directory: Directory) -> list[str]:
    """The verdict, who asks, and a line per clause."""
    deciding = explanation.deciding
    verdict = "allow" if deciding is None else f"deny: {meaning(deciding)} ({deciding.objection})"
    lines = [verdict, f"asked: {explanation.permission}"]
    if explanation.principal is not None:
        lines.append(f"token: {_described(explanation.principal, directory)}")
    return [*lines, *map(_line, explanation.clauses)]


def meaning(clause: Clause) -> str:
    """A sentence about what the clause objects to."""
    return clause.detail or MEANS[clause.objection or ""]


def _line(clause: Clause) -> str:
    if clause.objection is None:
        return f"  ok    {clause.name:<22} {ASKS[clause.name]}"
    return f"  DENY  {clause.name:<22} {clause.objection}: {meaning(clause)}"


def _described(principal: Principal, directory: Directory) -> str:
    """The token's user and how far it narrows them, with slugs where there are any."""
    user = directory.users[principal.user_id]
    scope = principal.scope
    roles = [f"{directory.teams[team].slug} ({role})" for team, role in directory.roles_of(user.id)]
    parts = [f"{principal.token_id} of {user.email}", f"in {', '.join(sorted(roles)) or 'no team'}"]
    if user.platform_admin:
        parts.append("platform admin")
    if isinstance(scope.teams, OnlyTeams):
        parts.append(f"teams [{', '.join(sorted(directory.teams[team].slug for team in scope.teams.ids))}]")
    if isinstance(scope.servers, OnlyServers):
        parts.append(f"servers [{', '.join(sorted(directory.servers[one].slug for one in scope.servers.ids))}]")
    if isinstance(scope.permissions, OnlyPermissions):
        parts.append(f"permissions [{', '.join(sorted(scope.permissions.items))}]")
    return "; ".join(parts)


def _token_in(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_FILE).strip()
    except OSError as error:
        raise InvalidInput(f"token file `{path}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"token file `{path}` is not text") from None

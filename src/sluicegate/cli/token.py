"""`sluicegate token create` and `sluicegate token revoke`, on the database itself: whoever has that needs no token."""

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from sluicegate.bootstrap import Administration
from sluicegate.cli.administer import administer
from sluicegate.core.catalog import Token
from sluicegate.core.errors import InvalidInput, NotFound
from sluicegate.core.identity import TokenId
from sluicegate.usecases.manage_tokens import TokenRequest, insert_token, new_token, revoke_token

DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def create(  # noqa: PLR0913 - each parameter is an option of the command line
    user: Annotated[str, typer.Option(help="email address or id of the user whom the token acts for")],
    team: Annotated[list[str] | None, typer.Option(help="narrow to this team; repeat for more")] = None,
    no_teams: Annotated[bool, typer.Option("--no-teams", help="narrow to what is public")] = False,
    server: Annotated[list[str] | None, typer.Option(help="narrow to this virtual server; repeat for more")] = None,
    permission: Annotated[
        list[str] | None, typer.Option(help="narrow to this permission, such as tools:call; repeat for more")
    ] = None,
    expires: Annotated[str, typer.Option(help="lifetime: 90s, 15m, 1h, 30d or 4w")] = "30d",
    name: Annotated[str, typer.Option(help="what lists show")] = "from the command line",
) -> None:
    """Print a new token, alone, on stdout. Without options it reaches all that its user does."""
    if team and no_teams:
        raise typer.BadParameter("--team and --no-teams contradict each other")
    wanted = TokenRequest(
        name=name,
        expires_in=seconds(expires),
        teams=() if no_teams else _claim(team),
        servers=_claim(server),
        permissions=_claim(permission),
    )
    row, secret = administer(lambda admin: issue(admin, user, wanted))
    until = datetime.fromtimestamp(row.expires_at, UTC).isoformat()
    typer.echo(f"token {row.id} for {user} until {until}", err=True)
    typer.echo(secret)


def revoke(token_id: Annotated[str, typer.Argument(metavar="JTI", help="the token's id, `tok_…`")]) -> None:
    """Revoke a token; every instance refuses it within the revocation bound (2 s)."""
    row = administer(lambda admin: end(admin, token_id))
    typer.echo(f"token {row.id} is revoked")


async def issue(admin: Administration, user: str, wanted: TokenRequest) -> tuple[Token, str]:
    """The row and the secret of a new token for the user with this address or id. Raises NotFound, InvalidInput."""
    known = admin.directory.user(user)
    if known is None:
        raise NotFound(f"there is no user `{user[:80]}`: `sluicegate apply` makes users")
    token = new_token(known, wanted, admin.directory, admin.clock.wall(), admin.settings.token_max_lifetime)
    secret = admin.issuer.issue(token.claims)
    await admin.database.write(lambda tx: insert_token(tx, token.row))
    return token.row, secret


async def end(admin: Administration, token_id: str) -> Token:
    """The token, revoked. Raises NotFound."""
    written = await admin.database.write(lambda tx: revoke_token(tx, TokenId(token_id), admin.clock.wall()))
    return written.value


def seconds(duration: str) -> int:
    """`1h` as 3600. Raises InvalidInput."""
    match = DURATION.fullmatch(duration)
    if match is None:
        raise InvalidInput(f"`{duration[:80]}` is not a duration: write a number and one of s, m, h, d, w, such as 1h")
    return int(match[1]) * SECONDS[match[2]]


def _claim(names: list[str] | None) -> tuple[str, ...] | None:
    return tuple(names) if names else None

"""Issue, list and revoke tokens. Nobody gives a token more than their own has, neither in reach nor in time.

The command line has no principal: it uses `new_token`, `insert_token` and `revoke_token` by themselves.
"""

import math
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from sluicegate.core.catalog import Team, Token, User, VirtualServer, new_id
from sluicegate.core.directory import Directory
from sluicegate.core.errors import Forbidden, InvalidInput, NotFound
from sluicegate.core.identity import (
    AllPermissions,
    AllServers,
    AllTeams,
    OnlyPermissions,
    OnlyServers,
    OnlyTeams,
    ServerId,
    TeamId,
    TokenId,
    TokenScope,
    UserId,
)
from sluicegate.core.permissions import EVERYONE_ON_PUBLIC, Permission
from sluicegate.core.policy import PLATFORM, Target
from sluicegate.ports import Database, IssuedClaims, TokenIssuer, Transaction, Written
from sluicegate.usecases.calling import SHOWN, Caller, no_such, required
from sluicegate.usecases.manage_users import user_named
from sluicegate.usecases.paging import Page, PageRequest, page_of

MAX_NAME = 100
MAX_TEAMS = 64
"""As many as the verifier reads."""
MAX_SERVERS = 64


class TokenRequest(Struct, frozen=True):
    """A token as it is asked for. Teams and servers by slug or id; None leaves a claim out, and so inherits."""

    name: str
    expires_in: int
    """Seconds."""
    teams: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    permissions: tuple[str, ...] | None


class NewToken(Struct, frozen=True):
    """What is stored of a token, and what is signed. Both hold ids, so that no later slug changes their meaning."""

    row: Token
    claims: IssuedClaims


class IssuedToken(Struct, frozen=True):
    """The row, and the secret that is shown this once."""

    row: Token
    secret: str


def new_token(user: User, wanted: TokenRequest, directory: Directory, now: float, max_lifetime: float) -> NewToken:
    """A token for `user`, issued at `now` (Unix seconds), not stored and not signed yet. Pure but for its random id.

    Raises InvalidInput for a wrong name, lifetime or permission and for a user who is not active, NotFound for a team
    that the user is not in (a platform admin may name any) and for an unknown server. Whether somebody may ask for it
    is not decided here: see `ManageTokens.issue`.
    """
    _check_request(wanted, max_lifetime)
    if not user.active:
        raise InvalidInput(f"user `{user.email}` is not active: activate it first", code="user_inactive")
    issued_at = int(now)
    row = Token(
        id=TokenId(new_id("tok")),
        user_id=user.id,
        name=wanted.name,
        created_at=issued_at,
        expires_at=issued_at + wanted.expires_in,
        revoked_at=None,
        teams=None if wanted.teams is None else _unique(_team_of(name, user, directory).id for name in wanted.teams),
        servers=None if wanted.servers is None else _unique(_server(name, directory).id for name in wanted.servers),
        permissions=None if wanted.permissions is None else _unique(map(_permission, wanted.permissions)),
    )
    claims = IssuedClaims(row.user_id, row.id, row.created_at, row.expires_at, row.teams, row.servers, row.permissions)
    return NewToken(row, claims)


def insert_token(tx: Transaction, row: Token) -> None:
    """Stores the row. Raises Conflict when the user was deleted meanwhile."""
    tx.insert(row)


def revoke_token(tx: Transaction, token_id: TokenId, now: float) -> Token:
    """The token, revoked; one that was revoked before keeps its time. Raises NotFound."""
    row = required(tx.get(Token, token_id), no_such("token", token_id))
    if row.revoked_at is None:
        row = msgspec.structs.replace(row, revoked_at=int(now))
        tx.update(row)
    return row


def scope_of(row: Token) -> TokenScope:
    """How far the token narrows its user."""
    return TokenScope(
        AllTeams() if row.teams is None else OnlyTeams(frozenset(map(TeamId, row.teams))),
        AllServers() if row.servers is None else OnlyServers(frozenset(map(ServerId, row.servers))),
        AllPermissions() if row.permissions is None else OnlyPermissions(frozenset(map(Permission, row.permissions))),
    )


class ManageTokens:
    """What a caller with a token may do about tokens."""

    def __init__(self, database: Database, issuer: TokenIssuer, max_lifetime: float) -> None:
        """`max_lifetime` is the longest that a token may live, in seconds."""
        self._database = database
        self._issuer = issuer
        self._max_lifetime = max_lifetime

    async def issue(self, caller: Caller, user: str, wanted: TokenRequest) -> Written[IssuedToken]:
        """A token for `user` (an email address, an id or `me`), no wider than the caller's own.

        It ends with the caller's at the latest, so that a leaked token cannot outlive itself. Raises what `new_token`
        raises, NotFound or Forbidden for a user whose tokens are not the caller's to issue, Forbidden for a token that
        would be wider than the caller's, and Conflict when the user was deleted meanwhile.
        """
        account = user_named(caller, Permission.TOKENS_CREATE, user)
        wanted = msgspec.structs.replace(wanted, expires_in=min(wanted.expires_in, _time_left(caller)))
        _check_servers_are_seen(caller, wanted)
        token = new_token(account, wanted, caller.directory, caller.at, self._max_lifetime)
        _check_not_wider(caller, token.row)
        secret = self._issuer.issue(token.claims)
        written = await self._database.write(lambda tx: insert_token(tx, token.row))
        return Written(IssuedToken(token.row, secret), written.revision)

    async def revoke(self, caller: Caller, name: str) -> Written[Token]:
        """The token with this id, revoked for good. Raises NotFound, Forbidden."""
        token = token_named(caller, Permission.TOKENS_REVOKE, name)
        return await self._database.write(lambda tx: revoke_token(tx, token.id, caller.at))


def token_named(caller: Caller, permission: Permission, name: str) -> Token:
    """The token with this id, if the caller may do `permission` on it. Raises NotFound, Forbidden."""
    return caller.permitted(permission, caller.directory.tokens.get(TokenId(name)), no_such("token", name))


def list_tokens(caller: Caller, wanted: PageRequest, user: str | None) -> Page[Token]:
    """The tokens that the caller may read, oldest first; those of one `user` when given. Raises NotFound."""
    directory = caller.directory
    tokens: Iterable[Token] = directory.tokens.values()
    if user is not None:
        account = user_named(caller, Permission.TOKENS_READ, user)
        tokens = (token for token in tokens if token.user_id == account.id)
    return page_of(tokens, _age, wanted, caller.sieve(Permission.TOKENS_READ).lets)


def _age(token: Token) -> str:
    return f"{token.created_at:012d}/{token.id}"


def _time_left(caller: Caller) -> int:
    return math.floor(caller.principal.expires_at - caller.at)


def _check_request(wanted: TokenRequest, max_lifetime: float) -> None:
    if not 0 < len(wanted.name) <= MAX_NAME or not wanted.name.isprintable():
        raise InvalidInput(f"`name` must have 1 to {MAX_NAME} printable characters")
    if not 0 < wanted.expires_in <= max_lifetime:
        raise InvalidInput(f"a token lives for 1 to {max_lifetime:.0f} seconds, not {wanted.expires_in}")
    if len(wanted.teams or ()) > MAX_TEAMS or len(wanted.servers or ()) > MAX_SERVERS:
        raise InvalidInput(f"a token names at most {MAX_TEAMS} teams and {MAX_SERVERS} servers")


def _check_servers_are_seen(caller: Caller, wanted: TokenRequest) -> None:
    for name in wanted.servers or ():
        if not caller.sees(Permission.SERVERS_READ, _server(name, caller.directory)):
            raise NotFound(no_such("server", name))


def _check_not_wider(caller: Caller, row: Token) -> None:
    if not scope_of(row).within(caller.principal.scope):
        raise _wider("the token would reach further than the one you use: name fewer teams, servers or permissions")
    for permission in map(Permission, row.permissions or ()):
        if not _holds(caller, permission):
            raise _wider(f"the token would give `{permission}`, which you do not have")


def _holds(caller: Caller, permission: Permission) -> bool:
    """Whether the caller may do it anywhere: on public objects, on their own account, in a team or on the platform."""
    account = caller.directory.users[caller.principal.user_id]
    anywhere: list[Target] = [account, PLATFORM, *caller.teams()]
    return permission in EVERYONE_ON_PUBLIC or any(caller.may(permission, target) for target in anywhere)


def _wider(message: str) -> Forbidden:
    return Forbidden(message, scopes=(Permission.TOKENS_CREATE,), reason="wider_than_own_token")


def _team_of(name: str, user: User, directory: Directory) -> Team:
    team = directory.team(name)
    if team is None or not (user.platform_admin or _is_member(user.id, team.id, directory)):
        raise NotFound(f"{no_such('team', name)} that `{user.email}` is in")
    return team


def _is_member(user_id: UserId, team_id: TeamId, directory: Directory) -> bool:
    return any(member_of == team_id for member_of, _ in directory.roles_of(user_id))


def _server(name: str, directory: Directory) -> VirtualServer:
    return required(directory.server(name), no_such("server", name))


def _permission(name: str) -> Permission:
    try:
        return Permission(name)
    except ValueError:
        raise InvalidInput(
            f"there is no permission `{name[:SHOWN]}`: they are {', '.join(Permission)}", code="unknown_permission"
        ) from None


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

"""Make the gateway's state what a file declares, in one transaction: all of it, or nothing when anything is wrong.

What the file does not name is left alone. Applying a file twice changes nothing the second time.
"""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Struct, UnsetType

from sluicegate.core.catalog import (
    KIND_OF,
    SEPARATOR,
    BearerAuth,
    Entity,
    Kind,
    Membership,
    NoAuth,
    Team,
    Upstream,
    UpstreamAuth,
    User,
    VirtualServer,
    Visibility,
    membership_id,
    new_id,
)
from sluicegate.core.errors import InvalidInput, UpstreamFailed
from sluicegate.core.identity import ServerId, TeamId, UpstreamId, UserId
from sluicegate.core.permissions import Role
from sluicegate.ports import CredentialSealer, Database, Egress, Transaction, Written
from sluicegate.usecases.apply_form import (
    Declaration,
    DeclaredMembership,
    DeclaredServer,
    DeclaredTeam,
    DeclaredUpstream,
    DeclaredUser,
    Named,
    NoCredential,
    Odd,
    Ownership,
    PlainBearer,
    refused,
)

T = TypeVar("T")
E = TypeVar("E", bound=Entity)
Owned = TypeVar("Owned", Upstream, VirtualServer)
Slugged = TypeVar("Slugged", Team, User, Upstream, VirtualServer)


class Effect(StrEnum):
    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Outcome(Struct, frozen=True):
    """What applying did to one object; `fields` are what changed of it."""

    effect: Effect
    kind: Kind
    name: str
    fields: tuple[str, ...] = ()


class ApplyDeclaration:
    """Writes what a file declares."""

    def __init__(self, database: Database, sealer: CredentialSealer, egress: Egress) -> None:
        self._database = database
        self._sealer = sealer
        self._egress = egress

    async def __call__(self, declaration: Declaration) -> Written[list[Outcome]]:
        """One outcome per object of the file. Raises InvalidInput, and has changed nothing, when anything is wrong."""
        self._check_addresses(declaration)
        return await self._database.write(lambda tx: Application(tx, self._sealer).apply(declaration))

    def _check_addresses(self, declaration: Declaration) -> None:
        problems = []
        for upstream in declaration.upstreams:
            try:
                self._egress.check_url(upstream.url.name)
            except InvalidInput as error:
                problems.append(Odd(upstream.url.line, str(error)))
        if problems:
            raise refused(declaration.source, problems)


class Application:
    """One pass over a declaration inside one transaction, in an order in which references point backwards."""

    def __init__(self, tx: Transaction, sealer: CredentialSealer) -> None:
        self._tx = tx
        self._sealer = sealer
        self._problems: list[Odd] = []

    def apply(self, declaration: Declaration) -> list[Outcome]:
        """Raises InvalidInput when anything is wrong; the caller's transaction then ends without effect."""
        outcomes = [
            *self._each(declaration.teams, self._team),
            *self._each(declaration.users, self._user),
            *self._each(declaration.upstreams, self._upstream),
            *self._each(declaration.servers, self._server),
        ]
        if self._problems:
            raise refused(declaration.source, self._problems)
        return outcomes

    def _each(self, declared: Iterable[T], apply: Callable[[T], Outcome]) -> list[Outcome]:
        outcomes = []
        for one in declared:
            try:
                outcomes.append(apply(one))
            except Odd as odd:
                self._problems.append(odd)
        return outcomes

    def _team(self, declared: DeclaredTeam) -> Outcome:
        stored = self._stored(Team, slug=declared.slug)
        old = stored or Team(TeamId(new_id("team")), declared.slug, declared.slug, True)
        return self._saved(stored, msgspec.structs.replace(old, name=_or(declared.name, old.name)), declared.slug)

    def _user(self, declared: DeclaredUser) -> Outcome:
        stored = self._stored(User, email=declared.email)
        old = stored or User(UserId(new_id("usr")), declared.email, True, False)
        wanted = msgspec.structs.replace(old, platform_admin=_or(declared.platform_admin, old.platform_admin))
        outcome = self._saved(stored, wanted, declared.email)
        if isinstance(declared.teams, UnsetType) or not self._set_memberships(wanted.id, declared.teams):
            return outcome
        effect = Effect.CHANGED if outcome.effect is Effect.UNCHANGED else outcome.effect
        return msgspec.structs.replace(outcome, effect=effect, fields=(*outcome.fields, "teams"))

    def _set_memberships(self, user_id: UserId, declared: Iterable[DeclaredMembership]) -> bool:
        """Makes the user's memberships exactly these; true when that changed anything."""
        surplus = {membership.team_id: membership for membership in self._tx.find(Membership, user_id=user_id)}
        changed = False
        for one in declared:
            team_id = self._team_id(one.team)
            changed |= self._set_role(surplus.pop(team_id, None), user_id, team_id, one.role)
        for membership in surplus.values():
            self._tx.delete(membership)
        return changed or bool(surplus)

    def _set_role(self, stored: Membership | None, user_id: UserId, team_id: TeamId, role: Role) -> bool:
        wanted = Membership(membership_id(user_id, team_id), user_id, team_id, role)
        if stored is None:
            self._tx.insert(wanted)
        elif stored != wanted:
            self._tx.update(wanted)
        return stored != wanted

    def _upstream(self, declared: DeclaredUpstream) -> Outcome:
        stored = self._stored(Upstream, slug=declared.slug)
        old = stored or _new_upstream(declared)
        wanted = self._owned(old, declared.ownership, declared.line)
        wanted = msgspec.structs.replace(wanted, url=declared.url.name, auth=self._auth(old, declared))
        if wanted.url != old.url:
            if isinstance(old.auth, BearerAuth) and isinstance(declared.auth, UnsetType):
                raise Odd(declared.url.line, "a new `url` needs its credential again: write `auth` too")
            wanted = msgspec.structs.replace(wanted, era=None, protocol_version=None, sync_warnings=())
        return self._saved(stored, wanted, declared.slug)

    def _auth(self, old: Upstream, declared: DeclaredUpstream) -> UpstreamAuth:
        """Sealing is random, so what holds the same secret already is kept as it is."""
        auth = declared.auth
        if isinstance(auth, UnsetType):
            return old.auth
        if isinstance(auth, NoCredential):
            return NoAuth()
        if isinstance(old.auth, BearerAuth) and self._holds(old.id, old.auth, auth):
            return old.auth
        try:
            return BearerAuth(self._sealer.seal(old.id, auth.secret))
        except InvalidInput as error:
            raise Odd(auth.line, str(error)) from None

    def _holds(self, upstream_id: UpstreamId, stored: BearerAuth, wanted: PlainBearer) -> bool:
        try:
            return self._sealer.open(upstream_id, stored.sealed) == wanted.secret
        except UpstreamFailed:
            return False  # sealed with a key that is gone: it is sealed anew

    def _server(self, declared: DeclaredServer) -> Outcome:
        for one in declared.tools:
            slug = one.selector.tool.partition(SEPARATOR)[0]
            if not self._tx.find(Upstream, slug=slug):
                raise Odd(one.line, f"there is no upstream `{slug[:80]}`, which `{one.selector.tool[:80]}` names")
        stored = self._stored(VirtualServer, slug=declared.slug)
        old = stored or VirtualServer(ServerId(new_id("srv")), declared.slug, None, None, Visibility.PRIVATE, True, ())
        wanted = self._owned(old, declared.ownership, declared.line)
        tools = tuple(one.selector for one in declared.tools)
        return self._saved(stored, msgspec.structs.replace(wanted, tools=tools), declared.slug)

    def _owned(self, old: Owned, ownership: Ownership, line: int) -> Owned:
        wanted = msgspec.structs.replace(
            old,
            team_id=old.team_id if isinstance(ownership.team, UnsetType) else self._team_id(ownership.team),
            owner_id=old.owner_id if isinstance(ownership.owner, UnsetType) else self._user_id(ownership.owner),
            visibility=_or(ownership.visibility, old.visibility),
            enabled=_or(ownership.enabled, old.enabled),
        )
        if wanted.visibility is not Visibility.PUBLIC and wanted.team_id is None:
            raise Odd(line, f"what is {wanted.visibility} needs a `team`: name one, or write `visibility: public`")
        if wanted.visibility is Visibility.PRIVATE and wanted.owner_id is None:
            raise Odd(line, "what is private needs an `owner`: name one, or write a `visibility` of `team` or `public`")
        return wanted

    def _team_id(self, named: Named) -> TeamId:
        found = self._tx.find(Team, slug=named.name)
        if not found:
            raise Odd(
                named.line, f"there is no team `{named.name[:80]}`: declare it under `teams`, or correct the name"
            )
        return found[0].id

    def _user_id(self, named: Named) -> UserId:
        found = self._tx.find(User, email=named.name.lower())
        if not found:
            raise Odd(
                named.line, f"there is no user `{named.name[:80]}`: declare them under `users`, or correct the name"
            )
        return found[0].id

    def _stored(self, kind: type[Slugged], **name: str) -> Slugged | None:
        """The object of this name, locked, so that what others change of it is not lost."""
        found = self._tx.find(kind, **name)
        return self._tx.get(kind, found[0].id) if found else None

    def _saved(self, stored: E | None, wanted: E, name: str) -> Outcome:
        kind = KIND_OF[type(wanted)]
        if stored is None:
            self._tx.insert(wanted)
            return Outcome(Effect.CREATED, kind, name)
        fields = [one for one in wanted.__struct_fields__ if getattr(stored, one) != getattr(wanted, one)]
        if not fields:
            return Outcome(Effect.UNCHANGED, kind, name)
        self._tx.update(wanted)
        return Outcome(Effect.CHANGED, kind, name, tuple(one.removesuffix("_id") for one in fields))


def _new_upstream(declared: DeclaredUpstream) -> Upstream:
    identity = UpstreamId(new_id("ups"))
    url = declared.url.name
    return Upstream(identity, declared.slug, url, None, None, Visibility.PRIVATE, True, NoAuth(), None, None, ())


def _or(declared: T | UnsetType, old: T) -> T:
    return old if isinstance(declared, UnsetType) else declared

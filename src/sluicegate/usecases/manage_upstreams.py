"""Upstreams: register, change, delete, synchronise. A credential goes in and never comes back out."""

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.core.catalog import BearerAuth, NoAuth, Upstream, UpstreamAuth, Visibility, checked_slug, new_id
from sluicegate.core.errors import Conflict, InvalidInput, Unavailable, UpstreamFailed
from sluicegate.core.identity import UpstreamId
from sluicegate.core.permissions import Permission
from sluicegate.ports import CredentialSealer, Database, Egress, Transaction, Written
from sluicegate.usecases.calling import Caller, no_such
from sluicegate.usecases.paging import Page, PageRequest, page_of
from sluicegate.usecases.placing import Place, place_after, place_for_new, unmoved
from sluicegate.usecases.sync_upstream import SyncReport, SyncUpstream

Secret = Annotated[str, Meta(min_length=1, max_length=4096, description="visible ASCII without blanks")]


class NoCredential(Struct, frozen=True, forbid_unknown_fields=True, tag="none"):
    """The upstream asks for none."""


class BearerCredential(Struct, frozen=True, forbid_unknown_fields=True, tag="bearer"):
    """Sent as `Authorization: Bearer`. Shown by nothing."""

    token: Secret

    def __repr__(self) -> str:
        return "BearerCredential()"


Credential = NoCredential | BearerCredential


class NewUpstream(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An upstream to be registered. See `placing.place_for_new` for an absent `team`."""

    slug: Annotated[str, Meta(description="1 to 63 of a-z, 0-9 and -", examples=["clock"])]
    url: Annotated[str, Meta(examples=["https://clock.example.com/mcp"])]
    visibility: Visibility
    team: Annotated[str, Meta(description="a slug or id", examples=["payments"])] | None = None
    auth: Credential = NoCredential()


class UpstreamChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is absent stays as it is; a `team` of null moves it to the platform."""

    url: str | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    team: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    auth: Credential | UnsetType = UNSET


class SyncFailure(Struct, frozen=True):
    """Why a synchronisation came to nothing: a stable code and a sentence."""

    code: str
    detail: str


class NotSynchronised(Struct, frozen=True):
    """Nothing was changed that a synchronisation could show."""


class Registered(Struct, frozen=True):
    """An upstream that is stored, whatever came of listing its tools."""

    upstream: Upstream
    sync: SyncReport | SyncFailure | NotSynchronised


class ManageUpstreams:
    """Changes of upstreams. No connection to the database is held while an upstream is asked."""

    def __init__(self, database: Database, sync: SyncUpstream, sealer: CredentialSealer, egress: Egress) -> None:
        self._database = database
        self._sync = sync
        self._sealer = sealer
        self._egress = egress

    async def create(self, caller: Caller, wanted: NewUpstream) -> Written[Registered]:
        """Registers and synchronises; if the latter fails the upstream is kept, to be synchronised later.

        Raises NotFound, Forbidden, InvalidInput, EgressRefused, Conflict when the slug is taken.
        """
        place = place_for_new(caller, Permission.UPSTREAMS_MANAGE, wanted.team, wanted.visibility)
        self._egress.check_url(wanted.url)
        upstream_id = UpstreamId(new_id("ups"))
        upstream = Upstream(
            id=upstream_id,
            slug=checked_slug(wanted.slug),
            url=wanted.url,
            team_id=place.team_id,
            owner_id=caller.principal.user_id,
            visibility=place.visibility,
            enabled=True,
            auth=self._sealed(upstream_id, wanted.auth),
            era=None,
            protocol_version=None,
            sync_warnings=(),
        )
        written = await self._database.write(lambda tx: tx.insert(upstream))
        return await self._synchronised(Written(upstream, written.revision))

    async def change(self, caller: Caller, name: str, change: UpstreamChange) -> Written[Registered]:
        """The upstream as it is now; with a new URL or credential it is synchronised as in `create`, if it is enabled.

        Raises NotFound, Forbidden, InvalidInput, EgressRefused, Conflict when it was moved meanwhile.
        """
        upstream = upstream_named(caller, Permission.UPSTREAMS_MANAGE, name)
        place = place_after(caller, Permission.UPSTREAMS_MANAGE, upstream, change.team, change.visibility)
        if change.url is not UNSET:
            self._egress.check_url(change.url)
        auth = UNSET if change.auth is UNSET else self._sealed(upstream.id, change.auth)
        written = await self._database.write(lambda tx: _change(tx, upstream, place, change, auth))
        reachable_as_before = written.value.url == upstream.url and auth is UNSET
        if reachable_as_before or not written.value.enabled:
            return Written(Registered(written.value, NotSynchronised()), written.revision)
        return await self._synchronised(written)

    async def delete(self, caller: Caller, name: str) -> Written[None]:
        """Deletes the upstream and its tools. Raises NotFound, Forbidden, Conflict when it was moved meanwhile."""
        upstream = upstream_named(caller, Permission.UPSTREAMS_MANAGE, name)
        missing = no_such("upstream", name)
        return await self._database.write(lambda tx: tx.delete(unmoved(tx, upstream, missing)))

    async def synchronise(self, caller: Caller, name: str) -> Written[SyncReport]:
        """Lists the upstream's tools anew. Raises NotFound, Forbidden, UpstreamFailed."""
        return await self._sync(upstream_named(caller, Permission.UPSTREAMS_MANAGE, name))

    async def _synchronised(self, stored: Written[Upstream]) -> Written[Registered]:
        try:
            report = await self._sync(stored.value)
        except (UpstreamFailed, Unavailable, Conflict) as error:
            return Written(Registered(stored.value, SyncFailure(error.code, str(error))), stored.revision)
        return Written(Registered(stored.value, report.value), report.revision)

    def _sealed(self, upstream_id: UpstreamId, credential: Credential) -> UpstreamAuth:
        if isinstance(credential, BearerCredential):
            if not re.fullmatch("[!-~]+", credential.token):
                raise InvalidInput("a bearer token is visible ASCII without blanks")
            return BearerAuth(self._sealer.seal(upstream_id, credential.token))
        return NoAuth()


def upstream_named(caller: Caller, permission: Permission, name: str) -> Upstream:
    """The upstream with this slug or id, if the caller may do `permission` on it. Raises NotFound, Forbidden."""
    return caller.permitted(permission, caller.directory.upstream(name), no_such("upstream", name))


def list_upstreams(caller: Caller, wanted: PageRequest) -> Page[Upstream]:
    """The upstreams that the caller may read, by slug."""
    upstreams = caller.directory.upstreams.values()
    return page_of(upstreams, lambda each: each.slug, wanted, lambda each: caller.may(Permission.UPSTREAMS_READ, each))


def _change(
    tx: Transaction, judged: Upstream, place: Place, change: UpstreamChange, auth: UpstreamAuth | UnsetType
) -> Upstream:
    row = unmoved(tx, judged, no_such("upstream", judged.slug))
    url = row.url if change.url is UNSET else change.url
    if url != row.url and isinstance(row.auth, BearerAuth) and auth is UNSET:
        # or whoever may change the URL could have the credential sent to a server of their own
        raise InvalidInput("a new `url` needs its credential again: send `auth` with it", code="auth_needed")
    changed = msgspec.structs.replace(
        row,
        url=url,
        team_id=place.team_id,
        visibility=place.visibility,
        enabled=row.enabled if change.enabled is UNSET else change.enabled,
        auth=row.auth if auth is UNSET else auth,
    )
    if url != row.url:
        changed = msgspec.structs.replace(changed, era=None, protocol_version=None, sync_warnings=())
    tx.update(changed)
    return changed

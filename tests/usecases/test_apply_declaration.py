"""Applying a declaration to a real SQLite database: idempotent, all or nothing, leaving alone what it does not name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from sluicegate.core.catalog import BearerAuth, Era, NoAuth, ToolSelector, Visibility
from sluicegate.core.directory import Directory
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Role
from sluicegate.store import SqlDatabase, migrate, open_database
from sluicegate.upstream.credentials import CredentialCipher
from sluicegate.upstream.egress import AddressGuard
from sluicegate.usecases.apply_declaration import ApplyDeclaration
from sluicegate.usecases.apply_form import (
    Declaration,
    DeclaredMembership,
    DeclaredSelector,
    DeclaredServer,
    DeclaredTeam,
    DeclaredUpstream,
    DeclaredUser,
    Named,
    NoCredential,
    Ownership,
    PlainBearer,
)

CIPHER = CredentialCipher(bytes(range(32)))
EMPTY = Declaration("gate.yaml", (), (), (), ())
TEAM = Ownership(team=Named(8, "payments"), visibility=Visibility.TEAM)
PUBLIC = Ownership(visibility=Visibility.PUBLIC)


def team(slug: str = "payments", name: str | None = None) -> DeclaredTeam:
    return DeclaredTeam(2, slug, UNSET if name is None else name)


def user(email: str = "alice@example.com", **roles: Role) -> DeclaredUser:
    teams = tuple(DeclaredMembership(Named(5, slug), role) for slug, role in roles.items())
    return DeclaredUser(4, email, UNSET, teams if roles else UNSET)


def upstream(
    slug: str = "clock", ownership: Ownership = PUBLIC, url: str = "http://example.com/mcp", secret: str | None = None
) -> DeclaredUpstream:
    auth = UNSET if secret is None else PlainBearer(9, secret)
    return DeclaredUpstream(7, slug, Named(7, url), ownership, auth)


def server(*tools: str, ownership: Ownership = PUBLIC) -> DeclaredServer:
    return DeclaredServer(11, "support", ownership, tuple(DeclaredSelector(12, ToolSelector(tool)) for tool in tools))


WHOLE = Declaration(
    "gate.yaml",
    (team(name="Payments"),),
    (user(payments=Role.DEVELOPER),),
    (upstream(ownership=TEAM, secret="swordfish"),),
    (server("clock__*", ownership=TEAM),),
)


class Gate:
    """A database, and applying to it."""

    def __init__(self, database: SqlDatabase, allow_private: bool = True) -> None:
        self.database = database
        self._apply = ApplyDeclaration(database, CIPHER, AddressGuard(allow_private=allow_private))

    async def apply(self, declaration: Declaration) -> list[str]:
        outcomes = (await self._apply(declaration)).value
        return [f"{one.effect} {one.kind} {one.name} {' '.join(one.fields)}".strip() for one in outcomes]

    async def refusals(self, declaration: Declaration) -> list[str]:
        with pytest.raises(InvalidInput) as refused:
            await self._apply(declaration)
        return str(refused.value).splitlines()

    async def directory(self) -> Directory:
        return (await self.database.feed_source().load()).directory


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    url = f"sqlite:///{tmp_path / 'gate.db'}"
    migrate(url)
    database = open_database(url, pool_size=1, max_overflow=0, pool_timeout=5.0)
    yield Gate(database)
    database.close()


async def test_everything_that_is_declared_is_there_afterwards(gate: Gate) -> None:
    assert await gate.apply(WHOLE) == [
        "created team payments",
        "created user alice@example.com teams",
        "created upstream clock",
        "created server support",
    ]
    directory = await gate.directory()
    payments, alice = directory.team("payments"), directory.user("alice@example.com")
    assert payments is not None
    assert alice is not None
    assert directory.roles_of(alice.id) == ((payments.id, Role.DEVELOPER),)
    clock, support = directory.upstream("clock"), directory.server("support")
    assert clock is not None
    assert isinstance(clock.auth, BearerAuth)
    assert CIPHER.open(clock.id, clock.auth.sealed) == "swordfish"
    assert (clock.team_id, clock.visibility, clock.enabled) == (payments.id, Visibility.TEAM, True)
    assert support is not None
    assert support.tools == (ToolSelector("clock__*"),)


async def test_applying_twice_changes_nothing_the_second_time(gate: Gate) -> None:
    await gate.apply(WHOLE)
    before = (await gate.directory()).revision
    assert {one.partition(" ")[0] for one in await gate.apply(WHOLE)} == {"unchanged"}
    assert (await gate.directory()).revision == before


async def test_what_is_not_written_keeps_its_value(gate: Gate) -> None:
    await gate.apply(WHOLE)
    bare = Declaration("b", (team(),), (user(),), (upstream(ownership=Ownership()),), ())
    assert {one.partition(" ")[0] for one in await gate.apply(bare)} == {"unchanged"}


async def test_a_change_names_what_changed(gate: Gate) -> None:
    await gate.apply(WHOLE)
    changed = replace(
        WHOLE,
        teams=(team(name="Money"),),
        upstreams=(upstream(ownership=replace(PUBLIC, enabled=False), secret="swordfish"),),
        servers=(server("clock__now"),),
    )
    assert await gate.apply(changed) == [
        "changed team payments name",
        "unchanged user alice@example.com",
        "changed upstream clock visibility enabled",
        "changed server support visibility tools",
    ]


async def test_the_teams_that_are_written_are_exactly_the_users_teams(gate: Gate) -> None:
    teams = (team(), team("search"))
    await gate.apply(replace(EMPTY, teams=teams, users=(user(payments=Role.OWNER, search=Role.VIEWER),)))
    assert await gate.apply(replace(EMPTY, users=(user(search=Role.DEVELOPER),))) == [
        "changed user alice@example.com teams"
    ]
    directory = await gate.directory()
    alice, search = directory.user("alice@example.com"), directory.team("search")
    assert alice is not None
    assert search is not None
    assert directory.roles_of(alice.id) == ((search.id, Role.DEVELOPER),)


async def test_a_new_secret_is_sealed_and_the_same_one_is_not_sealed_again(gate: Gate) -> None:
    await gate.apply(replace(EMPTY, upstreams=(upstream(secret="old"),)))
    assert await gate.apply(replace(EMPTY, upstreams=(upstream(secret="old"),))) == ["unchanged upstream clock"]
    assert await gate.apply(replace(EMPTY, upstreams=(upstream(secret="new"),))) == ["changed upstream clock auth"]


async def test_a_credential_can_be_taken_away(gate: Gate) -> None:
    await gate.apply(replace(EMPTY, upstreams=(upstream(secret="old"),)))
    bare = replace(upstream(), auth=NoCredential())
    assert await gate.apply(replace(EMPTY, upstreams=(bare,))) == ["changed upstream clock auth"]
    clock = (await gate.directory()).upstream("clock")
    assert clock is not None
    assert clock.auth == NoAuth()


async def test_a_secret_that_was_sealed_with_a_key_that_is_gone_is_sealed_anew(gate: Gate) -> None:
    foreign = ApplyDeclaration(gate.database, CredentialCipher(bytes(32)), AddressGuard(allow_private=True))
    await foreign(replace(EMPTY, upstreams=(upstream(secret="old"),)))
    assert await gate.apply(replace(EMPTY, upstreams=(upstream(secret="old"),))) == ["changed upstream clock auth"]


async def test_a_credential_does_not_follow_an_upstream_to_a_new_address(gate: Gate) -> None:
    await gate.apply(replace(EMPTY, upstreams=(upstream(secret="old"),)))
    moved = upstream(url="http://elsewhere.example/mcp")
    assert await gate.refusals(replace(EMPTY, upstreams=(moved,))) == [
        "gate.yaml:7: a new `url` needs its credential again: write `auth` too"
    ]


async def test_what_was_found_out_at_the_old_address_is_forgotten(gate: Gate) -> None:
    await gate.apply(replace(EMPTY, upstreams=(upstream(),)))
    clock = (await gate.directory()).upstream("clock")
    assert clock is not None
    probed = replace(clock, era=Era.LEGACY, protocol_version="2025-11-25", sync_warnings=("odd",))
    await gate.database.write(lambda tx: tx.update(probed))
    assert await gate.apply(replace(EMPTY, upstreams=(upstream(),))) == ["unchanged upstream clock"]
    await gate.apply(replace(EMPTY, upstreams=(upstream(url="http://elsewhere.example/mcp"),)))
    moved = (await gate.directory()).upstream("clock")
    assert moved is not None
    assert (moved.era, moved.protocol_version, moved.sync_warnings) == (None, None, ())


@pytest.mark.parametrize(
    ("part", "refusal"),
    [
        (
            replace(EMPTY, users=(user(nowhere=Role.OWNER),)),
            "gate.yaml:5: there is no team `nowhere`: declare it under `teams`, or correct the name",
        ),
        (
            replace(EMPTY, upstreams=(upstream(ownership=replace(PUBLIC, team=Named(8, "nowhere"))),)),
            "gate.yaml:8: there is no team `nowhere`: declare it under `teams`, or correct the name",
        ),
        (
            replace(EMPTY, upstreams=(upstream(ownership=replace(PUBLIC, owner=Named(8, "no@one"))),)),
            "gate.yaml:8: there is no user `no@one`: declare them under `users`, or correct the name",
        ),
        (
            replace(EMPTY, upstreams=(upstream(ownership=Ownership(visibility=Visibility.TEAM)),)),
            "gate.yaml:7: what is team needs a `team`: name one, or write `visibility: public`",
        ),
        (
            replace(EMPTY, teams=(team(),), upstreams=(upstream(ownership=Ownership(team=Named(8, "payments"))),)),
            "gate.yaml:7: what is private needs an `owner`: name one, or write a `visibility` of `team` or `public`",
        ),
        (
            replace(EMPTY, upstreams=(upstream(secret="a b"),)),
            "gate.yaml:9: a bearer credential is 1 to 8192 visible ASCII characters without blanks",
        ),
        (
            replace(EMPTY, upstreams=(upstream(url="ftp://example.com"),)),
            "gate.yaml:7: give an upstream as http(s)://host[:port]/path",
        ),
        (
            replace(EMPTY, servers=(server("nowhere__now"),)),
            "gate.yaml:12: there is no upstream `nowhere`, which `nowhere__now` names",
        ),
    ],
)
async def test_what_cannot_be_is_refused_with_its_line(gate: Gate, part: Declaration, refusal: str) -> None:
    assert await gate.refusals(part) == [refusal]


async def test_when_anything_is_wrong_nothing_is_written(gate: Gate) -> None:
    before = (await gate.directory()).revision
    assert len(await gate.refusals(replace(WHOLE, servers=(server("nowhere__*"),)))) == 1
    directory = await gate.directory()
    assert (directory.revision, directory.teams, directory.users, directory.upstreams) == (before, {}, {}, {})


async def test_all_that_is_wrong_is_said_at_once(gate: Gate) -> None:
    wrong = replace(EMPTY, users=(user(nowhere=Role.OWNER),), servers=(server("nowhere__*"),))
    assert [line.partition(" ")[0] for line in await gate.refusals(wrong)] == ["gate.yaml:5:", "gate.yaml:12:"]


async def test_a_private_address_is_refused_unless_it_is_allowed(gate: Gate) -> None:
    careful = Gate(gate.database, allow_private=False)
    declared = replace(EMPTY, upstreams=(upstream(url="http://127.0.0.1:9101/mcp"),))
    assert "loopback or private" in (await careful.refusals(declared))[0]
    assert await gate.apply(declared) == ["created upstream clock"]


async def test_something_private_belongs_to_its_owner_in_a_team(gate: Gate) -> None:
    private = Ownership(team=Named(8, "payments"), owner=Named(8, "Alice@Example.com"), visibility=Visibility.PRIVATE)
    await gate.apply(replace(WHOLE, upstreams=(upstream("diary", ownership=private),), servers=()))
    directory = await gate.directory()
    diary, alice = directory.upstream("diary"), directory.user("alice@example.com")
    assert diary is not None
    assert alice is not None
    assert diary.owner_id == alice.id

"""From token to principal: liveness at every revision, time on every call, and nothing from a failure."""

import weakref
from collections.abc import Iterable

import pytest
from prometheus_client import REGISTRY

from sluicegate.auth.authenticator import DirectoryAuthenticator
from sluicegate.auth.tokens import JwtVerifier, VerifiedToken
from sluicegate.core.catalog import Entity, Kind, Team, Token, User, VirtualServer, Visibility
from sluicegate.core.directory import Directory
from sluicegate.core.errors import AuthorizationStale, Unauthenticated
from sluicegate.core.events import Change
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
    UserId,
)
from sluicegate.core.permissions import Permission
from tests.auth.forge import ISSUER, KEYS, LIFETIME, NOW, claims, token

ALICE = User(UserId("usr_alice"), "alice@example.com", active=True, platform_admin=False)
PAYMENTS = Team(TeamId("team_1"), "payments", "Payments", active=True)
SUPPORT = VirtualServer(ServerId("srv_1"), "support", TeamId("team_1"), None, Visibility.TEAM, True, ())


def issued(revoked_at: int | None = None, user: str = "usr_alice") -> Token:
    return Token(TokenId("tok_1"), UserId(user), "ci", NOW, NOW + 3600, revoked_at, None, None, None)


class CountingVerifier(JwtVerifier):
    """Counts how often a token is really verified."""

    def __init__(self) -> None:
        super().__init__(KEYS, ISSUER, ISSUER, LIFETIME)
        self.verified = 0

    def verify(self, token: str, now: float) -> VerifiedToken:
        self.verified += 1
        return super().verify(token, now)


class World:
    """A directory, a clock that stands, and the authenticator in between."""

    def __init__(self, entities: Iterable[Entity] = (ALICE, PAYMENTS, SUPPORT)) -> None:
        self.now = float(NOW)
        self.directory = Directory("epoch", 7, entities)
        self.verifier = CountingVerifier()
        self.authenticate = DirectoryAuthenticator(self.verifier, lambda: self.directory, self).authenticate

    def wall(self) -> float:
        return self.now

    def boot(self) -> float:
        raise AssertionError("tokens state wall time")

    def change(self, kind: Kind, key: str, entity: Entity | None) -> None:
        self.directory.apply(Change(self.directory.revision + 1, kind, key, entity))

    def refusal(self, text: str) -> str:
        with pytest.raises(Unauthenticated) as refused:
            self.authenticate(text)
        return refused.value.code


@pytest.fixture
def world() -> World:
    return World()


# --- the principal --------------------------------------------------------------------------------------------------


def test_a_token_without_claims_inherits_everything(world: World) -> None:
    principal = world.authenticate(token())
    assert (principal.user_id, principal.token_id, principal.expires_at) == ("usr_alice", "tok_1", NOW + 3600)
    assert (principal.scope.teams, principal.scope.servers) == (AllTeams(), AllServers())
    assert principal.scope.permissions == AllPermissions()


def test_names_are_resolved_by_slug_and_by_id(world: World) -> None:
    by_slug = token(claims(teams=["payments"], scopes={"servers": ["support"], "permissions": ["tools:call"]}))
    by_id = token(claims(teams=["team_1"], scopes={"servers": ["srv_1"], "permissions": ["tools:call"]}))
    scope = world.authenticate(by_slug).scope
    assert scope == world.authenticate(by_id).scope
    assert scope.teams == OnlyTeams(frozenset({PAYMENTS.id}))
    assert scope.servers == OnlyServers(frozenset({SUPPORT.id}))
    assert scope.permissions == OnlyPermissions(frozenset({Permission.TOOLS_CALL}))


@pytest.mark.parametrize("names", [[], ["gone"], [" payments"], ["PAYMENTS"]])
def test_a_name_that_is_not_known_narrows_to_nothing(world: World, names: list[str]) -> None:
    scope = world.authenticate(token(claims(teams=names, scopes={"servers": names}))).scope
    assert (scope.teams, scope.servers) == (OnlyTeams(frozenset()), OnlyServers(frozenset()))


def test_a_team_that_appears_or_is_renamed_is_seen_by_a_token_that_is_known(world: World) -> None:
    narrowed = token(claims(teams=["risk"]))
    assert world.authenticate(narrowed).scope.teams == OnlyTeams(frozenset())
    world.change(Kind.TEAM, "team_2", Team(TeamId("team_2"), "risk", "Risk", active=True))
    assert world.authenticate(narrowed).scope.teams == OnlyTeams(frozenset({TeamId("team_2")}))
    world.change(Kind.TEAM, "team_2", Team(TeamId("team_2"), "fraud", "Fraud", active=True))
    assert world.authenticate(narrowed).scope.teams == OnlyTeams(frozenset())


# --- liveness -------------------------------------------------------------------------------------------------------


def test_a_revoked_token_is_refused_from_the_next_call_on(world: World) -> None:
    world.authenticate(token())
    world.change(Kind.TOKEN, "tok_1", issued())
    world.authenticate(token())
    world.change(Kind.TOKEN, "tok_1", issued(revoked_at=NOW))
    assert [world.refusal(token()) for _ in range(2)] == ["token_revoked"] * 2


def test_a_deactivated_user_is_refused_and_a_reactivated_one_accepted(world: World) -> None:
    world.authenticate(token())
    world.change(Kind.USER, ALICE.id, User(ALICE.id, ALICE.email, active=False, platform_admin=True))
    assert [world.refusal(token()) for _ in range(2)] == ["user_inactive"] * 2
    world.change(Kind.USER, ALICE.id, ALICE)
    assert world.authenticate(token()).user_id == ALICE.id


def test_a_deleted_user_is_refused(world: World) -> None:
    world.authenticate(token())
    world.change(Kind.USER, ALICE.id, None)
    assert world.refusal(token()) == "user_unknown"


def test_a_token_id_of_another_user_is_refused() -> None:
    assert World([ALICE, issued(user="usr_bob")]).refusal(token()) == "token_wrong_subject"


def test_a_directory_that_was_loaded_anew_is_asked_even_at_the_same_revision(world: World) -> None:
    world.authenticate(token())
    world.directory = Directory("other epoch", world.directory.revision, [ALICE, issued(revoked_at=NOW)])
    assert world.refusal(token()) == "token_revoked"


def test_a_directory_that_was_given_up_is_not_kept_until_the_next_request(world: World) -> None:
    world.authenticate(token(claims()))
    old = weakref.ref(world.directory)
    world.directory = Directory("other epoch", world.directory.revision, [ALICE])
    assert old() is None


def test_without_a_directory_nothing_is_decided() -> None:
    def not_loaded() -> Directory:
        raise AuthorizationStale("not loaded")

    with pytest.raises(AuthorizationStale):
        DirectoryAuthenticator(CountingVerifier(), not_loaded, World()).authenticate(token())


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_a_token_is_verified_once_also_while_its_user_is_inactive(world: World) -> None:
    first = world.authenticate(token())
    assert world.authenticate(token()) is first
    world.change(Kind.USER, ALICE.id, User(ALICE.id, ALICE.email, active=False, platform_admin=False))
    for _ in range(3):
        world.refusal(token())
    assert world.verifier.verified == 1


def test_a_token_that_is_known_expires_to_the_second(world: World) -> None:
    world.authenticate(token())
    world.now = NOW + 3599.999
    world.authenticate(token())
    world.now = float(NOW + 3600)
    assert [world.refusal(token()) for _ in range(2)] == ["token_expired"] * 2


def test_refused_tokens_are_not_remembered(world: World) -> None:
    expired = token(claims(exp=NOW - 1))
    assert [world.refusal(expired) for _ in range(2)] == ["token_expired"] * 2
    assert world.verifier.verified == 2


def test_the_whole_token_is_the_key(world: World) -> None:
    good = token()
    world.authenticate(good)
    assert world.refusal(good[:-2]) == "token_bad_signature"
    assert world.refusal(good + "x") == "token_malformed"


def test_the_oldest_token_leaves_when_there_are_too_many(world: World) -> None:
    bounded = DirectoryAuthenticator(world.verifier, lambda: world.directory, world, most=2)
    first, second, third = (token(claims(jti=f"tok_{n}")) for n in range(3))
    for text in (first, second, third, second, third):
        bounded.authenticate(text)
    assert world.verifier.verified == 3
    bounded.authenticate(first)
    assert world.verifier.verified == 4


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "x", "é" * 10, "\ud800", "a" * 10_000_000, "a.b.c", "null"], ids=lambda text: text[:3]
)
def test_text_that_is_no_token_is_refused(world: World, text: str) -> None:
    assert world.refusal(text) == "token_malformed"


class BrokenVerifier(CountingVerifier):
    def verify(self, token: str, now: float) -> VerifiedToken:
        raise ZeroDivisionError(token)


def test_an_unexpected_failure_is_counted_and_refused(world: World) -> None:
    def failures() -> float:
        return REGISTRY.get_sample_value("unexpected_errors_total", {"place": "authenticator"}) or 0

    before = failures()
    broken = DirectoryAuthenticator(BrokenVerifier(), lambda: world.directory, world)
    with pytest.raises(Unauthenticated) as refused:
        broken.authenticate(token())
    assert refused.value.code == "token_unverifiable"
    assert failures() == before + 1


def test_a_failure_of_the_directory_is_refused_also_for_a_token_that_is_known(world: World) -> None:
    world.authenticate(token())
    del world.directory.users
    world.directory.revision += 1
    assert world.refusal(token()) == "token_unverifiable"

"""What the command line uses, which has no principal."""

import pytest

from sluicegate.core.catalog import Token
from sluicegate.core.errors import InvalidInput, NotFound
from sluicegate.core.identity import UNNARROWED, OnlyPermissions, OnlyTeams, TokenId
from sluicegate.core.permissions import Permission
from sluicegate.usecases.manage_tokens import TokenRequest, insert_token, new_token, revoke_token, scope_of
from tests.support.memory import FakeDatabase
from tests.support.world import ALICE, NOW, PAYMENTS, ROOT, SEARCH, user, world

DAY = 86400.0
PLAIN = TokenRequest("ci", 3600, None, None, None)


def test_row_and_claims_say_the_same() -> None:
    token = new_token(user(ALICE), TokenRequest("ci", 60, ("payments",), (), ("tools:call",)), world(), NOW + 0.9, DAY)
    row, claims = token.row, token.claims
    assert (claims.subject, claims.token_id) == (row.user_id, row.id)
    assert (claims.issued_at, claims.expires_at) == (row.created_at, row.expires_at) == (NOW, NOW + 60)
    assert (claims.teams, claims.servers, claims.permissions) == (row.teams, row.servers, row.permissions)
    assert row.teams == (PAYMENTS,)


def test_two_tokens_never_share_an_id() -> None:
    ids = {new_token(user(ALICE), PLAIN, world(), NOW, DAY).row.id for _ in range(10)}
    assert len(ids) == 10
    assert all(token_id.startswith("tok_") for token_id in ids)


def test_absent_claims_do_not_narrow_and_empty_ones_give_nothing() -> None:
    assert scope_of(new_token(user(ALICE), PLAIN, world(), NOW, DAY).row) == UNNARROWED
    scope = scope_of(new_token(user(ALICE), TokenRequest("ci", 60, (), None, ()), world(), NOW, DAY).row)
    assert (scope.teams, scope.permissions) == (OnlyTeams(frozenset()), OnlyPermissions(frozenset()))


def test_a_member_is_bound_to_own_teams_and_an_admin_is_not() -> None:
    wanted = TokenRequest("ci", 60, ("search",), None, None)
    with pytest.raises(NotFound, match=r"no team `search` that `alice@example\.com` is in"):
        new_token(user(ALICE), wanted, world(), NOW, DAY)
    assert new_token(user(ROOT, admin=True), wanted, world(), NOW, DAY).row.teams == (SEARCH,)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(NotFound, match="no server `x`"):
        new_token(user(ALICE), TokenRequest("ci", 60, None, ("x",), None), world(), NOW, DAY)
    with pytest.raises(InvalidInput, match="no permission `x`"):
        new_token(user(ALICE), TokenRequest("ci", 60, None, None, ("x",)), world(), NOW, DAY)


def test_more_teams_than_a_verifier_reads_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 64 teams"):
        new_token(user(ALICE), TokenRequest("ci", 60, ("payments",) * 65, None, None), world(), NOW, DAY)


@pytest.mark.parametrize("seconds", [0, -1, int(DAY) + 1])
def test_a_lifetime_is_positive_and_bounded(seconds: int) -> None:
    with pytest.raises(InvalidInput, match="lives for 1 to 86400 seconds"):
        new_token(user(ALICE), TokenRequest("ci", seconds, None, None, None), world(), NOW, DAY)


def test_a_user_who_is_not_active_gets_none() -> None:
    with pytest.raises(InvalidInput, match="not active"):
        new_token(user(ALICE, active=False), PLAIN, world(), NOW, DAY)


async def test_a_token_is_stored_and_revoked_once() -> None:
    database = FakeDatabase(world())
    row = new_token(user(ALICE), PLAIN, database.directory, NOW, DAY).row
    await database.write(lambda tx: insert_token(tx, row))
    first = (await database.write(lambda tx: revoke_token(tx, row.id, NOW + 5.5))).value
    second = (await database.write(lambda tx: revoke_token(tx, row.id, NOW + 9))).value
    assert isinstance(first, Token)
    assert first == second == database.directory.tokens[row.id]
    assert first.revoked_at == NOW + 5
    assert database.directory.revision == 3


async def test_an_unknown_token_cannot_be_revoked() -> None:
    with pytest.raises(NotFound, match="no token `tok_x`"):
        await FakeDatabase(world()).write(lambda tx: revoke_token(tx, TokenId("tok_x"), NOW))


def test_permissions_are_all_known() -> None:
    wanted = TokenRequest("ci", 60, None, None, tuple(Permission))
    assert new_token(user(ALICE), wanted, world(), NOW, DAY).row.permissions == tuple(Permission)

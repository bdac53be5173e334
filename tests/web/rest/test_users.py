from sluicegate.core.catalog import Visibility
from sluicegate.core.identity import UserId
from sluicegate.core.permissions import Permission
from tests.support.memory import MemoryTransaction
from tests.support.world import ALICE, CLOCK, DIARY, OLGA, PAYMENTS, ROOT, principal, upstream, user
from tests.web.rest.api import Api, alice, decoded, olga, refused, revision, root

EVE = UserId("usr_eve")


async def test_a_user_sees_the_own_account_and_an_admin_sees_all() -> None:
    api = Api()
    assert await api.names(alice, "/v1/users", "email") == ["alice@example.com"]
    assert len(await api.names(root, "/v1/users", "email")) == 6


async def test_me_is_the_callers_account() -> None:
    api = Api()
    me = await api.get(alice, "/v1/users/me")
    assert (me["id"], me["teams"]) == (ALICE, [{"team": "payments", "role": "developer"}])
    assert await api.get(alice, "/v1/users/ALICE@example.com") == me
    assert (await api.get(root, "/v1/users/me"))["platform_admin"] is True


async def test_a_narrowed_token_does_not_show_memberships_beyond_its_teams() -> None:
    assert (await Api().get(principal(ALICE, teams=[]), "/v1/users/me"))["teams"] == []


async def test_a_narrowed_admin_token_sees_only_the_own_account() -> None:
    assert await Api().names(principal(ROOT, teams=[PAYMENTS]), "/v1/users", "id") == [ROOT]


async def test_an_admin_makes_an_account_with_the_address_in_lower_case() -> None:
    api = Api()
    response = await api.call(root, "POST", "/v1/users", {"email": "Eve@Example.com"})
    made = decoded(response, 201)
    assert (made["email"], made["active"], made["platform_admin"], made["teams"]) == (
        "eve@example.com",
        True,
        False,
        [],
    )
    assert revision(response) == api.directory.revision
    refused(await api.call(root, "POST", "/v1/users", {"email": "eve@example.COM"}), 409, "email_taken")


async def test_what_is_no_email_address_is_refused() -> None:
    api = Api()
    for email in ("me", "", "a@b@c", "a b@c", "usr_alice", "x@y\n"):
        refused(await api.call(root, "POST", "/v1/users", {"email": email}), 400, "invalid_email")


async def test_only_the_platform_makes_and_changes_accounts() -> None:
    api = Api()
    for caller in (olga, principal(ROOT, teams=[PAYMENTS])):
        refused(await api.call(caller, "POST", "/v1/users", {"email": "eve@x.org"}), 403, "insufficient_scope")
    refused(await api.call(alice, "PATCH", "/v1/users/me", {"platform_admin": True}), 403, "insufficient_scope")
    refused(await api.call(alice, "DELETE", "/v1/users/me"), 403, "insufficient_scope")
    refused(await api.call(alice, "PATCH", f"/v1/users/{OLGA}", {"active": False}), 404, "not_found")
    assert api.database.writes == 0


async def test_only_who_manages_the_platform_makes_or_touches_admins() -> None:
    api = Api()
    narrow = principal(ROOT, permissions=[Permission.USERS_MANAGE])
    for method, path, body in (
        ("POST", "/v1/users", {"email": "eve@x.org", "platform_admin": True}),
        ("PATCH", f"/v1/users/{ALICE}", {"platform_admin": True}),
        ("PATCH", f"/v1/users/{ROOT}", {"active": True}),
        ("DELETE", f"/v1/users/{ROOT}", None),
    ):
        problem = refused(await api.call(narrow, method, path, body), 403, "insufficient_scope")
        assert "platform:manage" in problem["detail"]
    decoded(await api.call(narrow, "PATCH", f"/v1/users/{ALICE}", {"active": False}), 200)


async def test_a_deactivated_user_can_do_nothing() -> None:
    api = Api()
    decoded(await api.call(root, "PATCH", f"/v1/users/{ALICE}", {"active": False}), 200)
    problem = refused(await api.call(alice, "GET", "/v1/tools/clock__now"), 401, "user_inactive")
    assert problem["title"] == "Unauthenticated"


async def test_the_last_admin_cannot_be_demoted_deactivated_or_deleted() -> None:
    api = Api(user(EVE, admin=True, active=False))
    for method, body in (("PATCH", {"platform_admin": False}), ("PATCH", {"active": False}), ("DELETE", None)):
        refused(await api.call(root, method, "/v1/users/me", body), 409, "last_admin")
    assert api.directory.users[ROOT] == user(ROOT, admin=True)


async def test_an_admin_steps_down_when_another_is_left() -> None:
    api = Api(user(EVE, admin=True))
    assert decoded(await api.call(root, "PATCH", "/v1/users/me", {"platform_admin": False}), 200)["id"] == ROOT
    assert await api.names(root, "/v1/users", "id") == [ROOT]


async def test_of_two_admins_who_demote_each_other_one_stays() -> None:
    api = Api(user(EVE, admin=True))

    def demote_eve(tx: MemoryTransaction) -> None:
        tx.update(user(EVE, admin=False))

    api.database.before_write = demote_eve
    refused(await api.call(root, "PATCH", "/v1/users/me", {"platform_admin": False}), 409, "last_admin")


async def test_all_admins_are_locked_in_one_order() -> None:
    """Or two demotions at once could wait for each other's rows for ever."""
    adam = UserId("usr_adam")
    api = Api(user(EVE, admin=True), user(adam, admin=True))
    decoded(await api.call(root, "PATCH", f"/v1/users/{EVE}", {"active": False}), 200)
    assert api.database.locked[:3] == sorted([adam, EVE, ROOT])


async def test_a_deleted_users_private_objects_go_and_shared_ones_stay_without_an_owner() -> None:
    shared = upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM, owner=OLGA)
    api = Api(shared)
    response = await api.call(root, "DELETE", f"/v1/users/{OLGA}")
    assert response.status == 204
    assert DIARY not in api.directory.upstreams
    assert api.directory.upstreams[CLOCK].owner_id is None
    assert OLGA not in api.directory.users
    assert api.directory.roles_of(OLGA) == ()


async def test_a_user_whose_rank_changed_meanwhile_is_a_conflict() -> None:
    api = Api()
    api.database.before_write = lambda tx: tx.update(user(ALICE, admin=True))
    refused(await api.call(root, "PATCH", f"/v1/users/{ALICE}", {"active": False}), 409, "changed_meanwhile")

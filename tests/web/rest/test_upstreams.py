import pytest
from msgspec.structs import replace

from sluicegate.core.catalog import BearerAuth, Era, Visibility
from sluicegate.core.errors import DatabaseBusy, UpstreamTimeout, UpstreamUnreachable
from sluicegate.core.permissions import Role
from tests.support.memory import MemoryTransaction
from tests.support.world import (
    ALICE,
    CLOCK,
    DIARY,
    OLGA,
    PAYMENTS,
    ROOT,
    SEARCH,
    WEB,
    member,
    principal,
    upstream,
)
from tests.web.rest.api import Api, alice, bob, decoded, olga, refused, revision, root, vera, zoe

URL = "https://mail.example.com/mcp"
SECRET = "s3cret-of-the-upstream"
TOOLS = [b'{"name":"send","inputSchema":{"type":"object"}}', b'{"name":"read","inputSchema":{"type":"object"}}']
MAIL = {"slug": "mail", "url": URL, "visibility": "team"}


async def test_each_caller_sees_the_upstreams_they_may_read() -> None:
    api = Api()
    assert await api.names(alice, "/v1/upstreams") == ["clock", "web"]
    assert await api.names(olga, "/v1/upstreams") == ["clock", "diary", "web"]
    assert await api.names(zoe, "/v1/upstreams") == ["web"]
    assert await api.names(root, "/v1/upstreams") == ["clock", "web"]  # private is private for admins too
    assert await api.names(principal(OLGA, teams=[]), "/v1/upstreams") == ["web"]


async def test_an_upstream_is_read_by_slug_and_by_id() -> None:
    api = Api()
    shown = await api.get(alice, "/v1/upstreams/clock")
    assert shown == await api.get(alice, f"/v1/upstreams/{CLOCK}")
    assert (shown["team"], shown["visibility"], shown["auth"]) == ("payments", "team", {"type": "none"})


async def test_a_team_that_the_caller_may_not_see_is_not_named() -> None:
    api = Api(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.PUBLIC, owner=OLGA))
    shown = await api.get(bob, "/v1/upstreams/clock")
    assert (shown["team"], shown["owner"]) == (None, None)
    assert (await api.get(olga, "/v1/upstreams/clock"))["owner"] == OLGA


async def test_the_query_of_a_url_is_shown_to_managers_only() -> None:
    keyed = replace(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM), url="https://x.example.com/mcp?key=abc")
    api = Api(keyed)
    assert (await api.get(alice, "/v1/upstreams/clock"))["url"] == "https://x.example.com/mcp"
    assert (await api.get(olga, "/v1/upstreams/clock"))["url"] == keyed.url


# --- registering --------------------------------------------------------------------------------------------------


async def test_a_new_upstream_is_synchronised_and_its_tools_can_be_read_at_once() -> None:
    api = Api(listings={URL: TOOLS})
    response = await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "team": "payments"})
    made = decoded(response, 201)
    assert made["sync"] == {
        "ok": True, "offered": 2, "added": 2, "changed": 0, "withdrawn": 0, "warnings": [], "error": None
    }  # fmt: skip
    assert made["upstream"]["era"] == Era.MODERN
    assert made["upstream"]["owner"] == OLGA
    assert revision(response) == api.directory.revision
    assert await api.names(alice, "/v1/tools?upstream=mail", "public_name") == ["mail__read", "mail__send"]


async def test_an_upstream_that_cannot_be_listed_is_kept() -> None:
    api = Api(listings={URL: UpstreamUnreachable("upstream `mail` refused the connection")})
    response = await api.call(olga, "POST", "/v1/upstreams", MAIL)
    sync = decoded(response, 201)["sync"]
    assert sync["ok"] is False
    assert sync["error"] == {"code": "upstream_unreachable", "detail": "upstream `mail` refused the connection"}
    assert revision(response) == api.directory.revision
    assert "mail" in await api.names(olga, "/v1/upstreams")


async def test_odd_tools_are_warnings() -> None:
    api = Api(listings={URL: [*TOOLS, b'{"name":"no schema"}']})
    made = decoded(await api.call(olga, "POST", "/v1/upstreams", MAIL), 201)
    assert (made["sync"]["offered"], len(made["sync"]["warnings"])) == (2, 1)
    assert made["upstream"]["sync_warnings"] == made["sync"]["warnings"]


async def test_a_credential_is_sealed_and_never_comes_back() -> None:
    api = Api()
    auth = {"type": "bearer", "token": SECRET}
    answers = [
        await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "auth": auth}),
        await api.call(olga, "GET", "/v1/upstreams/mail"),
        await api.call(olga, "GET", "/v1/upstreams"),
        await api.call(olga, "PATCH", "/v1/upstreams/mail", {"auth": auth, "url": "https://new.example.com/mcp"}),
        await api.call(olga, "POST", "/v1/upstreams/mail/sync"),
        await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "auth": auth}),  # a conflict
        await api.call(olga, "PATCH", "/v1/upstreams/mail", {"auth": {**auth, "extra": 1}}),
    ]
    stored = api.directory.upstream("mail")
    assert stored is not None
    assert stored.auth == BearerAuth(f"sealed:{stored.id}:{len(SECRET)}")
    assert [answer.status for answer in answers] == [201, 200, 200, 200, 200, 409, 400]
    for answer in answers:
        assert SECRET.encode() not in answer.body
        assert b"sealed" not in answer.body
    assert decoded(answers[1], 200)["auth"] == {"type": "bearer"}


@pytest.mark.parametrize("token", ["q q", "q\r\nX: y", "ü", ""])
async def test_a_credential_that_is_no_header_value_is_refused_and_not_repeated(token: str) -> None:
    api = Api()
    body = {**MAIL, "auth": {"type": "bearer", "token": token}}
    problem = refused(await api.call(olga, "POST", "/v1/upstreams", body), 400, "invalid_input")
    assert not token or token not in problem["detail"]
    assert api.database.writes == 0


async def test_an_address_that_is_not_allowed_is_refused() -> None:
    api = Api()
    body = {**MAIL, "url": "http://forbidden.example.com/"}
    refused(await api.call(olga, "POST", "/v1/upstreams", body), 422, "egress_refused")
    refused(await api.call(olga, "PATCH", "/v1/upstreams/clock", {"url": body["url"]}), 422, "egress_refused")
    assert api.database.writes == 0
    assert api.upstreams.listed == []


async def test_a_taken_slug_is_a_conflict_and_nothing_is_asked() -> None:
    api = Api()
    refused(await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "slug": "web"}), 409, "slug_taken")
    assert api.upstreams.listed == []


async def test_a_database_that_is_away_is_503_and_nothing_is_asked() -> None:
    api = Api()
    api.database.failure = DatabaseBusy("the database did not answer")
    response = await api.call(olga, "POST", "/v1/upstreams", MAIL)
    refused(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "1"
    assert api.upstreams.listed == []


# --- where it lands -----------------------------------------------------------------------------------------------


async def test_without_a_team_it_lands_in_the_one_that_the_token_reaches() -> None:
    api = Api(member(OLGA, SEARCH, Role.OWNER))
    narrowed = principal(OLGA, teams=[SEARCH])
    made = decoded(await api.call(narrowed, "POST", "/v1/upstreams", MAIL), 201)
    assert made["upstream"]["team"] == "search"
    refused(await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "slug": "mail2"}), 400, "team_needed")


async def test_a_narrowed_admin_lands_in_the_team_of_the_token() -> None:
    narrowed = principal(ROOT, teams=[SEARCH])
    made = decoded(await Api().call(narrowed, "POST", "/v1/upstreams", {**MAIL, "visibility": "public"}), 201)
    assert made["upstream"]["team"] == "search"


async def test_what_is_public_without_a_team_is_the_platforms_to_make() -> None:
    api = Api()
    public = {**MAIL, "visibility": "public"}
    assert decoded(await api.call(root, "POST", "/v1/upstreams", public), 201)["upstream"]["team"] is None
    for caller in (zoe, vera, alice, principal(ROOT, teams=[])):
        refused(await api.call(caller, "POST", "/v1/upstreams", {**public, "slug": "x"}), 403, "insufficient_scope")


async def test_team_and_private_upstreams_need_a_team() -> None:
    api = Api()
    for visibility in ("team", "private"):
        body = {**MAIL, "visibility": visibility}
        refused(await api.call(root, "POST", "/v1/upstreams", body), 400, "team_needed")


async def test_developers_and_strangers_do_not_register_in_a_team() -> None:
    api = Api()
    body = {**MAIL, "team": "payments"}
    refused(await api.call(alice, "POST", "/v1/upstreams", body), 403, "insufficient_scope")
    stranger = await api.call(bob, "POST", "/v1/upstreams", body)
    missing = await api.call(bob, "POST", "/v1/upstreams", {**MAIL, "team": "nowhere"})
    assert refused(stranger, 404, "not_found")["detail"] == "there is no team `payments`"
    assert refused(missing, 404, "not_found")["detail"] == "there is no team `nowhere`"
    assert api.database.writes == 0


async def test_a_private_upstream_is_its_owners_alone() -> None:
    api = Api(listings={URL: TOOLS})
    decoded(await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "visibility": "private"}), 201)
    assert (await api.call(olga, "GET", "/v1/upstreams/mail")).status == 200
    for caller in (root, alice, principal(OLGA, teams=[])):
        refused(await api.call(caller, "GET", "/v1/upstreams/mail"), 404, "not_found")
    assert await api.names(root, "/v1/tools", "public_name") == ["clock__now", "clock__sleep", "web__fetch"]


# --- changing -----------------------------------------------------------------------------------------------------


async def test_a_change_leaves_what_it_does_not_name() -> None:
    api = Api()
    changed = decoded(await api.call(olga, "PATCH", "/v1/upstreams/clock", {"enabled": False}), 200)
    before = upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM)
    assert api.directory.upstreams[CLOCK] == replace(before, enabled=False)
    assert changed["sync"] is None
    assert api.upstreams.listed == []


async def test_a_new_url_lists_the_tools_anew() -> None:
    api = Api(listings={URL: TOOLS})
    changed = decoded(await api.call(olga, "PATCH", "/v1/upstreams/clock", {"url": URL}), 200)
    assert changed["sync"]["added"] == 2
    assert changed["sync"]["withdrawn"] == 2


async def test_what_was_known_of_an_upstream_does_not_hold_at_a_new_url() -> None:
    probed = replace(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM), era=Era.LEGACY, sync_warnings=("odd",))
    api = Api(probed, listings={URL: UpstreamUnreachable("upstream `clock` refused the connection")})
    changed = decoded(await api.call(olga, "PATCH", "/v1/upstreams/clock", {"url": URL}), 200)
    assert (changed["upstream"]["era"], changed["upstream"]["sync_warnings"]) == (None, [])


async def test_a_disabled_upstream_is_not_asked_after_a_change() -> None:
    api = Api()
    changed = decoded(await api.call(olga, "PATCH", "/v1/upstreams/clock", {"url": URL, "enabled": False}), 200)
    assert changed["sync"] is None
    assert api.upstreams.listed == []


async def test_a_credential_does_not_follow_the_upstream_to_a_new_url() -> None:
    api = Api()
    auth = {"type": "bearer", "token": SECRET}
    decoded(await api.call(olga, "POST", "/v1/upstreams", {**MAIL, "auth": auth}), 201)
    elsewhere = {"url": "https://thief.example.com/mcp"}
    refused(await api.call(olga, "PATCH", "/v1/upstreams/mail", elsewhere), 400, "auth_needed")
    decoded(await api.call(olga, "PATCH", "/v1/upstreams/mail", {**elsewhere, "auth": {"type": "none"}}), 200)
    assert (await api.get(olga, "/v1/upstreams/mail"))["auth"] == {"type": "none"}


async def test_moving_to_another_team_needs_the_permission_in_both() -> None:
    api = Api()
    move = {"team": "search"}
    assert refused(await api.call(olga, "PATCH", "/v1/upstreams/clock", move), 404, "not_found")["detail"] == (
        "there is no team `search`"
    )
    developer = Api(member(OLGA, SEARCH, Role.DEVELOPER))
    refused(await developer.call(olga, "PATCH", "/v1/upstreams/clock", move), 403, "insufficient_scope")
    owner = Api(member(OLGA, SEARCH, Role.OWNER))
    changed = decoded(await owner.call(olga, "PATCH", "/v1/upstreams/clock", move), 200)
    assert changed["upstream"]["team"] == "search"
    narrowed = principal(OLGA, teams=[PAYMENTS])
    again = Api(member(OLGA, SEARCH, Role.OWNER))
    refused(await again.call(narrowed, "PATCH", "/v1/upstreams/clock", move), 404, "not_found")


async def test_only_the_platform_takes_an_upstream_out_of_its_team() -> None:
    api = Api()
    move = {"team": None, "visibility": "public"}
    refused(await api.call(olga, "PATCH", "/v1/upstreams/clock", move), 403, "insufficient_scope")
    refused(await api.call(root, "PATCH", "/v1/upstreams/clock", {"team": None}), 400, "team_needed")
    assert decoded(await api.call(root, "PATCH", "/v1/upstreams/clock", move), 200)["upstream"]["team"] is None


async def test_only_the_owner_makes_an_upstream_private() -> None:
    api = Api()
    private = {"visibility": "private"}
    problem = refused(await api.call(olga, "PATCH", "/v1/upstreams/clock", private), 403, "insufficient_scope")
    assert problem["reason"] == "not_the_owner"
    owned = Api(upstream(CLOCK, team=PAYMENTS, visibility=Visibility.TEAM, owner=OLGA))
    decoded(await owned.call(olga, "PATCH", "/v1/upstreams/clock", private), 200)
    assert await owned.names(alice, "/v1/upstreams") == ["web"]


async def test_a_public_upstream_is_not_everybodys_to_change() -> None:
    api = Api()
    for caller in (bob, zoe, olga):
        refused(await api.call(caller, "PATCH", "/v1/upstreams/web", {"enabled": False}), 403, "insufficient_scope")
        refused(await api.call(caller, "DELETE", "/v1/upstreams/web"), 403, "insufficient_scope")
        refused(await api.call(caller, "POST", "/v1/upstreams/web/sync"), 403, "insufficient_scope")
    assert WEB in api.directory.upstreams


async def test_an_upstream_that_was_moved_meanwhile_is_a_conflict() -> None:
    for method, body in (("PATCH", {"enabled": False}), ("DELETE", None)):
        api = Api()

        def move(tx: MemoryTransaction) -> None:
            tx.update(upstream(CLOCK, team=SEARCH, visibility=Visibility.TEAM))

        api.database.before_write = move
        refused(await api.call(olga, method, "/v1/upstreams/clock", body), 409, "changed_meanwhile")
        assert api.directory.upstreams[CLOCK].team_id == SEARCH


async def test_a_deleted_upstream_takes_its_tools_along() -> None:
    api = Api()
    response = await api.call(olga, "DELETE", "/v1/upstreams/clock")
    assert response.status == 204
    assert revision(response) == api.directory.revision
    assert await api.names(olga, "/v1/tools", "public_name") == ["diary__write", "web__fetch"]


# --- synchronising on demand --------------------------------------------------------------------------------------


async def test_synchronising_reports_the_difference_and_keeps_overrides() -> None:
    kept = b'{"name":"now","description":"new","inputSchema":{"type":"object"}}'
    api = Api(listings={"http://127.0.0.1:9/clock": [kept]})
    decoded(await api.call(olga, "PATCH", "/v1/tools/clock__now", {"visibility": "public"}), 200)
    response = await api.call(olga, "POST", "/v1/upstreams/clock/sync")
    report = decoded(response, 200)
    assert (report["ok"], report["changed"], report["withdrawn"]) == (True, 1, 1)
    assert revision(response) == api.directory.revision
    shown = await api.get(bob, "/v1/tools/clock__now")
    assert (shown["visibility"], shown["definition"]["description"]) == ("public", "new")


async def test_an_upstream_that_fails_is_a_gateway_error() -> None:
    url = "http://127.0.0.1:9/clock"
    api = Api(listings={url: UpstreamTimeout("upstream `clock` did not answer within 10 s")})
    problem = refused(await api.call(olga, "POST", "/v1/upstreams/clock/sync"), 504, "upstream_timeout")
    assert problem["detail"] == "upstream `clock` did not answer within 10 s"
    api.upstreams.listings[url] = UpstreamUnreachable("upstream `clock` refused the connection")
    refused(await api.call(olga, "POST", "/v1/upstreams/clock/sync"), 502, "upstream_unreachable")
    assert api.database.writes == 0


async def test_those_who_may_only_read_an_upstream_do_not_synchronise_it() -> None:
    api = Api()
    refused(await api.call(principal(ALICE), "POST", "/v1/upstreams/clock/sync"), 403, "insufficient_scope")
    refused(await api.call(root, "POST", f"/v1/upstreams/{DIARY}/sync"), 404, "not_found")
    assert api.upstreams.listed == []

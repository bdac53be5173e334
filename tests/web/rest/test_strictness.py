"""What is wrong with a request is said in one form, and costs nothing."""

import asyncio

import pytest

from sluicegate.core.errors import AuthorizationStale
from sluicegate.web.asgi import PRINCIPAL, REQUEST_ID, ClientGone, Message
from sluicegate.web.rest.bodies import read_strictly
from tests.web.asgi_client import http_scope
from tests.web.rest.api import METADATA, Api, alice, decoded, olga, refused, root, shared_app


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"[" * 100_000,
        b'{"slug":"x"} trailing',
        b'\xef\xbb\xbf{"slug":"x"}',
        b'{"slug":"\xff"}',
        '{"slug":"x"}'.encode("utf-16"),
        b'{"slug":"\\ud800"}',
        b'{"slug":NaN}',
        b'{"slug":' + b"9" * 10_000 + b"}",
    ],
    ids=lambda raw: repr(raw[:24]),
)
async def test_what_is_not_json_is_refused(raw: bytes) -> None:
    api = Api()
    response = await api.send(root, "POST", "/v1/teams", raw, "application/json")
    assert decoded(response, 400)["code"] in ("invalid_json", "invalid_input")
    assert api.database.writes == 0


@pytest.mark.parametrize(
    "body",
    [
        (b'{"slug":"x","slug":"y"}', "duplicate_name", "twice"),
        (b'{"slug":"x","auth":{"type":"none","type":"bearer"}}', "duplicate_name", "twice"),
        (b'{"slug":"x","Slug":"y"}', "invalid_input", "Slug"),
        (b'{"slug":"x","owner":"usr_root"}', "invalid_input", "owner"),
        (b'{"slug":"x","email":"root@example.com"}', "invalid_input", "email"),
        (b'{"name":"x"}', "invalid_input", "slug"),
        (b'{"slug":1}', "invalid_input", "$.slug"),
        (b'{"slug":null}', "invalid_input", "$.slug"),
        (b'[{"slug":"x"}]', "invalid_input", "array"),
        (b"null", "invalid_input", "null"),
        (b"", "invalid_input", "JSON body"),
    ],
    ids=lambda body: body[0].decode() or "empty",
)
async def test_a_body_of_another_shape_is_refused_with_the_name_of_what_is_wrong(body: tuple[bytes, str, str]) -> None:
    raw, code, named = body
    api = Api()
    problem = refused(await api.send(root, "POST", "/v1/teams", raw, "application/json"), 400, code)
    assert named in problem["detail"]
    assert api.database.writes == 0


@pytest.mark.parametrize("value", ["true", 1, "1", []])
async def test_values_are_not_converted(value: object) -> None:
    problem = refused(await Api().call(olga, "PATCH", "/v1/upstreams/clock", {"enabled": value}), 400, "invalid_input")
    assert "$.enabled" in problem["detail"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_a_body_must_say_that_it_is_json(content_type: str) -> None:
    raw = b'{"slug":"x"}'
    refused(await Api().send(root, "POST", "/v1/teams", raw, content_type), 400, "invalid_content_type")


async def test_a_charset_beside_the_content_type_is_fine() -> None:
    raw = b'{"slug":"x"}'
    assert (await Api().send(root, "POST", "/v1/teams", raw, "Application/JSON; charset=utf-8")).status == 201


@pytest.mark.parametrize(
    "query",
    [
        ("limit=0", "`limit`"),
        ("limit=1001", "`limit`"),
        ("limit=ten", "`limit`"),
        ("limit=1&limit=2", "twice"),
        ("team_id=payments", "`team_id`"),
        ("Team=payments", "`Team`"),
        ("request=x", "`request`"),
    ],
)
async def test_a_query_of_another_shape_is_refused(query: tuple[str, str]) -> None:
    text, named = query
    problem = refused(await Api().call(alice, "GET", f"/v1/tools?{text}"), 400, "invalid_input")
    assert named in problem["detail"]


async def test_a_cursor_that_is_none_of_ours_is_refused() -> None:
    refused(await Api().call(alice, "GET", "/v1/tools?cursor=%21%21"), 400, "invalid_cursor")


async def test_unknown_paths_and_methods_are_problems_too() -> None:
    api = Api()
    problem = refused(await api.call(alice, "GET", "/v1/gateways"), 404, "not_found")
    assert problem["instance"] == "req"
    for path in ("/v1", "/v1/", "/v1/teams/payments/members/x/y", "/other", "/docs/", "/unserved/openapi.json"):
        response = await api.call(alice, "GET", path)
        if path != "/docs/":
            refused(response, 404, "not_found")
    for method in ("PUT", "HEAD", "OPTIONS", "TRACE", "BREW"):
        response = await api.call(alice, method, "/v1/teams")
        refused(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET, POST"


async def test_ids_and_slugs_in_strange_forms_are_just_missing() -> None:
    api = Api()
    for name in ("%20payments", "payments%20", "PAYMENTS", "..", "%00", "%F0%9F%92%A9", "a" * 5000):
        refused(await api.call(alice, "GET", f"/v1/teams/{name}"), 404, "not_found")


async def test_a_challenge_names_what_is_needed_and_where_to_learn_more() -> None:
    response = await Api().call(alice, "PATCH", "/v1/teams/payments", {"name": "x"})
    assert response.headers["www-authenticate"] == (
        f'Bearer error="insufficient_scope", scope="teams:manage", resource_metadata="{METADATA}"'
    )


async def test_without_a_current_directory_nothing_is_decided() -> None:
    api = Api()
    api.feed.fresh = False
    api.feed.stale = AuthorizationStale("authorization data is too old")
    response = await api.call(root, "POST", "/v1/teams", {"slug": "x"})
    refused(response, 503, "authz_stale")
    assert response.headers["retry-after"] == "1"
    assert api.database.writes == 0


async def test_what_nobody_foresaw_goes_on_to_the_outer_boundary() -> None:
    api = Api()
    api.database.failure = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        await api.call(root, "POST", "/v1/teams", {"slug": "x"})


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_not_answered() -> None:
    api = Api()
    await api.get(root, "/v1/teams")  # the API that is asked now
    incoming: list[Message] = [
        {"type": "http.request", "body": b'{"slu', "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = http_scope("POST", "/v1/teams", {"content-type": "application/json"})
    scope[PRINCIPAL], scope[REQUEST_ID] = root, "req"

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError("there is nobody to answer")

    with pytest.raises(ClientGone):
        async with asyncio.timeout(5):
            await shared_app()(scope, receive, send)
    assert api.database.writes == 0


def test_a_body_is_read_as_the_type_it_is_for() -> None:
    assert read_strictly(b'["a", "b"]', tuple[str, ...]) == ("a", "b")

import json
import re
from typing import Any

import pytest

from sluicegate.web.rest.permissions import PERMISSION_OF
from tests.web.asgi_client import Response, call
from tests.web.rest.api import refused, shared_app


async def fetched(path: str, method: str = "GET") -> Response:
    """Without a principal: the description is public."""
    return await call(shared_app(), method, path)


async def document() -> Any:
    response = await fetched("/openapi.json")
    assert response.status == 200
    return json.loads(response.body)


async def test_every_route_is_described_with_its_permission() -> None:
    described = {
        (method.upper(), path): operation["x-permission"]
        for path, operations in (await document())["paths"].items()
        for method, operation in operations.items()
    }
    assert described == PERMISSION_OF


async def test_every_operation_says_what_it_does_and_how_it_fails() -> None:
    for operations in (await document())["paths"].values():
        for method, operation in operations.items():
            assert f"Needs `{operation['x-permission']}`." in operation["description"]
            assert operation["description"].index("Needs") > 10
            failure = operation["responses"]["default"]["content"]["application/problem+json"]
            assert failure["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert "400" not in operation["responses"]
            done = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            assert ("Sluicegate-Revision" in done.get("headers", {})) is (method != "get")


async def test_every_reference_leads_somewhere_and_operations_have_ids_of_their_own() -> None:
    described = await document()
    references = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described))
    assert set(references) <= set(described["components"]["schemas"])
    ids = [each["operationId"] for path in described["paths"].values() for each in path.values()]
    assert len(ids) == len(set(ids))


async def test_what_every_request_may_say_and_every_answer_says_is_described() -> None:
    described = await document()
    components = described["components"]
    assert components["parameters"]["wait"]["schema"]["enum"] == ["all"]
    for operations in described["paths"].values():
        for method, operation in operations.items():
            named = [each.get("$ref", "").rpartition("/")[2] or each["name"] for each in operation["parameters"]]
            assert "Sluicegate-Min-Revision" in named
            assert ("wait" in named) is (method != "get")
            assert len(named) == len(set(named))
            for status, answer in operation["responses"].items():
                assert {"Sluicegate-Authz-Age", "Sluicegate-Authz-State"} <= set(answer["headers"])
                of_changes = {"Sluicegate-Applied", "Sluicegate-Away"} & set(answer["headers"])
                assert bool(of_changes) is (method != "get" and status != "default")
    references = re.findall(r'"#/components/(parameters|headers)/([^"]+)"', json.dumps(described))
    assert all(name in components[kind] for kind, name in references)


async def test_bodies_are_described_as_closed() -> None:
    schemas = (await document())["components"]["schemas"]
    for name in ("NewTeam", "UpstreamChange", "NewToken", "NewMembership"):
        assert schemas[name]["additionalProperties"] is False
    assert schemas["NewToken"]["required"] == ["expires_in", "name"]
    assert "token" not in schemas["UpstreamView"]["properties"]


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
async def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(path: str) -> None:
    page = await fetched(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert b"//" not in page.body
    assert b"<script>" not in page.body
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


async def test_everything_the_page_asks_for_is_there() -> None:
    page = await fetched("/docs")
    assets = re.findall(rb'(?:src|href)="([^"]+)"', page.body)
    assert len(assets) == 3
    for asset in assets:
        response = await fetched(asset.decode())
        assert response.status == 200
        assert response.headers["content-type"].split(";")[0] in ("text/css", "text/javascript")
        assert response.body
    start = await fetched("/docs/start.js")
    assert b'"/openapi.json"' in start.body


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../app.py",
        "/docs/%2e%2e/%2e%2e/etc/passwd",
        "/docs//etc/passwd",
        "/docs/index.html",
        "/docsx",
        "/docs/\x00",
    ],
)
async def test_no_other_file_can_be_asked_for(path: str) -> None:
    refused(await fetched(path), 404, "not_found")


async def test_the_page_is_only_read() -> None:
    for path in ("/docs", "/openapi.json", "/docs/start.js"):
        response = await fetched(path, "POST")
        refused(response, 405, "method_not_allowed")
        assert response.headers["allow"] == "GET"

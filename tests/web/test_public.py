"""Health, readiness, metrics and the metadata that a challenge points to."""

import json
from typing import cast

import pytest

from sluicegate.core.directory import Directory
from sluicegate.core.errors import AuthorizationStale
from sluicegate.core.lease import LeaseState
from sluicegate.core.permissions import Permission
from sluicegate.ports import AuthzFeed
from sluicegate.web.metadata import ResourceMetadata
from sluicegate.web.public import ClosedMetrics, MetricsAccess, OpenMetrics, PublicPages, TokenMetrics, metrics_access
from tests.web.asgi_client import call, http_scope

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PUBLIC = ResourceMetadata("https://gw.example.com/", "https://gw.example.com")
LOCAL = ResourceMetadata(None, "http://127.0.0.1:4444")


class Lease:
    """What the feed reports; without a directory while `loaded` is false."""

    def __init__(self, state: LeaseState = LeaseState.FRESH, *, loaded: bool = True) -> None:
        self.state = state
        self.age = 1.5 if loaded else None
        self._loaded = loaded

    @property
    def directory(self) -> Directory:
        if not self._loaded:
            raise AuthorizationStale("not loaded")
        return Directory("epoch", 42, [])


def pages(
    metadata: ResourceMetadata = PUBLIC, lease: Lease | None = None, metrics: MetricsAccess | None = None
) -> PublicPages:
    return PublicPages(metadata, cast(AuthzFeed, lease or Lease()), metrics or OpenMetrics())


# --- probes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", LeaseState)
async def test_the_process_is_alive_whatever_the_lease(state: LeaseState) -> None:
    assert (await call(pages(lease=Lease(state)), "GET", "/health")).status == 200


@pytest.mark.parametrize("state", [LeaseState.FRESH, LeaseState.LATE, LeaseState.OUTAGE])
async def test_it_is_ready_while_decisions_are_made(state: LeaseState) -> None:
    status, _, body = await call(pages(lease=Lease(state)), "GET", "/ready")
    assert (status, json.loads(body)) == (200, {"status": "ready", "authorization": state})


async def test_it_is_not_ready_when_the_lease_has_ended() -> None:
    status, headers, body = await call(pages(lease=Lease(LeaseState.CLOSED, loaded=False)), "GET", "/ready")
    assert (status, json.loads(body)["code"], headers["retry-after"]) == (503, "authz_stale", "1")


PATHS = ["/health", "/ready", "/metrics", WELL_KNOWN, f"{WELL_KNOWN}/mcp"]


@pytest.mark.parametrize("path", PATHS)
async def test_head_has_the_headers_of_get_and_no_body(path: str) -> None:
    got, head = await call(pages(), "GET", path), await call(pages(), "HEAD", path)
    assert (head.status, head.headers["content-type"], head.body) == (200, got.headers["content-type"], b"")
    assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", PATHS)
async def test_other_methods_are_refused(method: str, path: str) -> None:
    status, headers, body = await call(pages(), method, path)
    assert (status, headers["allow"], json.loads(body)["code"]) == (405, "GET, HEAD", "method_not_allowed")


async def test_other_paths_are_missing() -> None:
    assert (await call(pages(), "GET", "/v1/tools")).status == 404


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_are_open_on_loopback_alone_and_never_when_a_token_is_set() -> None:
    assert metrics_access(None, on_loopback=True) == OpenMetrics()
    assert metrics_access(None, on_loopback=False) == ClosedMetrics()
    assert metrics_access("", on_loopback=False) == ClosedMetrics()
    assert metrics_access("t", on_loopback=True) == metrics_access("t", on_loopback=False) == TokenMetrics("t")
    assert "t" not in repr(TokenMetrics("t")).removeprefix("TokenMetrics")


async def test_metrics_state_the_lease_as_it_is_at_the_scrape() -> None:
    status, headers, body = await call(pages(lease=Lease(LeaseState.OUTAGE)), "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = body.decode().splitlines()
    assert {"authz_state 2.0", "authz_revision 42.0", "authz_age_seconds 1.5"} <= set(lines)


async def test_metrics_are_shown_before_there_is_a_directory() -> None:
    _, _, body = await call(pages(lease=Lease(LeaseState.CLOSED, loaded=False)), "GET", "/metrics")
    assert {"authz_state 3.0", "authz_age_seconds +Inf"} <= set(body.decode().splitlines())


@pytest.mark.parametrize(
    "authorization, status",
    [
        ("Bearer metrics-token", 200),
        ("Bearer metrics-tokem", 401),
        ("Bearer ä", 401),
        ("Basic metrics-token", 401),
        ("", 401),
    ],
)
async def test_metrics_with_a_token_ask_for_it(authorization: str, status: int) -> None:
    app = pages(metrics=TokenMetrics("metrics-token"))
    answer = await call(app, "GET", "/metrics", headers={"Authorization": authorization})
    assert answer.status == status
    assert (b"authz_state" in answer.body) == (status == 200)
    assert b"metrics-toke" not in answer.body


async def test_metrics_without_a_token_are_closed_to_others() -> None:
    answer = await call(pages(metrics=ClosedMetrics()), "GET", "/metrics", headers={"Authorization": "Bearer "})
    assert (answer.status, b"authz_state" in answer.body) == (404, False)


# --- metadata (RFC 9728) --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["", "/mcp", "/servers/support/mcp", "/servers/srv_0af/mcp", "/servers/gone/mcp"])
async def test_the_document_names_its_endpoint_and_where_tokens_come_from(endpoint: str) -> None:
    status, headers, body = await call(pages(), "GET", WELL_KNOWN + endpoint)
    document = json.loads(body)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert document["resource"] == "https://gw.example.com" + endpoint
    assert document["authorization_servers"] == ["https://gw.example.com"]
    assert document["bearer_methods_supported"] == ["header"]
    assert set(document["scopes_supported"]) == {str(permission) for permission in Permission}


@pytest.mark.parametrize(
    "rest", ["/", "/mcp/", "/v1", "/servers//mcp", "/servers/a/b/mcp", "/servers/a%22/mcp", "/mcp%0A"]
)
async def test_there_is_no_document_about_what_is_no_endpoint(rest: str) -> None:
    assert (await call(pages(), "GET", WELL_KNOWN + rest)).status == 404


@pytest.mark.parametrize("metadata", [PUBLIC, LOCAL], ids=["public URL", "host header"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/support/mcp", "/v1/tools"])
async def test_a_challenge_points_to_a_document_that_exists_and_is_about_the_endpoint(
    metadata: ResourceMetadata, path: str
) -> None:
    base = "https://gw.example.com" if metadata is PUBLIC else "http://127.0.0.1:4444"
    url = metadata.url(http_scope("POST", path))
    assert url.startswith(base)
    document = json.loads((await call(pages(metadata), "GET", url.removeprefix(base))).body)
    assert document["resource"] == base + (path if path.endswith("/mcp") else "")


@pytest.mark.parametrize(
    "path", ['/servers/a"b/mcp', "/servers/ä/mcp", "/servers/a\r\nb/mcp", f"/servers/{'a' * 65}/mcp"]
)
def test_a_path_that_is_no_endpoint_does_not_get_into_the_challenge(path: str) -> None:
    scope = http_scope("POST", "/")
    scope["path"] = path
    assert PUBLIC.url(scope) == f"https://gw.example.com{WELL_KNOWN}"

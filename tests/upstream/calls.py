"""Short ways to say which upstream is called with what."""

import json
from typing import Any

from msgspec import Raw

from sluicegate.core.catalog import Era, NoAuth, Upstream, UpstreamAuth, Visibility
from sluicegate.core.identity import TokenId, UpstreamId
from sluicegate.ports import ToolCall, UpstreamAnswer, UpstreamResult

ID = UpstreamId("ups_search")


def upstream_at(url: str, era: Era | None = None, auth: UpstreamAuth | None = None) -> Upstream:
    return Upstream(ID, "search", url, None, None, Visibility.PUBLIC, True, auth or NoAuth(), era, None, ())


def call(name: str = "find", token: str = "tok_a", **arguments: Any) -> ToolCall:
    params = {"arguments": Raw(json.dumps(arguments).encode())}
    return ToolCall(name, params, {}, Raw(b"{}"), TokenId(token), ())


def result_of(answer: UpstreamAnswer) -> dict[str, Any]:
    assert isinstance(answer, UpstreamResult), answer
    content: dict[str, Any] = json.loads(answer.result)
    return content

"""All pages of an upstream's `tools/list`, within bounds."""

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import Raw, Struct

from sluicegate.core.errors import UpstreamInvalid
from sluicegate.ports import UpstreamRefusal, UpstreamResult
from sluicegate.protocol.jsonrpc import Code
from sluicegate.upstream.messages import error_code
from sluicegate.upstream.transport import Reply

MAX_PAGES = 1000
MAX_TOOLS = 5000

FetchPage = Callable[[dict[str, object]], Awaitable[Reply]]
"""Asks for the page that these params of `tools/list` name."""


class _Page(Struct):
    tools: list[Raw]
    nextCursor: str | None = None  # noqa: N815  the wire's name; the empty string is a cursor too


async def all_tools(name: str, fetch: FetchPage, max_bytes: int) -> tuple[bytes, ...]:
    """Every tool as the JSON it came in; none from an upstream that does not know `tools/list`. Raises UpstreamInvalid.

    `name` is the upstream's slug, `max_bytes` bounds all pages together.
    """
    tools: list[bytes] = []
    params: dict[str, object] = {}
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        page = _read_page(name, await fetch(params))
        tools += map(bytes, page.tools)
        max_bytes -= sum(map(len, page.tools))
        if len(tools) > MAX_TOOLS:
            raise UpstreamInvalid(f"upstream `{name}` lists more than {MAX_TOOLS} tools: split it up")
        if max_bytes < 0:
            raise UpstreamInvalid(f"upstream `{name}` lists more bytes of tools than one answer may have")
        if page.nextCursor is None:
            return tuple(tools)
        if page.nextCursor in seen:
            raise UpstreamInvalid(f"upstream `{name}` gave the same cursor of tools/list twice")
        seen.add(page.nextCursor)
        params = {"cursor": page.nextCursor}
    raise UpstreamInvalid(f"upstream `{name}` lists tools on more than {MAX_PAGES} pages")


def _read_page(name: str, reply: Reply) -> _Page:
    match reply.answer:
        case UpstreamResult(result):
            try:
                return msgspec.json.decode(result, type=_Page)
            except msgspec.DecodeError:
                raise UpstreamInvalid(f"upstream `{name}` answered tools/list without a list of tools") from None
        case UpstreamRefusal() as refusal:
            code = error_code(refusal)
            if code == Code.METHOD_NOT_FOUND:
                return _Page([])
            raise UpstreamInvalid(f"upstream `{name}` refused tools/list (error {code})")
        case None:
            raise UpstreamInvalid(f"upstream `{name}` answered tools/list with HTTP {reply.status}")

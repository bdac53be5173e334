"""What the demo's clients do: list and call with the official SDK, and count with plain HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

LEGACY = "legacy"
MODERN = "auto"


class Answer(Struct, frozen=True):
    """What a call came to: its text, or the refusal that the client got."""

    text: str
    refused: bool


@asynccontextmanager
async def connected(url: str, token: str, mode: str = MODERN) -> AsyncIterator[Client]:
    """The official SDK's client, in the newest era that both sides speak or in the legacy one."""
    async with (
        create_mcp_http_client(headers={"authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        yield client


async def listed(url: str, token: str, mode: str = MODERN) -> list[str]:
    """The names of the tools that the token lists."""
    async with connected(url, token, mode) as client:
        return sorted(tool.name for tool in (await client.list_tools()).tools)


async def called(url: str, token: str, tool: str, arguments: dict[str, str]) -> Answer:
    """What the tool answers to the token."""
    async with connected(url, token) as client:
        try:
            result = await client.call_tool(tool, arguments)
        except MCPError as error:
            return Answer(error.error.message, refused=True)
        text = " ".join(part.text for part in result.content if isinstance(part, TextContent))
        return Answer(text, refused=bool(result.is_error))


class Caller:
    """Makes the same call again and again over one connection, to see when its token stops being good."""

    def __init__(self, url: str, token: str, tool: str, arguments: dict[str, str]) -> None:
        self._url = url
        self._call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": tool, "arguments": arguments},
        }
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
        }
        self._http = create_mcp_http_client(headers=headers)

    async def status(self) -> int:
        """The HTTP status of one call."""
        return int((await self._http.post(self._url, json=self._call)).status_code)

    async def close(self) -> None:
        """Closes the connection."""
        await self._http.aclose()


async def metrics(origin: str) -> dict[str, float]:
    """The samples of the gateway's metrics, by name and labels, such as `db_checkouts_total{owner=request}`."""
    async with create_mcp_http_client() as http:
        answer = await http.get(f"{origin}/metrics")
        answer.raise_for_status()
    families = text_string_to_metric_families(answer.text)
    return {_series(one.name, one.labels): one.value for family in families for one in family.samples}


def _series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name

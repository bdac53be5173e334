"""Runs every snippet of `docs/howto/clients.md`, and compares with the output that stands there.

So the clients of other authors are tested as our users are told to use them: curl, the Python SDK, the TypeScript SDK
1.x and 2.x, and the MCP inspector.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from msgspec import Struct

from tests.e2e.running import ROOT, Gateway, Tokens

PAGE = ROOT / "docs/howto/clients.md"
PEERS = ROOT / "tests/node"
FENCED = re.compile(r"^(?:## ([^\n]+)|```(\w+)\n(.*?)^```)$", re.MULTILINE | re.DOTALL)
COMMANDS = {
    "bash": ["bash", "-eu", "-o", "pipefail"],
    "python": [sys.executable, "-"],
    "js": ["node", "--input-type=module"],
}
"""What runs a snippet that comes on stdin."""
WITHIN = 60.0


class Snippet(Struct, frozen=True):
    """A snippet that runs, and the output after it on the page, if there is one."""

    section: str
    language: str
    text: str
    output: str | None


def blocks() -> list[tuple[str, str, str]]:
    """Headings of the second order, and fenced blocks with their language."""
    found: list[tuple[str, str, str]] = FENCED.findall(PAGE.read_text())
    return found


def snippets() -> list[Snippet]:
    """All of the page, in its order."""
    section, found = "", list[Snippet]()
    for (heading, language, text), (_, kind, output) in pairwise([*blocks(), ("", "", "")]):
        section = heading or section
        if language in COMMANDS:
            found.append(Snippet(section, language, text, output if kind in ("text", "json") else None))
    return found


@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: f"{snippet.section}, {snippet.language}")
def test_a_snippet_of_the_page_works_as_it_says(
    gateway: Gateway, tokens: Tokens, tmp_path: Path, snippet: Snippet
) -> None:
    if snippet.section == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed, and nothing else here needs it")
    done = run(snippet, gateway, tokens, tmp_path)
    assert done.returncode == 0, done.stderr
    if snippet.output is not None:
        assert trimmed(done.stdout) == trimmed(snippet.output)
    else:
        assert "Water mills need a steady stream" in done.stdout


def test_the_page_shows_all_clients() -> None:
    sections = [snippet.section for snippet in snippets()]
    assert sections == [
        *["curl"] * 2,
        "Python SDK",
        "TypeScript SDK 1.x",
        "TypeScript SDK 2.x",
        *["MCP inspector"] * 2,
        "An IDE's mcp.json",
    ]


def run(snippet: Snippet, gateway: Gateway, tokens: Tokens, folder: Path) -> subprocess.CompletedProcess[str]:
    """The snippet against this gateway, as alice. The peers are found without `npx`, which takes a second to do so."""
    (folder / "mcp.json").write_text(configuration(gateway, tokens))
    text = snippet.text.replace("http://127.0.0.1:4444", gateway.url).replace("npx ", "")
    text = text.replace("mcp.json", str(folder / "mcp.json"))
    environment = os.environ | {"TOKEN": tokens.alice, "PATH": f"{PEERS / 'node_modules/.bin'}:{os.environ['PATH']}"}
    return subprocess.run(
        COMMANDS[snippet.language],
        input=text,
        cwd=PEERS,
        env=environment | {"MCP_INSPECTOR_SECRET_STORE": "memory"},
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )


def configuration(gateway: Gateway, tokens: Tokens) -> str:
    """The page's `mcp.json`, for this gateway and alice."""
    [text] = [block for _, kind, block in blocks() if kind == "json" and "mcpServers" in block]
    return text.replace("http://127.0.0.1:4444", gateway.url).replace("$TOKEN", tokens.alice)


def trimmed(output: str) -> object:
    """The JSON that it is, or else its lines."""
    try:
        return json.loads(output)
    except ValueError:
        return output.strip().splitlines()

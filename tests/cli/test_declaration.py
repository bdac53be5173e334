"""What a file for `apply` may say: each thing that is wrong is refused with its line, and all of them at once."""

from pathlib import Path

import pytest

from sluicegate.cli.declaration import read_declaration
from sluicegate.cli.yaml_parts import MAX_FILE
from sluicegate.core.catalog import ToolSelector, Visibility
from sluicegate.core.errors import InvalidInput
from sluicegate.core.permissions import Role
from sluicegate.usecases.apply_form import Declaration, PlainBearer

EXAMPLE = Path(__file__).parents[2] / "examples" / "demo.yaml"
UPSTREAM = 'slug: web, url: "http://example.com/mcp"'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gate.yaml"


def read(file: Path, text: str) -> Declaration:
    file.write_text(text)
    return read_declaration(file)


def refusals(file: Path, text: str) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        read(file, text)
    return str(refused.value).replace(f"{file}:", "line ").splitlines()


def test_the_example_says_what_the_demo_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "swordfish")
    declared = read_declaration(EXAMPLE)
    assert [team.slug for team in declared.teams] == ["payments", "research"]
    alice, _, root = declared.users
    assert alice.teams[0].role is Role.DEVELOPER  # type: ignore[index]
    assert root.platform_admin is True
    clock, web = declared.upstreams
    assert (clock.ownership.visibility, clock.url.name) == (Visibility.TEAM, "http://127.0.0.1:9101/mcp")
    assert isinstance(web.auth, PlainBearer)
    assert web.auth.secret == "swordfish"
    tools = [one.selector for one in declared.servers[0].tools]
    assert tools == [ToolSelector("clock__*"), ToolSelector("web__fetch", "read_page")]


def test_a_secret_is_not_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_TOKEN", "swordfish")
    assert "swordfish" not in repr(read_declaration(EXAMPLE))


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_lines(file: Path) -> None:
    text = """\
servers:
  - {slug: support, tools: [clock]}
users:
  - {email: nobody}
teams:
  - {slug: payments}
  - {slug: payments}
"""
    assert refusals(file, text) == [
        "line 2: `clock` is not a selector: write upstream__tool, where the tool's name may hold `*`",
        "line 4: `nobody` is not an email address",
        "line 7: `payments` is already declared in line 6",
    ]


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("teems: []", "line 1: unknown key `teems`: did you mean `teams`?"),
        ("x: 1", "line 1: unknown key `x`: the keys here are `teams`, `users`, `upstreams`, `servers`"),
        ("teams: []\nteams: []", "line 2: key `teams` is there twice"),
        ("- teams", "line 1: `the file` must be a mapping, not a list"),
        ("teams: payments", "line 1: `teams` must be a list, not text"),
        ("teams:\n - payments", "line 2: `teams` must be a mapping, not text"),
        ("teams:\n - {name: Payments}", "line 2: `slug` is missing"),
        ("teams:\n - {slug: a, slug: b}", "line 2: key `slug` is there twice"),
        ("teams:\n - slug: pay\n   nam: Pay", "line 3: unknown key `nam`: did you mean `name`?"),
        ("teams:\n - {slug: on}", "line 2: `slug` must be text, not true or false: put it in quotes"),
        ("teams:\n - {slug: 12}", "line 2: `slug` must be text, not a number: put it in quotes"),
        ("teams:\n - {slug: ~}", "line 2: `slug` must be text, not nothing: put it in quotes"),
        ("teams:\n - {slug: ''}", "line 2: `slug` is empty"),
        ("teams:\n - {slug: Pay}", "line 2: `Pay` is not a slug: use 1 to 63 of a-z, 0-9 and -, starting and ending"),
        ('teams:\n - {slug: a, name: "a\\tb"}', "line 2: `name` has 1 to 100 printable characters"),
        ("teams:\n - !!python/name:os.system {}", "line 2: `teams` must be a mapping, not something with the tag"),
        ("users:\n - {email: a@b, platform_admin: 1}", "line 2: `platform_admin` must be true or false, not a number"),
        ("users:\n - {email: a@b}\n - {email: A@B}", "line 3: `a@b` is already declared in line 2"),
        ("users:\n - {email: a@b, teams: [pay]}", "line 2: `teams` must be a mapping, not a list"),
        ("users:\n - email: a@b\n   teams:\n     pay: boss", "line 4: `pay` cannot be `boss`: it is one of `viewer`, "),
        ("upstreams:\n - {slug: web}", "line 2: `url` is missing"),
        (f"upstreams:\n - {{{UPSTREAM}, visibility: publik}}", "line 2: `visibility` cannot be `publik`: it is one of"),
        (f"upstreams:\n - {{{UPSTREAM}, auth: {{type: basic}}}}", "line 2: `auth` is {type: bearer, token: …} or"),
        (f"upstreams:\n - {{{UPSTREAM}, auth: {{type: bearer}}}}", "line 2: `token` is missing"),
        (f"upstreams:\n - {{{UPSTREAM}, auth: {{type: none, token: a}}}}", "line 2: unknown key `token`"),
        (
            f'upstreams:\n - {{{UPSTREAM}, auth: {{type: bearer, token: "env:NOT_SET_HERE"}}}}',
            "line 2: the environment variable `NOT_SET_HERE` is not set: it holds this upstream's token",
        ),
        ("servers:\n - {slug: s, tools: [{tool: a__b}]}", "line 2: `as` is missing"),
        ("servers:\n - {slug: s, tools: [{tool: 'a__*', as: b}]}", "line 2: `a__*` may select several tools"),
        ("servers:\n - {slug: s, tools: [{tool: a__b, as: 'b c'}]}", "line 2: `b c` is not an alias"),
        (
            "servers:\n - slug: s\n   tools:\n     - {tool: a__b, as: c}\n     - {tool: a__d, as: c}",
            "line 4: two tools cannot both be named `c`",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(file: Path, text: str, refusal: str) -> None:
    (only,) = refusals(file, text)
    assert only.startswith(refusal)


@pytest.mark.parametrize(
    ("raw", "refusal"),
    [
        (b"teams: [", "line 1: this is not YAML"),
        (b"teams: []\n\tusers: []", "line 2: this is not YAML"),
        (b"teams: []\n---\nteams: []", "line 2: this is not YAML: but found another document"),
        (b"teams: *nobody", "line 1: this is not YAML: found undefined alias"),
        (b"\xff", "is not UTF-8 text"),
        (b"teams: '\x00'", "is not YAML: special characters are not allowed"),
        (b"# nothing", "is empty"),
        (b"[" * 1500, "is not YAML: it is nested too deeply"),
        (b"#" * (MAX_FILE + 1), f"is larger than {MAX_FILE} bytes"),
    ],
)
def test_what_is_not_one_yaml_document_is_refused(file: Path, raw: bytes, refusal: str) -> None:
    file.write_bytes(raw)
    with pytest.raises(InvalidInput) as refused:
        read_declaration(file)
    assert refusal in str(refused.value).replace(f"{file}:", "line ")


def test_a_file_that_is_not_there_is_named(file: Path) -> None:
    with pytest.raises(InvalidInput, match=r"gate\.yaml` cannot be read: No such file"):
        read_declaration(file)


def test_of_very_many_problems_the_first_are_said_and_the_rest_counted(file: Path) -> None:
    lines = refusals(file, "teams:\n" + " - {}\n" * 50)
    assert lines[0] == "line 2: `slug` is missing"
    assert lines[20:] == ["and 30 more"]

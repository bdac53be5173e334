from pathlib import Path

import pytest

from tests.cli.conftest import WORLD, Run

UNREACHABLE = """\
upstreams:
  - {slug: gone, url: "http://127.0.0.1:1/mcp", visibility: public}
"""


def test_it_says_what_it_did_to_each_object(home: Path, run: Run) -> None:
    (home / "gate.yaml").write_text(WORLD)
    first = run("apply", "gate.yaml")
    assert first.exit_code == 0
    assert first.stdout.splitlines()[:2] == ["created    team payments", "created    user alice@example.com"]
    assert first.stdout.splitlines()[-1].startswith("5 created, 0 changed, 0 unchanged; the gateway's state is at")
    assert run("apply", "gate.yaml").stdout.splitlines()[-1].startswith("0 created, 0 changed, 5 unchanged;")
    (home / "gate.yaml").write_text(WORLD.replace("name: Payments", "name: Money"))
    assert run("apply", "gate.yaml").stdout.splitlines()[0] == "changed    team payments (name)"


def test_a_typo_is_refused_with_its_line_and_nothing_is_changed(home: Path, run: Run) -> None:
    (home / "gate.yaml").write_text(WORLD.replace("visibility: team, enabled", "visibilty: team, enabled"))
    result = run("apply", "gate.yaml")
    assert result.exit_code == 1
    assert result.stderr == "error: gate.yaml:7: unknown key `visibilty`: did you mean `visibility`?\n"
    assert run("token", "create", "--user", "alice@example.com").exit_code == 1


def test_every_problem_has_a_line_of_its_own(home: Path, run: Run) -> None:
    (home / "gate.yaml").write_text(
        WORLD.replace("clock__*", "nowhere__*").replace("payments: developer", "pay: owner")
    )
    lines = run("apply", "gate.yaml").stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [["error", "gate.yaml:4"], ["error", "gate.yaml:9"]]


def test_an_upstream_that_does_not_answer_is_a_warning_that_says_what_to_do(home: Path, run: Run) -> None:
    (home / "gate.yaml").write_text(UNREACHABLE)
    result = run("apply", "gate.yaml")
    assert result.exit_code == 0
    assert result.stdout.startswith("created    upstream gone\n")
    assert result.stderr.startswith("warning: upstream `gone`")
    assert "apply the file again once it answers" in result.stderr


def test_loopback_is_refused_unless_it_is_allowed(home: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLUICEGATE_ALLOW_PRIVATE_UPSTREAMS")
    (home / "gate.yaml").write_text(UNREACHABLE)
    result = run("apply", "gate.yaml")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: gate.yaml:2: `127.0.0.1` may not be an upstream")

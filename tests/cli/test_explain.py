from collections.abc import Callable
from pathlib import Path

import pytest

from sluicegate.cli.explain import ASKS, MEANS
from sluicegate.core.policy import CLAUSES, Reason
from tests.cli.conftest import Run

Write = Callable[..., None]


@pytest.fixture
def token_of(peopled: Run, home: Path) -> Write:
    """Writes a token of this user, with these options, to the file `token`."""

    def write(user: str, *options: str) -> None:
        (home / "token").write_text(peopled("token", "create", "--user", user, *options).stdout)

    return write


def test_allow_ends_with_code_0_and_shows_every_clause(peopled: Run, token_of: Write) -> None:
    token_of("alice@example.com", "--team", "payments")
    result = peopled("explain", "--token-file", "token", "--server", "support")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:2] == ["allow", "asked: servers:use"]
    assert "alice@example.com; in payments (developer); teams [payments]" in lines[2]
    assert [line.split()[:2] for line in lines[3:]] == [["ok", name] for name in ASKS]


def test_deny_ends_with_code_3_and_names_the_clause(peopled: Run, token_of: Write) -> None:
    token_of("bob@example.com")
    result = peopled("explain", "--token-file", "token", "--server", "support")
    assert result.exit_code == 3
    assert result.stdout.startswith("deny: the user is not in the target's team (not_a_member)\n")
    assert "  DENY  within_audience        not_a_member: the user is not in the target's team\n" in result.stdout


def test_a_token_that_leaves_the_permission_out_is_denied_for_it(peopled: Run, token_of: Write) -> None:
    token_of("alice@example.com", "--permission", "tools:read")
    result = peopled("explain", "--token-file", "token", "--server", "support")
    assert result.stdout.startswith("deny: the token is narrowed to other permissions (permission_not_in_token)\n")
    token_of("alice@example.com", "--permission", "servers:read")
    allowed = peopled("explain", "--token-file", "token", "--server", "support", "--permission", "servers:read")
    assert allowed.exit_code == 0


def test_a_tool_that_is_not_there_is_denied(peopled: Run, token_of: Write) -> None:
    token_of("alice@example.com")
    result = peopled("explain", "--token-file", "token", "--tool", "clock__now")
    assert result.exit_code == 3
    assert result.stdout.startswith("deny: there is no tool `clock__now` (not_found)\n")


def test_a_revoked_token_is_denied_with_its_code(peopled: Run, token_of: Write) -> None:
    token_of("alice@example.com")
    shown = peopled("explain", "--token-file", "token", "--server", "support").stdout
    token_id = shown.partition("token: ")[2].split()[0]
    peopled("token", "revoke", token_id)
    result = peopled("explain", "--token-file", "token", "--server", "support")
    assert result.exit_code == 3
    assert result.stdout.startswith("deny: the token was revoked: get a new one (token_revoked)\n")


def test_what_is_no_token_is_denied_and_not_repeated(peopled: Run, home: Path) -> None:
    (home / "token").write_text("swordfish")
    result = peopled("explain", "--token-file", "token", "--server", "support")
    assert result.exit_code == 3
    assert "(token_malformed)" in result.stdout
    assert "swordfish" not in result.output


def test_one_target_is_to_be_named(peopled: Run, home: Path) -> None:
    (home / "token").write_text("t")
    assert peopled("explain", "--token-file", "token").exit_code == 2
    assert peopled("explain", "--token-file", "token", "--tool", "a", "--server", "b").exit_code == 2


def test_a_token_file_that_is_not_there_is_named(peopled: Run) -> None:
    result = peopled("explain", "--token-file", "nothing", "--server", "support")
    assert (result.exit_code, result.stderr) == (
        1,
        "error: token file `nothing` cannot be read: No such file or directory\n",
    )


def test_every_clause_and_every_reason_has_words() -> None:
    assert list(ASKS)[2:] == [clause.__name__ for clause in CLAUSES]
    assert set(MEANS) == set(Reason) - {Reason.ALLOWED}

import base64
import json
from typing import Any

import pytest

from sluicegate.cli.token import seconds
from sluicegate.core.errors import InvalidInput
from tests.cli.conftest import Run

CREATE = ("token", "create", "--user", "alice@example.com")


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def test_the_token_stands_alone_on_stdout(peopled: Run) -> None:
    result = peopled(*CREATE, "--expires", "1h")
    (token,) = result.stdout.splitlines()
    said = claims(token)
    assert said["exp"] - said["iat"] == 3600
    assert said["jti"] in result.stderr
    assert "teams" not in said
    assert "scopes" not in said


def test_options_narrow_the_token(peopled: Run) -> None:
    narrowing = (
        "--team",
        "payments",
        "--server",
        "support",
        "--permission",
        "tools:call",
        "--permission",
        "tools:read",
    )
    said = claims(peopled(*CREATE, *narrowing).stdout)
    assert len(said["teams"]) == 1
    assert len(said["scopes"]["servers"]) == 1
    assert said["scopes"]["permissions"] == ["tools:call", "tools:read"]


def test_without_teams_it_reaches_what_is_public(peopled: Run) -> None:
    assert claims(peopled(*CREATE, "--no-teams").stdout)["teams"] == []


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--user", "nobody@example.com"), "there is no user `nobody@example.com`"),
        (("--team", "nowhere"), "there is no team `nowhere`"),
        (("--server", "nowhere"), "there is no server `nowhere`"),
        (("--permission", "tools:cal"), "there is no permission `tools:cal`"),
        (("--expires", "soon"), "`soon` is not a duration: write a number and one of s, m, h, d, w, such as 1h"),
        (("--expires", "0s"), "a token lives for 1 to"),
        (("--expires", "400d"), "a token lives for 1 to"),
    ],
)
def test_what_cannot_be_issued_is_refused_in_one_line(peopled: Run, options: tuple[str, str], sentence: str) -> None:
    result = peopled(*CREATE, *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1


def test_team_and_no_teams_contradict_each_other(peopled: Run) -> None:
    assert peopled(*CREATE, "--team", "payments", "--no-teams").exit_code == 2


def test_a_revoked_token_is_named_and_one_that_is_not_there_is_refused(peopled: Run) -> None:
    token_id = claims(peopled(*CREATE).stdout)["jti"]
    assert peopled("token", "revoke", token_id).stdout == f"token {token_id} is revoked\n"
    result = peopled("token", "revoke", "tok_nothing")
    assert (result.exit_code, result.stderr) == (1, "error: there is no token `tok_nothing`\n")


@pytest.mark.parametrize(
    ("text", "length"), [("90s", 90), ("15m", 900), ("1h", 3600), ("30d", 2592000), ("4w", 2419200)]
)
def test_durations_are_a_number_and_a_unit(text: str, length: int) -> None:
    assert seconds(text) == length


@pytest.mark.parametrize("text", ["", "h", "1", "-1h", "1.5h", "1 h", "1H", "1h30m", "9999999999s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a duration"):
        seconds(text)

"""Ten thousand changes at once, under traffic: fault 16 of the list."""

import time
from threading import Event

import pytest

from sluicegate.core.catalog import User
from sluicegate.core.identity import UserId
from tests.e2e.forging import forged
from tests.e2e.running import Caller, wait_until
from tests.faults.directly import revision_of, url_of
from tests.faults.site import PATIENCE, Instance, L, Site
from tests.faults.traffic import DATA_PLANE, failures, traffic
from tests.faults.victim import CLOCKS
from tests.faults.vitals import nothing_left_behind

CROWD = 10_000
SAMPLE = range(0, CROWD, 400)
USER = User(UserId("usr_crowd"), "crowd@example.com", True, False)
FAR = 4_000_000_000
IMPORT = f"""
BEGIN;
INSERT INTO users (id, email, active, platform_admin) VALUES ('{USER.id}', '{USER.email}', true, false);
INSERT INTO memberships (id, user_id, team_id, role)
SELECT '{USER.id}/' || id, '{USER.id}', id, 'developer' FROM teams WHERE slug = 'payments';
INSERT INTO tokens (id, user_id, name, created_at, expires_at)
SELECT 'tok_crowd_' || number, '{USER.id}', 'crowd', 1, {FAR} FROM generate_series(0, {CROWD - 1}) AS number;
UPDATE authz_head SET rev = rev + 1, floor = rev + 1, epoch = gen_random_uuid();
COMMIT;
"""
"""As an operator imports by SQL: with a new epoch at its end."""
REVOKE = f"""
BEGIN;
UPDATE tokens SET revoked_at = 2 WHERE user_id = '{USER.id}';
UPDATE authz_head SET rev = rev + {CROWD};
INSERT INTO authz_log (rev, kind, key, payload)
SELECT rev - {CROWD} + row_number() OVER (), 'token', tokens.id, json_build_object(
    'id', tokens.id, 'user_id', user_id, 'name', name, 'created_at', created_at, 'expires_at', expires_at,
    'revoked_at', revoked_at, 'teams', teams, 'servers', servers, 'permissions', permissions)
FROM tokens, authz_head WHERE user_id = '{USER.id}';
COMMIT;
"""
"""Each with its row in the log, in one transaction."""


@pytest.fixture(scope="module")
def crowd(site: Site) -> list[str]:
    """Some of the tokens that will be imported."""
    claims = [{"sub": USER.id, "jti": f"tok_crowd_{number}"} for number in SAMPLE]
    return [forged(each)(site.lasting.gateway, site.tokens) for each in claims]


def codes(instance: Instance, tokens: list[str]) -> set[str]:
    """What these tokens are answered."""
    found = set()
    for token in tokens:
        with Caller(f"{instance.url}/mcp", token) as caller:
            answer = caller.call("clock__now").json()
        found.add("granted" if "result" in answer else str(answer.get("code")))
    return found


def test_a_bulk_import_and_ten_thousand_revocations_at_once_are_followed_by_everybody(
    site: Site, crowd: list[str]
) -> None:
    with nothing_left_behind(site), traffic() as answers:
        for instance in site.instances:
            answers.everything(instance.url, site.tokens.alice, site.tokens.root)
        assert codes(site.lasting, crowd) == {"user_unknown"}
        site.sql(IMPORT)
        for instance in site.instances:
            wait_until(lambda: codes(instance, crowd[:1]) == {"granted"}, PATIENCE, "the import is there")  # noqa: B023
            assert codes(instance, crowd) == {"granted"}
        site.sql(REVOKE)
        committed = time.monotonic()
        Event().wait(max(0.0, committed + L + CLOCKS - time.monotonic()))
        for instance in site.instances:
            assert codes(instance, crowd) == {"token_revoked"}
        revision_of(url_of(site), lambda transaction: transaction.delete(USER))
        wait_until(lambda: codes(site.strict, crowd) == {"user_unknown"}, PATIENCE, "the crowd is gone")
    assert not failures(answers.seen(*DATA_PLANE))

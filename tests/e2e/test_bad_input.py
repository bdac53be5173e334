"""Whatever a caller sends: a clear error with a stable code, and nothing of it costs the process anything.

Over real sockets, because half of these never reach our own code in a test without a server.
"""

import json
import time
from pathlib import Path

import pytest

from tests.auth import forge
from tests.e2e import bad_requests
from tests.e2e.forging import Forge, forged, signing_key
from tests.e2e.running import Caller, Gateway, Tokens, claims_of, http, unb64, wait_until, workers_of
from tests.e2e.wire import LIST, exchange, head, post

ROUNDS = 8
MAY_GROW = 8.0
"""MB of memory of the process, for some thousand refused requests."""
PATHS = [*bad_requests.PATHS, "/mcp", "/servers/support/mcp", "/servers/nothing/mcp", "/v1/teams", "/other"]


@pytest.mark.parametrize("name", bad_requests.ALL)
def test_bad_input_gets_a_clear_error_with_a_stable_code(gateway: Gateway, tokens: Tokens, name: str) -> None:
    sent = bad_requests.ALL[name]
    answer = exchange(gateway.port, sent.request(tokens.alice))
    assert (answer.status, answer.code) == (sent.status, sent.code), answer
    if answer.status == 405:
        assert answer.headers["allow"] == "POST"
    if answer.status == 401:
        assert 'resource_metadata="' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "FOO"])
@pytest.mark.parametrize("path", PATHS)
def test_without_a_token_every_path_and_method_is_401(gateway: Gateway, path: str, method: str) -> None:
    answer = exchange(gateway.port, head(method, path, "Content-Length: 0"))
    assert (answer.status, answer.code) == (401, "token_missing")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


def unsigned(gateway: Gateway, tokens: Tokens) -> str:
    return forged(header={"alg": "none"})(gateway, tokens).rpartition(".")[0] + "."


def signed_with_the_public_key(gateway: Gateway, tokens: Tokens) -> str:
    jwk = signing_key(gateway)
    header = {"alg": "HS256", "kid": jwk["kid"], "typ": "at+jwt"}
    return forge.macced(header, claims_of(tokens.alice), unb64(jwk["x"]))


def of_another_user(gateway: Gateway, tokens: Tokens) -> str:
    return forged({"sub": claims_of(tokens.bob)["sub"]})(gateway, tokens)


NOW = int(time.time())
FORGED: dict[str, tuple[Forge, str]] = {
    "expired": (forged({"iat": NOW - 7200, "exp": NOW - 3600}), "token_expired"),
    "not yet issued": (forged({"iat": NOW + 3600, "exp": NOW + 7200}), "token_not_yet_valid"),
    "of a foreign key": (forged(seed=forge.FOREIGN_SEED), "token_bad_signature"),
    "of an unknown key": (forged(header={"kid": "other"}, seed=forge.FOREIGN_SEED), "token_unknown_key"),
    "of another issuer": (forged({"iss": "https://other.example"}), "token_wrong_issuer"),
    "for another audience": (forged({"aud": "https://other.example"}), "token_wrong_audience"),
    "of nobody": (forged({"sub": "usr_nobody"}), "user_unknown"),
    "of another user": (of_another_user, "token_wrong_subject"),
    "alg:none": (unsigned, "token_wrong_algorithm"),
    "signed with the public key": (signed_with_the_public_key, "token_wrong_algorithm"),
    "with crit": (forged(header={"crit": ["exp"]}), "token_malformed"),
}


def test_a_token_signed_by_this_test_with_the_real_key_is_good(gateway: Gateway, tokens: Tokens) -> None:
    """Or all that is forged below would be refused for the wrong reason."""
    answer = exchange(gateway.port, post(LIST, f"Authorization: Bearer {forged()(gateway, tokens)}"))
    assert answer.status == 200


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("path", ["/mcp", "/servers/support/mcp", "/v1/teams"])
def test_a_token_that_is_not_ours_or_not_in_force_is_401(
    gateway: Gateway, tokens: Tokens, path: str, name: str
) -> None:
    make, code = FORGED[name]
    answer = exchange(gateway.port, post(LIST, f"Authorization: Bearer {make(gateway, tokens)}", path=path))
    assert (answer.status, answer.code) == (401, code)
    assert answer.headers["www-authenticate"].startswith('Bearer error="invalid_token", ')


def test_what_bob_may_not_see_answers_as_what_does_not_exist(gateway: Gateway, tokens: Tokens) -> None:
    origin, bob = gateway.url, tokens.bob
    pairs = [
        (Caller(f"{origin}/mcp", bob).call(f"clock__{name}") for name in ("nowt", "now")),
        (Caller(f"{origin}/servers/{name}/mcp", bob).rpc("tools/list") for name in ("absence", "support")),
        (http(bob).get(f"{origin}/v1/teams/{name}") for name in ("absent", "payments")),
    ]
    for missing, hidden in pairs:
        assert hidden.status_code == missing.status_code
        assert anonymous(hidden.text) == anonymous(missing.text)


def anonymous(text: str) -> str:
    """The text without the names that were asked for, and without the request's id."""
    for name in ("clock__nowt", "clock__now", "absence", "support", "absent", "payments"):
        text = text.replace(name, "…")
    content = json.loads(text)
    content.pop("instance", None)
    return json.dumps(content)


def test_after_all_of_it_the_process_answers_and_has_not_grown(gateway: Gateway, tokens: Tokens) -> None:
    requests = [sent.request(tokens.alice) for sent in bad_requests.ALL.values()]

    def all_of_it() -> None:
        for request in requests:
            exchange(gateway.port, request)

    all_of_it()
    [worker] = workers_of(gateway.pid)
    memory, files = rss_mb(worker), open_files(worker)
    for _ in range(ROUNDS):
        all_of_it()
    assert workers_of(gateway.pid) == [worker]
    assert rss_mb(worker) - memory < MAY_GROW
    wait_until(lambda: open_files(worker) <= files + 2, 10, "all connections are closed")
    assert Caller(f"{gateway.url}/mcp", tokens.alice).text("clock__now")
    assert gateway.metrics().get('unexpected_errors_total{place="web"}', 0) == 0


def rss_mb(pid: int) -> float:
    """Resident memory of a process."""
    line = next(row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if row.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))

"""A second implementation as the oracle: joserfc and ours accept and refuse the same mutated tokens.

We refuse more by intent (one spelling of each token, three header names and no other); the mutations here
stay within what RFC 7515 and RFC 7519 decide, or the oracle is told of our rule.
"""

import base64
import json
import random
from collections.abc import Iterator, Mapping

import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OctKey, OKPKey

from sluicegate.auth.tokens import LEEWAY
from sluicegate.core.errors import Unauthenticated
from tests.auth.forge import ED_SEED, HEADER, HS_HEADER, ISSUER, NOW, SHARED, VERIFIER, b64, claims, oct_jwk, okp, token

pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # for Ed25519, which few libraries know yet

ORACLE_KEYS = KeySet(
    [
        OKPKey.import_key({**okp("ed", ED_SEED), "alg": "EdDSA"}),
        OctKey.import_key({**oct_jwk("hs", SHARED), "alg": "HS256"}),
    ]
)
ORACLE_CLAIMS = jwt.JWTClaimsRegistry(
    now=NOW,
    leeway=LEEWAY,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": ISSUER},
    sub={"essential": True},
    jti={"essential": True},
    iat={"essential": True},
    exp={"essential": True},
)


def oracle_accepts(compact: str) -> bool:
    try:
        decoded = jwt.decode(compact, ORACLE_KEYS, algorithms=["EdDSA", "HS256"])
        ORACLE_CLAIMS.validate(decoded.claims)
    except (JoseError, ValueError):
        return False
    # rules of ours that the registry has no word for
    return spelled_in_one_way(compact) and decoded.header.keys() == HEADER.keys() and decoded.claims["exp"] > NOW


def spelled_in_one_way(compact: str) -> bool:
    return all(b64(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) == part for part in compact.split("."))


def accepts(compact: str) -> bool:
    try:
        VERIFIER.verify(compact, NOW)
    except Unauthenticated:
        return False
    return True


def signed_by_joserfc(header: Mapping[str, object], payload: Mapping[str, object]) -> str:
    return jwt.encode(dict(header), dict(payload), ORACLE_KEYS, algorithms=["EdDSA", "HS256"])


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def mutations(compact: str, seed: int, count: int) -> Iterator[str]:
    """Copies with a character changed, taken out, put in or swapped with its neighbour."""
    dice = random.Random(seed)
    for _ in range(count):
        at, other = dice.randrange(len(compact) - 1), dice.choice(ALPHABET + ".=")
        yield dice.choice(
            [
                compact[:at] + other + compact[at + 1 :],
                compact[:at] + compact[at + 1 :],
                compact[:at] + other + compact[at:],
                compact[:at] + compact[at + 1] + compact[at] + compact[at + 2 :],
                compact[:at],
            ]
        )


@pytest.mark.parametrize("header", [HEADER, HS_HEADER], ids=["EdDSA", "HS256"])
def test_both_agree_on_mutated_tokens(header: dict[str, object]) -> None:
    good = signed_by_joserfc(header, claims(teams=["payments"]))
    assert accepts(good)
    assert oracle_accepts(good)
    for mutated in mutations(good, seed=7, count=400):
        assert accepts(mutated) == oracle_accepts(mutated) == (mutated == good), mutated


TIMES = [NOW + offset for offset in (-86400, -31, -30, -1, 0, 1, 30, 31, 3600)]


ODD: tuple[object, ...] = (..., None, "", [], {}, True, 1.5, -1, "https://other.example")


def claim_changes() -> Iterator[dict[str, object]]:
    for time in TIMES:
        yield {"exp": time, "iat": NOW - 2 * 86400}
        yield {"iat": time, "exp": NOW + 7200}
        yield {"nbf": time}
    for name in claims():
        for value in ODD:
            if not (name in ("sub", "jti") and value == "https://other.example"):
                yield {name: value}
    yield {"aud": [ISSUER, "https://other.example"]}
    yield {"aud": [ISSUER, 1]}


STRICTER = [{"iat": 1.5}, {"iat": -1}]
"""Whole seconds from 1970 on; the oracle takes any number."""


@pytest.mark.parametrize("header", [HEADER, HS_HEADER], ids=["EdDSA", "HS256"])
def test_both_agree_on_changed_claims_that_are_signed_again(header: dict[str, object]) -> None:
    verdicts = set()
    for changes in claim_changes():
        compact = signed_by_joserfc(header, claims(**changes))
        verdicts.add(accepts(compact))
        assert accepts(compact) == (oracle_accepts(compact) and changes not in STRICTER), changes
    assert verdicts == {True, False}


def test_both_read_the_same_from_a_token_of_ours() -> None:
    decoded = jwt.decode(token(), ORACLE_KEYS, algorithms=["EdDSA"])
    assert json.dumps(decoded.claims) == json.dumps(claims())

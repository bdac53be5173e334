"""What our tokens say, and every token that is refused, with its code."""

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sluicegate.auth.keys import KeySet
from sluicegate.auth.tokens import LEEWAY, Inherited, JwtIssuer, JwtVerifier
from sluicegate.core.errors import InvalidInput, Unauthenticated
from sluicegate.core.identity import AllPermissions, OnlyPermissions, TokenId
from sluicegate.core.permissions import Permission
from sluicegate.ports import IssuedClaims
from tests.auth.forge import (
    ED_SEED,
    FOREIGN_SEED,
    HEADER,
    HS_HEADER,
    ISSUER,
    KEYS,
    LIFETIME,
    NOW,
    OLD_SEED,
    SHARED,
    VERIFIER,
    b64,
    claims,
    keys_of,
    macced,
    oct_jwk,
    okp,
    sealed,
    token,
)

WIDE = IssuedClaims("usr_alice", TokenId("tok_1"), NOW, NOW + 60, None, None, None)
NARROW = IssuedClaims("usr_alice", TokenId("tok_1"), NOW, NOW + 60, ("payments",), (), ("tools:call",))


def payload_of(compact: str) -> dict[str, object]:
    part = compact.split(".")[1]
    decoded: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


def header_of(compact: str) -> dict[str, object]:
    return payload_of(f".{compact.partition('.')[0]}.")


# --- issued ---------------------------------------------------------------------------------------------------------


def test_an_issued_token_leaves_out_what_inherits() -> None:
    issued = JwtIssuer(KEYS, ISSUER, ISSUER).issue(WIDE)
    assert header_of(issued) == {"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}
    assert payload_of(issued) == {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": "usr_alice",
        "jti": "tok_1",
        "iat": NOW,
        "exp": NOW + 60,
        "token_use": "api",
    }


def test_an_issued_token_states_what_narrows_and_keeps_empty_lists() -> None:
    payload = payload_of(JwtIssuer(KEYS, ISSUER, ISSUER).issue(NARROW))
    assert payload["teams"] == ["payments"]
    assert payload["scopes"] == {"servers": [], "permissions": ["tools:call"]}


@pytest.mark.parametrize("keys", [KEYS, keys_of(oct_jwk("hs", SHARED))], ids=["EdDSA", "HS256"])
def test_an_issued_token_verifies(keys: KeySet) -> None:
    issuer, verifier = JwtIssuer(keys, ISSUER, ISSUER), JwtVerifier(keys, ISSUER, ISSUER, LIFETIME)
    wide, narrow = verifier.verify(issuer.issue(WIDE), NOW), verifier.verify(issuer.issue(NARROW), NOW)
    assert (wide.subject, wide.token_id, wide.expires_at) == ("usr_alice", "tok_1", NOW + 60)
    assert (wide.teams, wide.servers, wide.permissions) == (Inherited(), Inherited(), AllPermissions())
    assert (narrow.teams, narrow.servers) == (("payments",), ())
    assert narrow.permissions == OnlyPermissions(frozenset({Permission.TOOLS_CALL}))


def test_a_token_that_could_not_be_verified_is_not_issued() -> None:
    many = tuple(f"team_{n:060}" for n in range(200))
    with pytest.raises(InvalidInput, match="fewer teams"):
        JwtIssuer(KEYS, ISSUER, ISSUER).issue(IssuedClaims("usr_a", TokenId("tok_1"), NOW, NOW + 60, many, None, None))


def test_after_a_rotation_both_keys_verify_and_the_new_one_signs() -> None:
    old, new = okp("old", OLD_SEED), okp("new", ED_SEED)
    before = JwtIssuer(keys_of(old), ISSUER, ISSUER).issue(WIDE)
    rotated = keys_of(new, old)
    after = JwtIssuer(rotated, ISSUER, ISSUER).issue(WIDE)
    verifier = JwtVerifier(rotated, ISSUER, ISSUER, LIFETIME)
    assert header_of(after)["kid"] == "new"
    assert verifier.verify(before, NOW) == verifier.verify(after, NOW)


def test_a_retired_key_verifies_nothing() -> None:
    before = JwtIssuer(keys_of(okp("old", OLD_SEED)), ISSUER, ISSUER).issue(WIDE)
    assert refusal(before, JwtVerifier(keys_of(okp("new", ED_SEED)), ISSUER, ISSUER, LIFETIME)) == "token_unknown_key"


# --- accepted -------------------------------------------------------------------------------------------------------

GOOD: dict[str, dict[str, object]] = {
    "audience among others": {"aud": ["https://other.example", ISSUER]},
    "issued by a clock that is ahead": {"iat": NOW + LEEWAY},
    "not before, just reached": {"nbf": NOW + LEEWAY},
    "last second": {"exp": NOW + 1},
    "session": {"token_use": "session"},
    "64 teams": {"teams": [f"t{n}" for n in range(64)]},
    "empty scopes": {"scopes": {}},
    "unknown claim outside of scopes": {"email": "alice@example.com"},
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_token_is_accepted(name: str) -> None:
    assert VERIFIER.verify(token(claims(**GOOD[name])), NOW).subject == "usr_alice"


def test_absent_and_empty_are_different_things() -> None:
    absent = VERIFIER.verify(token(claims(scopes={})), NOW)
    empty = VERIFIER.verify(token(claims(teams=[], scopes={"servers": [], "permissions": []})), NOW)
    assert (absent.teams, absent.servers, absent.permissions) == (Inherited(), Inherited(), AllPermissions())
    assert (empty.teams, empty.servers, empty.permissions) == ((), (), OnlyPermissions(frozenset()))


# --- refused: claims ------------------------------------------------------------------------------------------------

BAD_CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    **{f"no {name}": ({name: ...}, "token_bad_claims") for name in ("iss", "aud", "sub", "jti", "iat", "exp")},
    **{
        f"null {name}": ({name: None}, "token_bad_claims") for name in ("iss", "aud", "sub", "jti", "iat", "exp", "nbf")
    },
    "other issuer": ({"iss": "https://evil.example"}, "token_wrong_issuer"),
    "issuer with a slash": ({"iss": ISSUER + "/"}, "token_wrong_issuer"),
    "other audience": ({"aud": "https://other.example"}, "token_wrong_audience"),
    "other audiences": ({"aud": ["https://other.example"]}, "token_wrong_audience"),
    "no audiences": ({"aud": []}, "token_wrong_audience"),
    "audience that begins as ours": ({"aud": ISSUER + ".evil.example"}, "token_wrong_audience"),
    "audience of another type": ({"aud": {ISSUER: True}}, "token_bad_claims"),
    "expired": ({"exp": NOW - 1}, "token_expired"),
    "expires now": ({"exp": NOW}, "token_expired"),
    "issued in the future": ({"iat": NOW + LEEWAY + 1}, "token_not_yet_valid"),
    "issued in the future, valid before": ({"iat": NOW + LEEWAY + 1, "nbf": NOW}, "token_not_yet_valid"),
    "not before tomorrow": ({"nbf": NOW + 86400}, "token_not_yet_valid"),
    "lives too long": ({"exp": NOW - 60 + int(LIFETIME) + 1}, "token_lifetime_too_long"),
    "expires before it was issued": ({"iat": NOW + 20, "exp": NOW + 10}, "token_lifetime_too_long"),
    "times as text": ({"exp": str(NOW + 60)}, "token_bad_claims"),
    "times as a fraction": ({"exp": NOW + 60.5}, "token_bad_claims"),
    "times as a truth value": ({"iat": True}, "token_bad_claims"),
    "times out of range": ({"exp": 2**70}, "token_bad_claims"),
    "times below zero": ({"iat": -1}, "token_bad_claims"),
    "subject as a number": ({"sub": 1}, "token_bad_claims"),
    "empty subject": ({"sub": ""}, "token_bad_claims"),
    "subject with a line break": ({"sub": "usr_alice\n"}, "token_bad_claims"),
    "empty id": ({"jti": ""}, "token_bad_claims"),
    "other use": ({"token_use": "refresh"}, "token_bad_claims"),
    "teams null": ({"teams": None}, "token_bad_claims"),
    "teams as text": ({"teams": "payments"}, "token_bad_claims"),
    "teams as objects": ({"teams": [{"id": "team_1"}]}, "token_bad_claims"),
    "65 teams": ({"teams": [f"t{n}" for n in range(65)]}, "token_bad_claims"),
    "scopes null": ({"scopes": None}, "token_bad_claims"),
    "scopes as a list": ({"scopes": ["tools:call"]}, "token_bad_claims"),
    "servers null": ({"scopes": {"servers": None}}, "token_bad_claims"),
    "servers as text": ({"scopes": {"servers": "support"}}, "token_bad_claims"),
    "permissions null": ({"scopes": {"permissions": None}}, "token_bad_claims"),
    "unknown permission": ({"scopes": {"permissions": ["tools:call", "tools:*"]}}, "scope_unknown_permission"),
    "unknown scope": ({"scopes": {"server": ["support"]}}, "scope_unknown_claim"),
    "scope in another case": ({"scopes": {"Servers": ["support"]}}, "scope_unknown_claim"),
    **{
        f"{name} (a later issue)": ({"scopes": {name: []}}, "scope_not_supported")
        for name in ("ips", "hours", "limits")
    },
}


def refusal(compact: str, verifier: JwtVerifier = VERIFIER) -> str:
    """The code with which the token is refused."""
    with pytest.raises(Unauthenticated) as refused:
        verifier.verify(compact, NOW)
    assert not [part for part in compact.split(".") if len(part) > 20 and part in str(refused.value)]
    return refused.value.code


@pytest.mark.parametrize("name", BAD_CLAIMS)
def test_a_token_with_bad_claims_is_refused(name: str) -> None:
    changes, code = BAD_CLAIMS[name]
    assert refusal(token(claims(**changes))) == code


# --- refused: form, header, key --------------------------------------------------------------------------------------


def with_header(**changes: object) -> str:
    return token(header={name: value for name, value in (HEADER | changes).items() if value is not ...})


def parts(change: Callable[[list[str]], list[str]]) -> str:
    return ".".join(change(token().split(".")))


def with_end(end: bytes) -> str:
    """A signed token whose payload goes on like this."""
    return sealed(GOOD_HEADER, GOOD_PAYLOAD[:-1] + end)


def with_signature_of_another_payload() -> str:
    return parts(lambda p: [p[0], b64(json.dumps(claims(sub="usr_root")).encode()), p[2]])


def with_other_last_bits() -> str:
    """Of the last character of a 64-byte signature, four bits are not part of it."""
    return parts(lambda p: [p[0], p[1], p[2][:-1] + chr(ord(p[2][-1]) + 1)])


PUBLIC = Ed25519PrivateKey.from_private_bytes(ED_SEED).public_key()
RAW, PEM = PUBLIC.public_bytes_raw(), PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
GOOD_HEADER, GOOD_PAYLOAD = json.dumps(HEADER).encode(), json.dumps(claims()).encode()

BAD_TOKENS: dict[str, tuple[str, str]] = {
    "nothing": ("", "token_malformed"),
    "dots": ("..", "token_malformed"),
    "text": ("letmein", "token_malformed"),
    "not ASCII": ("é.é.é", "token_malformed"),
    "two parts": (parts(lambda p: p[:2]), "token_malformed"),
    "four parts": (parts(lambda p: [*p, p[2]]), "token_malformed"),
    "five parts (JWE)": (parts(lambda p: [*p, p[1], p[2]]), "token_malformed"),
    "padding": (parts(lambda p: [p[0], p[1], p[2] + "=="]), "token_malformed"),
    "blank at the end": (token() + " ", "token_malformed"),
    "line break inside": (parts(lambda p: [p[0], p[1][:9] + "\n" + p[1][9:], p[2]]), "token_malformed"),
    "other bits in the last character": (with_other_last_bits(), "token_malformed"),
    "too long": (token(claims(note="x" * 8192)), "token_too_long"),
    "no signature": (parts(lambda p: [p[0], p[1], ""]), "token_bad_signature"),
    "other signature": (parts(lambda p: [p[0], p[1], b64(bytes(64))]), "token_bad_signature"),
    "signature of another payload": (with_signature_of_another_payload(), "token_bad_signature"),
    "foreign key under our kid": (sealed(GOOD_HEADER, GOOD_PAYLOAD, FOREIGN_SEED), "token_bad_signature"),
    "alg none": (with_header(alg="none"), "token_wrong_algorithm"),
    "alg none, unsigned": (with_header(alg="none").rpartition(".")[0] + ".", "token_wrong_algorithm"),
    "alg nOnE": (with_header(alg="nOnE"), "token_wrong_algorithm"),
    "alg of another case": (with_header(alg="eddsa"), "token_wrong_algorithm"),
    "alg null": (with_header(alg=None), "token_wrong_algorithm"),
    "alg a list": (with_header(alg=["EdDSA"]), "token_wrong_algorithm"),
    "HS256 with the public key": (macced(HEADER | {"alg": "HS256"}, claims(), RAW), "token_wrong_algorithm"),
    "HS256 with the public key as PEM": (macced(HEADER | {"alg": "HS256"}, claims(), PEM), "token_wrong_algorithm"),
    "EdDSA with the key that is a secret": (with_header(kid="hs"), "token_wrong_algorithm"),
    "HS512 with the shared secret": (macced(HS_HEADER | {"alg": "HS512"}, claims(), SHARED), "token_wrong_algorithm"),
    "HMAC with another secret": (macced(HS_HEADER, claims(), SHARED[:32]), "token_bad_signature"),
    "HMAC with no secret": (macced(HS_HEADER, claims(), b""), "token_bad_signature"),
    "unknown kid": (with_header(kid="other"), "token_unknown_key"),
    "kid as a path": (with_header(kid="../../etc/passwd"), "token_unknown_key"),
    "kid as a list": (with_header(kid=["ed"]), "token_unknown_key"),
    "kid null": (with_header(kid=None), "token_unknown_key"),
    "no kid": (with_header(kid=...), "token_malformed"),
    "no typ": (with_header(typ=...), "token_malformed"),
    "typ JWT": (with_header(typ="JWT"), "token_wrong_type"),
    **{
        f"header with {name}": (with_header(**{name: value}), "token_malformed")
        for name, value in {
            "crit": ["exp"],
            "b64": True,
            "jku": "https://evil.example",
            "x5u": "https://evil.example",
            "jwk": okp("ed", FOREIGN_SEED),
            "x5c": [],
            "zip": "DEF",
        }.items()
    },
    "header names in another case": (sealed(GOOD_HEADER.replace(b"alg", b"Alg"), GOOD_PAYLOAD), "token_malformed"),
    "header with a name twice": (sealed(b'{"alg":"none",' + GOOD_HEADER[1:], GOOD_PAYLOAD), "token_malformed"),
    "header as a list": (sealed(b'["alg","kid","typ"]', GOOD_PAYLOAD), "token_malformed"),
    "header with a byte order mark": (sealed(b"\xef\xbb\xbf" + GOOD_HEADER, GOOD_PAYLOAD), "token_malformed"),
    "header in UTF-16": (sealed(GOOD_HEADER.decode().encode("utf-16"), GOOD_PAYLOAD), "token_malformed"),
    "payload with a name twice": (with_end(b',"sub":"usr_root"}'), "token_malformed"),
    "scopes with a name twice": (with_end(b',"scopes":{"servers":[],"servers":["a"]}}'), "token_malformed"),
    "payload with NaN": (with_end(b',"nbf":NaN}'), "token_malformed"),
    "payload with Infinity": (with_end(b',"nbf":-Infinity}'), "token_malformed"),
    "payload beyond all floats": (with_end(b',"nbf":1e999}'), "token_bad_claims"),
    "payload with trailing data": (sealed(GOOD_HEADER, GOOD_PAYLOAD + b"{}"), "token_malformed"),
    "payload not UTF-8": (sealed(GOOD_HEADER, b'{"sub":"\xff"}'), "token_malformed"),
    "payload with a lone surrogate": (token(claims(sub="\ud800")), "token_bad_claims"),
    "payload as a list": (sealed(GOOD_HEADER, b"[]"), "token_bad_claims"),
    "payload as text": (sealed(GOOD_HEADER, b'"scopes"'), "token_bad_claims"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_bad_token_is_refused(name: str) -> None:
    compact, code = BAD_TOKENS[name]
    assert refusal(compact) == code


def test_a_payload_nested_3000_deep_is_refused() -> None:
    """By the parser, or, from Python 3.12 on, which goes down that far, because it is no object."""
    assert refusal(sealed(GOOD_HEADER, b"[" * 3000 + b"]" * 3000)) in {"token_malformed", "token_bad_claims"}


def test_the_good_token_of_which_the_bad_ones_are_made_is_accepted() -> None:
    assert VERIFIER.verify(token(), NOW).subject == "usr_alice"
    assert VERIFIER.verify(macced(HS_HEADER, claims(), SHARED), NOW).subject == "usr_alice"

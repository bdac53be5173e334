"""What a JWK Set may hold, and that a refusal names the fault and no secret."""

import hashlib
import json
from collections.abc import Mapping

import pytest

from sluicegate.auth.keys import Algorithm, generated_jwk_set, is_guessable, key_set
from sluicegate.core.errors import ConfigurationError
from tests.auth.forge import ED_SEED, FOREIGN_SEED, OLD_SEED, SHARED, b64, keys_of, oct_jwk, okp

RFC_8037_SEED = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
RFC_8037_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_7515_K = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"


def test_the_first_key_that_can_sign_signs_and_all_verify() -> None:
    keys = keys_of(okp("published", OLD_SEED, private=False), okp("new", ED_SEED), oct_jwk("old", SHARED))
    assert (keys.signing.kid, keys.signing.algorithm) == ("new", Algorithm.EDDSA)
    assert set(keys.verifying) == {"published", "new", "old"}


def test_a_generated_set_has_one_key_that_signs() -> None:
    first, second = key_set(generated_jwk_set()), key_set(generated_jwk_set())
    assert set(first.verifying) == {first.signing.kid}
    assert first.signing.kid != second.signing.kid


def test_members_that_we_do_not_need_are_ignored() -> None:
    assert keys_of(okp("a", ED_SEED) | {"key_ops": "sign", "alg": "EdDSA", "use": "sig"}).signing.kid == "a"


BAD_KEYS: dict[str, tuple[Mapping[str, object], str]] = {
    "RSA": ({"kty": "RSA", "kid": "a", "n": "AQAB", "e": "AQAB"}, "RSA"),
    "no kty": ({"kid": "a", "k": b64(SHARED)}, "kty"),
    "no kid": ({"kty": "oct", "k": b64(SHARED)}, "kid"),
    "kid with a slash": (oct_jwk("../a", SHARED), "kid"),
    "kid with a line break": (oct_jwk("a\n", SHARED), "kid"),
    "empty kid": (oct_jwk("", SHARED), "kid"),
    "long kid": (oct_jwk("a" * 65, SHARED), "kid"),
    "other algorithm": (oct_jwk("a", SHARED) | {"alg": "HS512"}, "HS512"),
    "algorithm of the other type": (okp("a", ED_SEED) | {"alg": "HS256"}, "HS256"),
    "for encryption": (oct_jwk("a", SHARED) | {"use": "enc"}, "use"),
    "other curve": (okp("a", ED_SEED) | {"crv": "X25519"}, "crv"),
    "short secret": (oct_jwk("a", SHARED[:31]), "too short"),
    "padded secret": (oct_jwk("a", SHARED) | {"k": b64(SHARED) + "=="}, "base64url"),
    "standard base64": (oct_jwk("a", SHARED) | {"k": "+/" * 24}, "base64url"),
    "one byte repeated": (oct_jwk("a", b"\x07" * 32), "guessed"),
    "bytes in sequence": (oct_jwk("a", bytes(range(32))), "guessed"),
    "few different bytes": (oct_jwk("a", b"abcdefgh" * 8), "guessed"),
    "words of an example": (oct_jwk("a", b"your-256-bit-secret-please-replace-it"), "guessed"),
    "published in RFC 7515": ({"kty": "oct", "kid": "a", "k": RFC_7515_K}, "sample"),
    "published in RFC 8037": (
        {"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": RFC_8037_X, "d": RFC_8037_SEED},
        "sample",
    ),
    "public key of zeros": ({"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": b64(bytes(32))}, "guessed"),
    "short public key": (okp("a", ED_SEED) | {"x": b64(ED_SEED[:31])}, "31 bytes"),
    "not a pair": (okp("a", ED_SEED) | {"d": b64(FOREIGN_SEED)}, "not a pair"),
    "PEM as a secret": (
        oct_jwk("a", b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"),
        "text",
    ),
    "JWK as a secret": (oct_jwk("a", json.dumps(okp("a", ED_SEED)).encode()), "text"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_a_bad_key_is_refused_with_its_fault_and_without_its_secret(name: str) -> None:
    jwk, said = BAD_KEYS[name]
    with pytest.raises(ConfigurationError) as refused:
        keys_of(jwk)
    assert said in str(refused.value)
    for secret in (jwk.get("k"), jwk.get("d")):
        assert not secret or str(secret) not in str(refused.value)


BAD_SETS = {
    "": "line 1",
    "not json": "line 1",
    "[]": "object",
    "{}": "keys",
    '{"keys": []}': "keys",
    '{"keys": null}': "keys",
    '{"keys": [], "keys": []}': "twice",
    json.dumps({"keys": [okp("a", ED_SEED)] * 2}): "same `kid`",
    json.dumps({"keys": [okp("a", ED_SEED, private=False)]}): "can sign",
    json.dumps({"keys": [okp(f"k{n}", hashlib.sha256(b"%d" % n).digest()) for n in range(33)]}): "32",
}


@pytest.mark.parametrize("text, said", list(BAD_SETS.items()), ids=lambda value: value[:20])
def test_a_bad_set_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        key_set(text)


def test_keys_do_not_show_their_material() -> None:
    keys = keys_of(oct_jwk("a", SHARED))
    assert repr(SHARED)[2:12] not in repr(keys)
    assert "VerifyingKey('a', HS256)" in repr(keys)


def test_random_secrets_are_not_taken_for_guessable() -> None:
    for n in range(2000):
        raw = hashlib.sha256(b"%d" % n).digest()
        assert not is_guessable(raw)
        assert not is_guessable(raw.hex().encode())

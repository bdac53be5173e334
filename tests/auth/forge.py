"""Tokens made by hand, byte by byte, so that no library stands between a test and what a forger may write."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sluicegate.auth.keys import KeySet, key_set
from sluicegate.auth.tokens import JwtVerifier

NOW = 1_800_000_000
ISSUER = "https://gateway.example"
LIFETIME = 30 * 86400.0

ED_SEED = hashlib.sha256(b"the key that signs in tests").digest()
OLD_SEED = hashlib.sha256(b"the key that signed before").digest()
FOREIGN_SEED = hashlib.sha256(b"a key of somebody else").digest()
SHARED = hashlib.sha512(b"the key that two instances share").digest()


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def okp(kid: str, seed: bytes, *, private: bool = True) -> dict[str, str]:
    """An Ed25519 JWK."""
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": b64(public)}
    return jwk | {"d": b64(seed)} if private else jwk


def oct_jwk(kid: str, secret: bytes) -> dict[str, str]:
    return {"kty": "oct", "kid": kid, "k": b64(secret)}


def keys_of(*jwks: Mapping[str, object]) -> KeySet:
    return key_set(json.dumps({"keys": jwks}))


KEYS = keys_of(okp("ed", ED_SEED), oct_jwk("hs", SHARED))
VERIFIER = JwtVerifier(KEYS, ISSUER, ISSUER, LIFETIME)
HEADER: dict[str, object] = {"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}
HS_HEADER: dict[str, object] = {"alg": "HS256", "kid": "hs", "typ": "at+jwt"}


def claims(**changes: object) -> dict[str, object]:
    """Good claims with these changes; a value of `...` removes the claim."""
    good: dict[str, object] = {"iss": ISSUER, "aud": ISSUER, "sub": "usr_alice", "jti": "tok_1"}
    good |= {"iat": NOW - 60, "exp": NOW + 3600}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def sealed(header: bytes, payload: bytes, seed: bytes = ED_SEED) -> str:
    """Header and payload as they are, signed with Ed25519."""
    signing_input = f"{b64(header)}.{b64(payload)}"
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(signing_input.encode())
    return f"{signing_input}.{b64(signature)}"


def macced(header: Mapping[str, object], payload: Mapping[str, object], secret: bytes) -> str:
    """A token with an HMAC under `secret`, whatever its header says."""
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(payload).encode())}"
    return f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def token(payload: Mapping[str, object] | None = None, header: Mapping[str, object] = HEADER) -> str:
    """A token signed with our Ed25519 key."""
    return sealed(json.dumps(header).encode(), json.dumps(claims() if payload is None else payload).encode())

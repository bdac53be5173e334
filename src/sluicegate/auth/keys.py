"""The keys that sign and verify our tokens, read from a JWK Set (RFC 7517, section 5; OKP keys: RFC 8037).

HS256 with a secret of 32 bytes or more, and EdDSA over Ed25519. The key fixes the algorithm, never the token. Several
keys verify and the first that can signs, so a key is rotated by putting its successor in front of it. Pure: no files.
"""

import itertools
import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import InvalidKeyError
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.auth.strict import base64url, canonical_base64url, strict_json
from sluicegate.core.errors import ConfigurationError

MIN_SECRET = 32
"""Bytes of an HS256 secret (RFC 7518, section 3.2)."""
MIN_DISTINCT = 10
"""Different bytes in a secret: 32 random bytes have about 30, 32 random hex digits about 14."""
SAMPLE_WORDS = (b"secret", b"password", b"changeme", b"change-me", b"example", b"default", b"0123456789", b"12345678")
PUBLISHED = frozenset(
    {
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",  # RFC 7515, A.1
        "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg",  # RFC 7520, 3.5
        "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",  # RFC 8037, A.1
        "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",  # the public part of the one before
    }
)
"""Keys that everybody can read in a standard."""

Kid = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class Algorithm(StrEnum):
    """The names of JOSE (RFC 7518, RFC 8037)."""

    HS256 = "HS256"
    EDDSA = "EdDSA"


class VerifyingKey(Struct, frozen=True):
    """What checks a signature: a secret for HS256, a public key for EdDSA."""

    kid: str
    algorithm: Algorithm
    material: bytes | Ed25519PublicKey

    def __repr__(self) -> str:
        return f"VerifyingKey({self.kid!r}, {self.algorithm})"


class SigningKey(Struct, frozen=True):
    """What makes a signature."""

    kid: str
    algorithm: Algorithm
    material: bytes | Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r}, {self.algorithm})"


class KeySet(Struct, frozen=True):
    """All keys of the process: one signs, each verifies the tokens that carry its `kid`."""

    signing: SigningKey
    verifying: Mapping[str, VerifyingKey]


class OctJwk(Struct, frozen=True, tag_field="kty", tag="oct"):
    """A shared secret."""

    kid: Kid
    k: str
    alg: Literal["HS256"] | UnsetType = UNSET
    use: Literal["sig"] | UnsetType = UNSET

    def keys(self) -> tuple[VerifyingKey, SigningKey | None]:
        secret = _material(self.k, f"`k` of key `{self.kid}`")
        if len(secret) < MIN_SECRET:
            raise ConfigurationError(f"key `{self.kid}` is too short: HS256 needs {MIN_SECRET} random bytes or more")
        try:
            get_default_algorithms()["HS256"].prepare_key(secret)
        except InvalidKeyError:
            raise ConfigurationError(f"key `{self.kid}` is the text of another key: use random bytes") from None
        return VerifyingKey(self.kid, Algorithm.HS256, secret), SigningKey(self.kid, Algorithm.HS256, secret)


class OkpJwk(Struct, frozen=True, tag_field="kty", tag="OKP"):
    """An Ed25519 key, with or without its private part `d`."""

    kid: Kid
    crv: Literal["Ed25519"]
    x: str
    d: str | UnsetType = UNSET
    alg: Literal["EdDSA"] | UnsetType = UNSET
    use: Literal["sig"] | UnsetType = UNSET

    def keys(self) -> tuple[VerifyingKey, SigningKey | None]:
        public = _material(self.x, f"`x` of key `{self.kid}`", exactly=32)
        verifying = VerifyingKey(self.kid, Algorithm.EDDSA, Ed25519PublicKey.from_public_bytes(public))
        if self.d is UNSET:
            return verifying, None
        seed = _material(self.d, f"`d` of key `{self.kid}`", exactly=32)
        private = Ed25519PrivateKey.from_private_bytes(seed)
        if private.public_key().public_bytes_raw() != public:
            raise ConfigurationError(f"key `{self.kid}` is not a pair: `x` is not the public part of `d`")
        return verifying, SigningKey(self.kid, Algorithm.EDDSA, private)


class JwkSet(Struct, frozen=True):
    """Members that the standards define and we do not need are ignored, as RFC 7517 asks."""

    keys: Annotated[list[OctJwk | OkpJwk], Meta(min_length=1, max_length=32)]


def key_set(text: str) -> KeySet:
    """The keys of a JWK Set. Raises ConfigurationError that names what is wrong and quotes no secret."""
    try:
        jwks = msgspec.convert(strict_json(text.encode()), JwkSet).keys
    except ValueError as error:  # msgspec's ValidationError among them; neither quotes `k` or `d`
        raise ConfigurationError(f"the JWK Set cannot be used: {error}") from None
    pairs = [jwk.keys() for jwk in jwks]
    verifying = {key.kid: key for key, _ in pairs}
    if len(verifying) != len(pairs):
        raise ConfigurationError("the JWK Set has two keys with the same `kid`: give each its own")
    signing = next((key for _, key in pairs if key is not None), None)
    if signing is None:
        raise ConfigurationError("no key of the JWK Set can sign: add one with its private part `d`, or a secret `k`")
    return KeySet(signing, verifying)


def generated_jwk_set() -> str:
    """A JWK Set with one new Ed25519 key."""
    private = Ed25519PrivateKey.generate()
    jwk = {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": secrets.token_hex(8),
        "alg": "EdDSA",
        "use": "sig",
        "x": base64url(private.public_key().public_bytes_raw()),
        "d": base64url(private.private_bytes_raw()),
    }
    return msgspec.json.encode({"keys": [jwk]}).decode()


def is_guessable(secret: bytes) -> bool:
    """True for a key that somebody else knows or finds quickly: a published one, a pattern, words of examples."""
    steps = {(after - before) % 256 for before, after in itertools.pairwise(secret)}
    lowered = secret.lower()
    return (
        len(steps) <= 1
        or len(set(secret)) < MIN_DISTINCT
        or any(word in lowered for word in SAMPLE_WORDS)
        or base64url(secret) in PUBLISHED
    )


def _material(text: str, name: str, *, exactly: int | None = None) -> bytes:
    try:
        raw = canonical_base64url(text)
    except ValueError:
        raise ConfigurationError(f"{name} is not base64url without padding") from None
    if exactly is not None and len(raw) != exactly:
        raise ConfigurationError(f"{name} has {len(raw)} bytes, not {exactly}")
    if is_guessable(raw):
        raise ConfigurationError(f"{name} is a sample or can be guessed: generate a random one")
    return raw

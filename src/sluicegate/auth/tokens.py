"""Our tokens: JWTs (RFC 7519) in the form of RFC 9068, issued and verified. Pure, given keys and time.

The strict reader comes before PyJWT: what it lets through is a JWS of three canonical parts whose header says nothing
but `alg`, `kid` and `typ`, and whose algorithm is the one of the key it names (RFC 8725, section 3.1).

Times: `exp` has no grace; `iat` and `nbf` may lie LEEWAY seconds ahead of our wall clock.
"""

from typing import Annotated, Literal

import jwt
import msgspec
from jwt.exceptions import PyJWTError
from msgspec import UNSET, Meta, Struct, UnsetType

from sluicegate.auth.keys import KeySet, VerifyingKey
from sluicegate.auth.strict import canonical_base64url, strict_json
from sluicegate.core.errors import InvalidInput, Unauthenticated
from sluicegate.core.identity import Allowance, AllPermissions, OnlyPermissions, TokenId, UserId
from sluicegate.core.permissions import Permission
from sluicegate.ports import IssuedClaims

MAX_TOKEN = 8192
"""Characters of a token."""
MAX_TEAMS = 64
LEEWAY = 30
"""Seconds that the clock of another issuing instance may be ahead of ours."""
TYP = "at+jwt"
HEADER = frozenset({"alg", "kid", "typ"})
SCOPES = frozenset({"servers", "permissions"})
NOT_YET = frozenset({"ips", "hours", "limits"})
"""Claims of the plan that nothing enforces yet: refused, so that nobody believes that they narrow."""

Name = Annotated[str, Meta(pattern=r"\A[!-~]{1,128}\Z")]
Instant = Annotated[int, Meta(ge=0, lt=2**40)]


class Inherited(Struct, frozen=True, gc=False):
    """The claim is absent, so it does not narrow."""


Narrowing = tuple[str, ...] | Inherited
"""The names in a claim, slugs or ids, as they were issued."""


class VerifiedToken(Struct, frozen=True, gc=False):
    """What a token says, once its signature, issuer, audience and times are good. Times are Unix seconds."""

    subject: UserId
    token_id: TokenId
    issued_at: int
    expires_at: int
    teams: Narrowing
    servers: Narrowing
    permissions: Allowance


class ScopesClaim(Struct, frozen=True):
    servers: tuple[str, ...] | UnsetType = UNSET
    permissions: tuple[str, ...] | UnsetType = UNSET


class Claims(Struct, frozen=True):
    """The payload. No type has room for null: a missing claim, null and [] are three different things."""

    iss: str
    aud: str | tuple[str, ...]
    sub: Name
    jti: Name
    iat: Instant
    exp: Instant
    nbf: Instant | UnsetType = UNSET
    token_use: Literal["api", "session"] | UnsetType = UNSET
    teams: Annotated[tuple[str, ...], Meta(max_length=MAX_TEAMS)] | UnsetType = UNSET
    scopes: ScopesClaim | UnsetType = UNSET


class JwtIssuer:
    """Signs with the first key that can."""

    def __init__(self, keys: KeySet, issuer: str, audience: str) -> None:
        self._key = keys.signing
        self._issuer = issuer
        self._audience = audience
        self._jws = jwt.PyJWS()

    def issue(self, claims: IssuedClaims) -> str:
        """A signed token. Raises InvalidInput when it would be longer than the verifier accepts."""
        scopes = ScopesClaim(
            UNSET if claims.servers is None else claims.servers,
            UNSET if claims.permissions is None else claims.permissions,
        )
        payload = Claims(
            iss=self._issuer,
            aud=self._audience,
            sub=claims.subject,
            jti=claims.token_id,
            iat=claims.issued_at,
            exp=claims.expires_at,
            token_use="api",
            teams=UNSET if claims.teams is None else claims.teams,
            scopes=UNSET if scopes == ScopesClaim() else scopes,
        )
        headers = {"typ": TYP, "kid": self._key.kid}
        token = self._jws.encode(msgspec.json.encode(payload), self._key.material, self._key.algorithm, headers)
        if len(token) > MAX_TOKEN:
            raise InvalidInput("the token would be too long: name fewer teams or servers", code="token_too_long")
        return token


class JwtVerifier:
    """Decides whether a token is ours and in force. Knows nothing of users: that is the authenticator's part."""

    def __init__(self, keys: KeySet, issuer: str, audience: str, max_lifetime: float) -> None:
        """`max_lifetime` is the longest `exp - iat`, in seconds."""
        self._keys = keys.verifying
        self._issuer = issuer
        self._audience = audience
        self._max_lifetime = max_lifetime
        self._jws = jwt.PyJWS()

    def verify(self, token: str, now: float) -> VerifiedToken:
        """What the token says. Raises Unauthenticated with a stable code; `now` is Unix seconds."""
        key = self._key_of(token)
        try:
            payload = self._jws.decode(token, key.material, [key.algorithm])
        except PyJWTError:
            raise _refused("token_bad_signature", "the token's signature is not valid") from None
        claims = read_claims(payload)
        self._check_origin(claims)
        self._check_times(claims, now)
        return VerifiedToken(
            subject=UserId(claims.sub),
            token_id=TokenId(claims.jti),
            issued_at=claims.iat,
            expires_at=claims.exp,
            teams=Inherited() if claims.teams is UNSET else claims.teams,
            servers=_named_servers(claims),
            permissions=_allowance(claims),
        )

    def _key_of(self, token: str) -> VerifyingKey:
        header = read_header(token)
        kid, algorithm = header["kid"], header["alg"]
        key = self._keys.get(kid) if isinstance(kid, str) else None
        if key is None:
            raise _refused("token_unknown_key", "no key verifies the token: it was retired, or is not ours")
        if algorithm != key.algorithm:
            raise _refused("token_wrong_algorithm", "the token's `alg` is not its key's")
        if header["typ"] != TYP:
            raise _refused("token_wrong_type", f"the token's `typ` is not `{TYP}`")
        return key

    def _check_origin(self, claims: Claims) -> None:
        if claims.iss != self._issuer:
            raise _refused("token_wrong_issuer", "the token has another issuer")
        audiences = (claims.aud,) if isinstance(claims.aud, str) else claims.aud
        if self._audience not in audiences:
            raise _refused("token_wrong_audience", "the token is for another audience")

    def _check_times(self, claims: Claims, now: float) -> None:
        if claims.exp <= now:
            raise expired()
        not_before = claims.iat if claims.nbf is UNSET else max(claims.iat, claims.nbf)
        if not_before > now + LEEWAY:
            raise _refused("token_not_yet_valid", "the token is not valid yet: compare the clocks")
        if not 0 < claims.exp - claims.iat <= self._max_lifetime:
            raise _refused("token_lifetime_too_long", "the token's lifetime is not one that is accepted here")


def read_header(token: str) -> dict[str, object]:
    """The header of a token that is spelled in the one way we accept. Raises Unauthenticated for every other text."""
    if len(token) > MAX_TOKEN:
        raise _refused("token_too_long", f"the token is longer than {MAX_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise _refused("token_malformed", "the token is not a signed JWT of three parts")
    try:
        raw = [canonical_base64url(part) for part in parts]
        header = strict_json(raw[0])
    except ValueError:
        raise _refused("token_malformed", "the token is not a JWT: its parts cannot be read") from None
    if not isinstance(header, dict) or header.keys() != HEADER:
        raise _refused("token_malformed", "the token's header must have `alg`, `kid` and `typ` and nothing else")
    return header


def read_claims(payload: bytes) -> Claims:
    """The claims of a payload whose signature is good. Raises Unauthenticated unless they are all well formed."""
    try:
        members = strict_json(payload)
    except ValueError:
        raise _refused("token_malformed", "the token's payload cannot be read, or has a name twice") from None
    _refuse_unknown_scopes(members)
    try:
        return msgspec.convert(members, Claims)
    except msgspec.ValidationError as error:
        raise _refused("token_bad_claims", f"the token's claims are not well formed: {error}") from None


def expired() -> Unauthenticated:
    """The error for a token whose time is over, also one that was verified before."""
    return _refused("token_expired", "the token has expired: get a new one")


def _refuse_unknown_scopes(members: object) -> None:
    scopes = members.get("scopes") if isinstance(members, dict) else None
    for name in scopes if isinstance(scopes, dict) else ():
        if name in NOT_YET:
            raise _refused("scope_not_supported", f"the token has `scopes.{name}`, which is not supported yet")
        if name not in SCOPES:
            raise _refused("scope_unknown_claim", "the token has a claim under `scopes` that is not known")


def _named_servers(claims: Claims) -> Narrowing:
    if claims.scopes is UNSET or claims.scopes.servers is UNSET:
        return Inherited()
    return claims.scopes.servers


def _allowance(claims: Claims) -> Allowance:
    if claims.scopes is UNSET or claims.scopes.permissions is UNSET:
        return AllPermissions()
    try:
        return OnlyPermissions(frozenset(map(Permission, claims.scopes.permissions)))
    except ValueError:
        raise _refused("scope_unknown_permission", "the token names a permission that does not exist") from None


def _refused(code: str, message: str) -> Unauthenticated:
    return Unauthenticated(message, code=code)

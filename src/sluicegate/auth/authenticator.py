"""From the text of a token to the principal it stands for, without a database: keys, clock and directory only."""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256

import structlog
from msgspec import Struct

from sluicegate import telemetry
from sluicegate.auth.tokens import MAX_TOKEN, Inherited, JwtVerifier, VerifiedToken, expired
from sluicegate.core.directory import Directory
from sluicegate.core.errors import SluicegateError, Unauthenticated
from sluicegate.core.identity import (
    AllServers,
    AllTeams,
    OnlyServers,
    OnlyTeams,
    Principal,
    Reach,
    ServerReach,
    TokenScope,
)
from sluicegate.ports import Clock

log = structlog.get_logger()

MAX_KNOWN = 50_000
"""Verified tokens that are remembered; the oldest leaves first. Refused ones are never remembered."""


class Known(Struct, gc=False):
    """A token that was verified, and whom it stood for at `revision` of the `generation`th directory, if looked up."""

    token: VerifiedToken
    principal: Principal | None = None
    generation: int = 0
    revision: int = 0


class DirectoryAuthenticator:
    """Verifies a token once; from then on looks at its time on every call, and at the directory at every revision.

    Promises that no unexpected failure in here yields a principal: it is logged, counted and refused.
    """

    def __init__(
        self, verifier: JwtVerifier, directory: Callable[[], Directory], clock: Clock, *, most: int = MAX_KNOWN
    ) -> None:
        """`most` is the number of verified tokens that are remembered."""
        self._verifier = verifier
        self._directory = directory
        self._clock = clock
        self._most = most
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._generation = 0
        self._latest: weakref.ref[Directory] | None = None
        """Weak, so that one that was replaced can go before the next request comes."""

    def authenticate(self, token: str) -> Principal:
        """The principal of a bearer token. Raises Unauthenticated; AuthorizationStale while there is no directory."""
        try:
            return self._authenticate(token)
        except SluicegateError:
            raise
        except Exception as error:  # the outer boundary of what a caller can make fail
            telemetry.unexpected_errors.labels("authenticator").inc()
            log.error("a token could not be verified", error=type(error).__name__, exc_info=True)
            raise Unauthenticated("the token cannot be verified", code="token_unverifiable") from None

    def _authenticate(self, token: str) -> Principal:
        if len(token) > MAX_TOKEN or not token.isascii():
            raise Unauthenticated(f"the token is not a JWT of at most {MAX_TOKEN} characters", code="token_malformed")
        directory = self._directory()
        if self._latest is None or self._latest() is not directory:
            self._latest = weakref.ref(directory)
            self._generation += 1
        digest = sha256(token.encode()).digest()
        now = self._clock.wall()
        known = self._known.get(digest)
        if known is None:
            known = self._learn(digest, self._verifier.verify(token, now))
        elif known.token.expires_at <= now:
            del self._known[digest]
            raise expired()
        principal = known.principal
        if principal is None or known.revision != directory.revision or known.generation != self._generation:
            require_live(known.token, directory)
            principal = known.principal = principal_of(known.token, directory)
            known.revision, known.generation = directory.revision, self._generation
        return principal

    def _learn(self, digest: bytes, token: VerifiedToken) -> Known:
        known = self._known[digest] = Known(token)
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return known


def require_live(token: VerifiedToken, directory: Directory) -> None:
    """Raises Unauthenticated unless the user is active and the token's id is neither revoked nor another user's.

    An id that the directory does not have is live: the directory may know tokens by their revocation alone.
    """
    user = directory.users.get(token.subject)
    if user is None:
        raise Unauthenticated("the token's user does not exist", code="user_unknown")
    if not user.active:
        raise Unauthenticated("the token's user is not active", code="user_inactive")
    issued = directory.tokens.get(token.token_id)
    if issued is None:
        return
    if issued.revoked_at is not None:
        raise Unauthenticated("the token was revoked: get a new one", code="token_revoked")
    if issued.user_id != token.subject:
        raise Unauthenticated("the token's id belongs to another user", code="token_wrong_subject")


def principal_of(token: VerifiedToken, directory: Directory) -> Principal:
    """The principal, with names resolved. A name that the directory does not have is dropped: it can only narrow."""
    scope = TokenScope(_reach(token, directory), _server_reach(token, directory), token.permissions)
    return Principal(token.subject, token.token_id, scope, float(token.expires_at))


def _reach(token: VerifiedToken, directory: Directory) -> Reach:
    if isinstance(token.teams, Inherited):
        return AllTeams()
    return OnlyTeams(frozenset(team.id for name in token.teams if (team := directory.team(name))))


def _server_reach(token: VerifiedToken, directory: Directory) -> ServerReach:
    if isinstance(token.servers, Inherited):
        return AllServers()
    return OnlyServers(frozenset(server.id for name in token.servers if (server := directory.server(name))))

"""Nobody comes past this layer without a principal, except to the open paths."""

import re

from sluicegate import telemetry
from sluicegate.core.errors import InvalidInput, RevisionNotReached, SluicegateError, Unauthenticated
from sluicegate.core.identity import Principal
from sluicegate.ports import Authenticator, AuthzFeed
from sluicegate.web.asgi import PRINCIPAL, REQUEST_ID, App, Receive, Scope, Send, header_values, send_answer
from sluicegate.web.credential import bearer_token
from sluicegate.web.deciding import note_age
from sluicegate.web.errors import problem
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.public import is_public

MIN_REVISION = "Sluicegate-Min-Revision"
"""Header of a request: a revision that the directory must stand at, at least, before anything is decided."""
_MIN_REVISION = MIN_REVISION.lower().encode()
REVISION = re.compile("[0-9]{1,18}")
NOT_YET = frozenset({"user_unknown", "user_inactive"})
"""What a change that is on its way may mend; everything else about a token is final."""


class TokenScopingMiddleware:
    """Puts the `Principal` of the one credential into the scope, for every path and method."""

    def __init__(self, app: App, authenticator: Authenticator, lease: AuthzFeed, metadata_url: MetadataUrl) -> None:
        self._app = app
        self._authenticator = authenticator
        self._lease = lease
        self._metadata_url = metadata_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan" and not is_public(scope["path"]):
            try:
                token = bearer_token(scope)
                if wanted := header_values(scope, _MIN_REVISION):
                    await self._reach(wanted, token)
                if not self._lease.fresh:
                    await self._lease.ensure_current()
                scope[PRINCIPAL] = await self._principal(token, scope)
            except SluicegateError as error:
                if isinstance(error, Unauthenticated):
                    telemetry.auth_failures.labels(error.code).inc()
                await send_answer(send, problem(error, self._metadata_url(scope), scope.get(REQUEST_ID)))
                return
        await self._app(scope, receive, send)

    async def _reach(self, wanted: list[str], token: str) -> None:
        """Waits, for a second at most, for the revision that the request wants to be judged by. Not for strangers."""
        if len(wanted) != 1 or not REVISION.fullmatch(wanted[0]):
            raise InvalidInput(f"`{MIN_REVISION}` must be one whole number, as `Sluicegate-Revision` states it")
        self._refuse_for_good(token)
        revision = int(wanted[0])
        if self._lease.directory.revision < revision:
            await self._lease.reach(revision)
            if (reached := self._lease.directory.revision) < revision:
                raise RevisionNotReached(
                    f"this instance stands at revision {reached}, not yet at {revision}: try again"
                )

    def _refuse_for_good(self, token: str) -> None:
        """Raises Unauthenticated unless a key of ours vouches for the token, and a later directory may accept it."""
        try:
            self._authenticator.authenticate(token)
        except Unauthenticated as error:
            if error.code not in NOT_YET:
                raise

    async def _principal(self, token: str, scope: Scope) -> Principal:
        """A user who is not known yet, though a key of ours vouches for it, may have been added a moment ago."""
        note_age(scope, self._lease)
        try:
            return self._authenticator.authenticate(token)
        except Unauthenticated as error:
            if error.code != "user_unknown":
                raise
        await self._lease.catch_up()
        note_age(scope, self._lease)
        return self._authenticator.authenticate(token)

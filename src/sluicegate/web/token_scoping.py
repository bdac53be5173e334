"""Nobody comes past this layer without a principal, except to the open paths."""

from sluicegate import telemetry
from sluicegate.core.errors import SluicegateError, Unauthenticated
from sluicegate.core.identity import Principal
from sluicegate.ports import Authenticator, AuthzFeed
from sluicegate.web.asgi import PRINCIPAL, REQUEST_ID, App, Receive, Scope, Send, send_answer
from sluicegate.web.credential import bearer_token
from sluicegate.web.errors import problem
from sluicegate.web.metadata import MetadataUrl
from sluicegate.web.public import is_public


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
                if not self._lease.fresh:
                    await self._lease.ensure_current()
                scope[PRINCIPAL] = await self._principal(token)
            except SluicegateError as error:
                if isinstance(error, Unauthenticated):
                    telemetry.auth_failures.labels(error.code).inc()
                await send_answer(send, problem(error, self._metadata_url(scope), scope.get(REQUEST_ID)))
                return
        await self._app(scope, receive, send)

    async def _principal(self, token: str) -> Principal:
        """A user who is not known yet, though a key of ours vouches for it, may have been added a moment ago."""
        try:
            return self._authenticator.authenticate(token)
        except Unauthenticated as error:
            if error.code != "user_unknown":
                raise
        await self._lease.catch_up()
        return self._authenticator.authenticate(token)

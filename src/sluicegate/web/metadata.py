"""Protected resource metadata (RFC 9728): where a client that gets a 401 learns how to come in."""

import re
from collections.abc import Callable

import msgspec

from sluicegate.core.permissions import Permission
from sluicegate.web.asgi import Scope, header_values

WELL_KNOWN = "/.well-known/oauth-protected-resource"
ENDPOINT = re.compile(r"/mcp|/servers/[A-Za-z0-9_-]{1,64}/mcp")


MetadataUrl = Callable[[Scope], str]
"""The URL of the metadata document that the challenge of a request points to."""


class ResourceMetadata:
    """The documents and their URLs. Whether a server exists shows in neither."""

    def __init__(self, public_url: str | None, issuer: str) -> None:
        """Without a public URL, a resource's URL begins with the request's own `Host`, which was checked before."""
        self._public_url = public_url and public_url.rstrip("/")
        self._issuer = issuer

    def url(self, scope: Scope) -> str:
        """The URL of the document about the endpoint that was asked for; about the whole gateway on other paths."""
        path = scope["path"]
        return f"{self._origin(scope)}{WELL_KNOWN}{path if ENDPOINT.fullmatch(path) else ''}"

    def document(self, scope: Scope) -> bytes | None:
        """The document at a path below WELL_KNOWN, or None when there is no such endpoint."""
        endpoint = scope["path"].removeprefix(WELL_KNOWN)
        if endpoint and not ENDPOINT.fullmatch(endpoint):
            return None
        return msgspec.json.encode(
            {
                "resource": f"{self._origin(scope)}{endpoint}",
                "authorization_servers": [self._issuer],
                "bearer_methods_supported": ["header"],
                "scopes_supported": sorted(Permission),
                "resource_name": "Sluicegate",
            }
        )

    def _origin(self, scope: Scope) -> str:
        if self._public_url:
            return self._public_url
        return "".join(f"http://{host}" for host in header_values(scope, b"host")[:1]) or self._issuer

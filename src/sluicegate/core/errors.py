"""The one error tree. Raised where known, mapped to HTTP and JSON-RPC in `web/errors.py` and nowhere else.

SluicegateError
├── InvalidInput            the request is wrong; nothing was done             400
│   ├── TooLarge            a size limit was passed                            413
│   └── EgressRefused       the address may not be an upstream                 422
├── Unauthenticated         the credential is missing or not valid             401
│   └── AmbiguousCredential two credentials, or one in the query               400
├── Forbidden               seen, but may not be done                          403
├── NotFound                does not exist, or may not be seen                 404
├── Conflict                the name is taken, or the object changed           409
├── Unavailable             ours or the database's fault, try again            503
│   ├── AuthorizationStale  the lease ended: we cannot decide                  503
│   ├── RevisionNotReached  the directory is behind what the caller asks for   503
│   ├── DatabaseBusy        the bulkhead is full or the database is away       503
│   ├── ReadReplica         the database is one, so it may lag behind          503
│   └── DirectoryTooLarge   there is more than a worker may load               503
├── UpstreamFailed          the upstream's fault                               502
│   ├── UpstreamUnreachable refused, reset, no address
│   ├── UpstreamTimeout     the deadline of the call passed                    504
│   └── UpstreamInvalid     it answered something that is not MCP
└── ConfigurationError      the process must not start like this
"""

from collections.abc import Sequence


class SluicegateError(Exception):
    """Root of the tree. `code` is stable, `str(error)` says what to do; neither holds a secret."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidInput(SluicegateError):
    """The request is wrong and nothing was done."""

    code = "invalid_input"


class TooLarge(InvalidInput):
    """A size limit was passed."""

    code = "too_large"


class EgressRefused(InvalidInput):
    """The address is not one that an upstream may have."""

    code = "egress_refused"


class Unauthenticated(SluicegateError):
    """The credential is missing, or it is not valid now."""

    code = "unauthenticated"


class AmbiguousCredential(Unauthenticated):
    """More than one credential, or one in a place where none may be."""

    code = "ambiguous_credential"


class Forbidden(SluicegateError):
    """The caller sees the object but may not do this. `scopes` are all permissions that the operation needs.

    `reason` is the stable code of the clause that objected.
    """

    code = "insufficient_scope"

    def __init__(self, message: str, *, scopes: Sequence[str], reason: str) -> None:
        super().__init__(message)
        self.scopes = tuple(scopes)
        self.reason = reason


class NotFound(SluicegateError):
    """The object does not exist, or the caller may not know that it does."""

    code = "not_found"


class Conflict(SluicegateError):
    """The name is taken, or the object changed meanwhile."""

    code = "conflict"


class Unavailable(SluicegateError):
    """Infrastructure is away; trying again after `retry_after` seconds may help."""

    code = "unavailable"
    retry_after = 1


class AuthorizationStale(Unavailable):
    """The lease on the directory has ended, so nothing may be decided."""

    code = "authz_stale"


class RevisionNotReached(Unavailable):
    """The directory does not stand yet at the revision that the request wants at least."""

    code = "revision_not_reached"


class DatabaseBusy(Unavailable):
    """No connection was free, or the database did not answer in time."""

    code = "database_unavailable"


class ReadReplica(Unavailable):
    """The database is a read replica: what it says may be old, so it renews no lease and nothing is loaded from it."""

    code = "database_is_replica"


class DirectoryTooLarge(Unavailable):
    """The database holds more than a worker may load."""

    code = "directory_too_large"


class UpstreamFailed(SluicegateError):
    """The upstream could not carry out the call."""

    code = "upstream_failed"


class UpstreamUnreachable(UpstreamFailed):
    """The upstream refused the connection, reset it, or has no address."""

    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamFailed):
    """The deadline of the call passed."""

    code = "upstream_timeout"


class UpstreamInvalid(UpstreamFailed):
    """The upstream answered something that is not the MCP answer to our request."""

    code = "upstream_invalid"


class ConfigurationError(SluicegateError):
    """The settings are unsafe, half set or impossible: the process must not start."""

    code = "configuration"

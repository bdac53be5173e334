"""The moment of a decision: the caller by the directory of now, and what the answer says of the directory's age.

On the way of every request, so it only notes; the outermost layer puts the note into the answer's headers.
"""

from sluicegate.ports import AuthzFeed, Clock
from sluicegate.usecases.calling import Caller
from sluicegate.web.asgi import PRINCIPAL, Headers, Scope

AGE = "Sluicegate-Authz-Age"
"""Header of every authenticated answer: seconds since the directory that decided was known to be current."""
STATE = "Sluicegate-Authz-State"
"""Header of an answer that was decided without the database: `outage`."""
_AGE = "sluicegate.authz_age"
_FRESH = "sluicegate.authz_fresh"
_AGE_HEADER, _OUTAGE = AGE.lower().encode(), (STATE.lower().encode(), b"outage")


def caller_now(scope: Scope, feed: AuthzFeed, clock: Clock) -> Caller:
    """The request's principal by the directory of this moment, whose age is noted. Good until the next `await`.

    Whoever asks has made sure that decisions may be made. Raises AuthorizationStale while there is no directory.
    """
    note_age(scope, feed)
    return Caller(scope[PRINCIPAL], feed.directory, clock.wall())


def note_age(scope: Scope, feed: AuthzFeed) -> None:
    """To be called where something is decided: the last note is what the answer says."""
    scope[_AGE] = feed.age
    scope[_FRESH] = feed.fresh


def age_headers(scope: Scope) -> Headers:
    """What the answer says of the directory that decided; nothing when none did."""
    age: float | None = scope.get(_AGE)
    if age is None:
        return ()
    stated = (_AGE_HEADER, b"%.2f" % age)
    return (stated,) if scope[_FRESH] else (stated, _OUTAGE)

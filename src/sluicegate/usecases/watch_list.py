"""One caller's list of tools on one endpoint, watched: may it show something else now, and may the caller still ask?

What the list depends on is compared, not the list: with a hundred thousand tools and a thousand watches no list could
be made at each change.
"""

import weakref
from collections.abc import Callable

from msgspec import Struct

from sluicegate.core.catalog import User
from sluicegate.core.directory import Directory
from sluicegate.core.identity import TeamId
from sluicegate.core.permissions import Role
from sluicegate.core.routing import Entrance
from sluicegate.ports import AuthzFeed, Clock
from sluicegate.usecases.calling import Caller

QUIET = 1.0
"""Seconds between two pieces of news: what changes meanwhile is told at once when they are over."""

Enter = Callable[[Caller], Entrance]
"""The endpoint, if the caller may use it. Raises NotFound or Forbidden."""


class _Grounds(Struct, frozen=True):
    """What a list depends on: as long as nothing of it changes, nor does the list."""

    directory: "weakref.ref[Directory]"
    """Loaded anew, it may be at the same revision and yet another. Weak, so that the old one can go."""
    catalog_revision: int
    user: User | None
    roles: tuple[tuple[TeamId, Role], ...]


class ListWatch:
    """Watches from the moment of the caller given, whom a request would have been let in with."""

    def __init__(self, feed: AuthzFeed, clock: Clock, caller: Caller, enter: Enter, every: float) -> None:
        """`every` is how many seconds may pass before the right is looked at again, though nothing has changed."""
        self._feed = feed
        self._clock = clock
        self._principal = caller.principal
        self._enter = enter
        self._every = every
        self._revision = caller.directory.revision
        self._told = _grounds(caller)
        self._held_back = False
        self._quiet_until = 0.0

    async def next(self) -> bool:
        """Returns within `every` seconds: True when the list may show something else than at the last True.

        Judges as a request of this moment would be judged, and raises what it would be refused with: Unauthenticated,
        NotFound, Forbidden, AuthorizationStale.
        """
        await self._feed.next_change(self._revision, self._patience())
        if not self._feed.fresh:
            await self._feed.ensure_current()
        caller = Caller(self._principal, self._feed.directory, self._clock.wall())
        caller.require_live()
        self._enter(caller)
        self._revision = caller.directory.revision
        return self._is_news(_grounds(caller))

    def _patience(self) -> float:
        if not self._held_back:
            return self._every
        return min(self._every, max(self._quiet_until - self._clock.boot(), 0.0))

    def _is_news(self, grounds: _Grounds) -> bool:
        now = self._clock.boot()
        differs = grounds != self._told
        self._held_back = differs and now < self._quiet_until
        if not differs or self._held_back:
            return False
        self._told = grounds
        self._quiet_until = now + QUIET
        return True


def _grounds(caller: Caller) -> _Grounds:
    directory, user_id = caller.directory, caller.principal.user_id
    return _Grounds(
        directory=weakref.ref(directory),
        catalog_revision=directory.catalog_revision,
        user=directory.users.get(user_id),
        roles=directory.roles_of(user_id),
    )

"""Lists in a stable order, page by page. Decisions are made for one page, not for all that there is."""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Generic, TypeVar

from msgspec import Struct

from sluicegate.usecases.list_catalog import decode_cursor, encode_cursor

T = TypeVar("T")
V = TypeVar("V")


class PageRequest(Struct, frozen=True):
    """At most `limit` items, after the page that gave out `cursor`; None begins at the first."""

    limit: int
    cursor: str | None


class Page(Struct, Generic[T], frozen=True):
    """Items in the order of their keys, and the cursor of the next page; None on the last."""

    items: list[T]
    next_cursor: str | None

    def map(self, view: Callable[[T], V]) -> "Page[V]":
        """The same page with each item as `view` shows it."""
        return Page([view(item) for item in self.items], self.next_cursor)


def page_of(
    candidates: Iterable[T], key: Callable[[T], str], wanted: PageRequest, allowed: Callable[[T], bool]
) -> Page[T]:
    """One page of those candidates that are allowed; their keys are unique and not empty. Raises InvalidInput."""
    after = "" if wanted.cursor is None else decode_cursor(wanted.cursor)
    keyed = [(name, item) for item in candidates if (name := key(item)) > after]
    keyed.sort(key=itemgetter(0))
    items: list[T] = []
    for name, item in keyed:
        if not allowed(item):
            continue
        if len(items) == wanted.limit:
            return Page(items, encode_cursor(after))
        items.append(item)
        after = name
    return Page(items, None)

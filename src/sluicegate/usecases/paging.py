"""Lists in a stable order, page by page. Decisions are made for one page, not for all that there is."""

from bisect import insort
from collections.abc import Callable, Iterable
from itertools import islice
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
    """One page of those candidates that are allowed; their keys are unique and not empty. Raises InvalidInput.

    Keeps no more than the page, and asks for no candidate that lies behind it.
    """
    after = beginning(wanted)
    kept: list[tuple[str, T]] = []
    for item in candidates:
        name = key(item)
        is_behind = len(kept) > wanted.limit and name > kept[-1][0]
        if name > after and not is_behind and allowed(item):
            insort(kept, (name, item), key=itemgetter(0))
            del kept[wanted.limit + 1 :]
    return first_page(kept, wanted)


def first_page(ordered: Iterable[tuple[str, T]], wanted: PageRequest) -> Page[T]:
    """The page that the first items make, which come in the order of their keys and after the cursor."""
    found = list(islice(ordered, wanted.limit + 1))
    shown = found[: wanted.limit]
    return Page([item for _, item in shown], encode_cursor(shown[-1][0]) if len(found) > len(shown) else None)


def beginning(wanted: PageRequest) -> str:
    """The key after which the page begins. Raises InvalidInput."""
    return "" if wanted.cursor is None else decode_cursor(wanted.cursor)

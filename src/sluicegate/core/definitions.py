"""The JSON texts that upstreams describe their tools with, kept small: nothing decides by them, and they are most of
what there is to remember. Those of one upstream are much alike, so they shrink to a fifth when compressed together.
"""

import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct, msgpack

LEVEL = 1
"""zlib's quickest: half as small again would take five times as long, at each load."""
OPENED = 16
"""Sealed texts that are also kept plain: whoever reads one text mostly reads its neighbours."""


class Sealed(Struct, frozen=True, eq=False):
    """Some texts by name, compressed together. Never sent anywhere: a payload that holds one does not decode."""

    names: tuple[str, ...]
    """In order; the texts and their hashes are in the same."""
    hashes: array  # type: ignore[type-arg]  # Python 3.11 cannot subscript it
    block: bytes

    def text(self, name: str) -> str:
        """The text of this name, which must be there."""
        return _opened(self.block)[bisect_left(self.names, name)]

    def hash_of(self, name: str) -> int:
        """What `hash` gives for the text, without opening it."""
        known: int = self.hashes[bisect_left(self.names, name)]
        return known


def sealed(texts: Iterable[tuple[str, str]]) -> Sealed:
    """Seals texts by their names. Best for up to some hundred: reading one opens all."""
    names, plain = zip(*sorted(texts), strict=True)
    return Sealed(names, array("q", map(hash, plain)), zlib.compress(msgpack.encode(plain), LEVEL))


@lru_cache(OPENED)
def _opened(block: bytes) -> list[str]:
    texts: list[str] = msgpack.decode(zlib.decompress(block))
    return texts

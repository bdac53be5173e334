"""Decoders that accept exactly one spelling of a value, for input that somebody else may have written.

Both raise ValueError, whose text never quotes the input: it may be a secret.
"""

import base64
import json
from typing import NoReturn


def canonical_base64url(text: str) -> bytes:
    """The bytes of unpadded base64url (RFC 7515, section 2); no other text than their own encoding is accepted."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64url(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def base64url(raw: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def strict_json(data: bytes) -> object:
    """The value of a JSON text in UTF-8: no duplicate names, no NaN or Infinity, no byte order mark."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name occurs twice")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("a number is not finite")

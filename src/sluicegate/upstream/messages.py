"""JSON-RPC messages to an upstream and its answers; what they carry stays bytes."""

import itertools
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from sluicegate import __version__
from sluicegate.ports import UpstreamAnswer, UpstreamRefusal, UpstreamResult

CLIENT_INFO = {"name": "sluicegate", "version": __version__}

Headers = tuple[tuple[str, str], ...]

_ids = itertools.count(1)


class Outgoing(Struct, frozen=True):
    """A message ready to be sent. `id` is unique in this process, so no answer can be taken for another call's."""

    id: int
    body: bytes
    headers: Headers


class NotAnAnswer(Exception):
    """The bytes are not JSON-RPC. The text says what is wrong and quotes nothing of them."""


class _Envelope(Struct):
    jsonrpc: Literal["2.0"]
    id: int | str | float | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class _Error(Struct):
    code: int
    message: str


_envelope = msgspec.json.Decoder(_Envelope)
_error = msgspec.json.Decoder(_Error)


def request(method: str, params: Mapping[str, object], headers: Headers) -> Outgoing:
    """A request with a fresh id."""
    number = next(_ids)
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    return Outgoing(number, body, headers)


def notification(method: str, headers: Headers) -> Outgoing:
    """A notification without params; its id is not sent."""
    return Outgoing(0, msgspec.json.encode({"jsonrpc": "2.0", "method": method}), headers)


def read_answer(data: bytes, request_id: int, *, null_is_ours: bool = False) -> UpstreamAnswer | None:
    """The answer to our request, or None when the message is another one: a notification, or with another id.

    `null_is_ours` takes an error with the id null as the answer too: a server that could not read the request says so
    like this (JSON-RPC 2.0, section 5). Raises NotAnAnswer.
    """
    try:
        data.decode()  # msgspec does not look at the encoding of what it leaves raw
        envelope = _envelope.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotAnAnswer("is not a JSON-RPC message") from None
    except RecursionError:
        raise NotAnAnswer("is nested too deeply") from None
    if envelope.method is not UNSET:
        return None
    if type(envelope.id) is int:
        ours = envelope.id == request_id
    else:
        ours = null_is_ours and envelope.id is None and envelope.error is not UNSET
    return _outcome(envelope) if ours else None


def _outcome(envelope: _Envelope) -> UpstreamAnswer:
    result, error = envelope.result, envelope.error
    if result is not UNSET and error is UNSET:
        content = bytes(result)
        if content[:1] == b"{":
            return UpstreamResult(content)
    elif error is not UNSET and result is UNSET:
        refusal = UpstreamRefusal(bytes(error))
        error_code(refusal)
        return refusal
    raise NotAnAnswer("holds neither a result object nor an error object")


def error_code(refusal: UpstreamRefusal) -> int:
    """The code of an upstream's error. Raises NotAnAnswer when it is not an error object."""
    try:
        return _error.decode(refusal.error).code
    except msgspec.DecodeError:
        raise NotAnAnswer("holds an error that is not a JSON-RPC error object") from None

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
_NO_REQUEST = (None, UNSET, "server-error")


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


class Error(Struct):
    """A JSON-RPC error object, but for its `data`."""

    code: int
    message: str


_envelope = msgspec.json.Decoder(_Envelope)
_error = msgspec.json.Decoder(Error)


def request(method: str, params: Mapping[str, object], headers: Headers) -> Outgoing:
    """A request with a fresh id."""
    number = next(_ids)
    body = msgspec.json.encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
    return Outgoing(number, body, headers)


def notification(method: str, headers: Headers) -> Outgoing:
    """A notification without params; its id is not sent."""
    return Outgoing(0, msgspec.json.encode({"jsonrpc": "2.0", "method": method}), headers)


def read_answer(data: bytes, request_id: int) -> UpstreamAnswer | None:
    """The answer to our request, or None when the message is another one: a notification, or with another id.

    Raises NotAnAnswer.
    """
    envelope = _read(data)
    if envelope.method is not UNSET or type(envelope.id) is not int or envelope.id != request_id:
        return None
    return _outcome(envelope)


def read_rejection(data: bytes) -> UpstreamRefusal | None:
    """The error of a server that did not read the request, or None: such an error names no request.

    Its id is null (JSON-RPC 2.0, section 5), absent, or what the Python SDK writes instead. Raises NotAnAnswer.
    """
    envelope = _read(data)
    if envelope.method is not UNSET or envelope.error is UNSET or envelope.id not in _NO_REQUEST:
        return None
    outcome = _outcome(envelope)
    return outcome if isinstance(outcome, UpstreamRefusal) else None


def _read(data: bytes) -> _Envelope:
    try:
        _ = data.isascii() or data.decode()  # msgspec does not look at the encoding of what it leaves raw
        return _envelope.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise NotAnAnswer("is not a JSON-RPC message") from None
    except RecursionError:
        raise NotAnAnswer("is nested too deeply") from None


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
    return error_of(refusal).code


def error_of(refusal: UpstreamRefusal) -> Error:
    """What an upstream's error says. Raises NotAnAnswer when it is not an error object."""
    try:
        return _error.decode(refusal.error)
    except msgspec.DecodeError:
        raise NotAnAnswer("holds an error that is not a JSON-RPC error object") from None

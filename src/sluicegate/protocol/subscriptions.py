"""`subscriptions/listen` on the wire: the request's filter, and the messages of the stream that answers it.

Each message names the request by its id, byte for byte, in `_meta`. Source: specification 2026-07-28, subscriptions.
"""

from msgspec import Raw, Struct

from sluicegate.protocol.jsonrpc import META_PREFIX, Code, ProtocolError, Request, members, result_body

METHOD = "subscriptions/listen"
SUBSCRIPTION_ID = META_PREFIX + "subscriptionId"

FILTER = frozenset({"toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions"})
_FLAG = {b"true": True, b"false": False, b"null": False}


class Subscription(Struct, frozen=True, gc=False):
    """One request to listen: its id as JSON, and which of the wanted notifications the gateway will send."""

    id: bytes
    tools_list_changed: bool


def subscription(request_id: bytes, request: Request) -> Subscription:
    """What the request subscribes to, as far as we have it; the rest is left out. Raises ProtocolError."""
    if "notifications" not in request.params:
        raise ProtocolError(Code.INVALID_PARAMS, "`notifications` is missing")
    wanted = members(request.params["notifications"], FILTER, "notifications")
    flag = _FLAG.get(bytes(wanted.get("toolsListChanged", Raw(b"false"))))
    if flag is None:
        raise ProtocolError(Code.INVALID_PARAMS, "`notifications.toolsListChanged` must be true or false")
    return Subscription(request_id, flag)


def acknowledged(subscription: Subscription) -> bytes:
    """The first message: what of the wanted notifications will come."""
    honoured = b'{"toolsListChanged":true}' if subscription.tools_list_changed else b"{}"
    return _notification(b"subscriptions/acknowledged", subscription, b'"notifications":%b,' % honoured)


def tools_list_changed(subscription: Subscription) -> bytes:
    """The news that `tools/list` may answer something else than before."""
    return _notification(b"tools/list_changed", subscription)


def closed(subscription: Subscription) -> bytes:
    """The response to the request: the stream ends because the server does, and may be opened again."""
    return result_body(subscription.id, b'{"resultType":"complete",%b}' % _meta(subscription))


def _notification(method: bytes, subscription: Subscription, params: bytes = b"") -> bytes:
    message = b'{"jsonrpc":"2.0","method":"notifications/%b","params":{%b%b}}'
    return message % (method, params, _meta(subscription))


def _meta(subscription: Subscription) -> bytes:
    return b'"_meta":{"%b":%b}' % (SUBSCRIPTION_ID.encode(), subscription.id)

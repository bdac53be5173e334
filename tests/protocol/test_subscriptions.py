"""The messages of `subscriptions/listen`, as the official SDK's types read them."""

import json

import pytest
from mcp_types import SubscriptionsAcknowledgedNotification, SubscriptionsListenResult, ToolListChangedNotification

from sluicegate.protocol import jsonrpc, subscriptions
from sluicegate.protocol.jsonrpc import Code, ProtocolError
from sluicegate.protocol.subscriptions import SUBSCRIPTION_ID, Subscription, subscription

TOOLS = Subscription(b'"a-1"', tools_list_changed=True)
NOTHING = Subscription(b"7", tools_list_changed=False)


def asked(notifications: str) -> Subscription:
    return listening('{"notifications":' + notifications + "}")


def listening(params: str) -> Subscription:
    body = '{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":' + params + "}"
    return subscription(b"7", jsonrpc.parse(body.encode()))


@pytest.mark.parametrize(
    ("notifications", "tools"),
    [
        ('{"toolsListChanged":true}', True),
        ('{"toolsListChanged": true , "promptsListChanged":true,"resourceSubscriptions":["a://b"]}', True),
        ('{"toolsListChanged":false}', False),
        ('{"toolsListChanged":null}', False),
        ('{"promptsListChanged":true,"future":{"x":1}}', False),
        ("{}", False),
    ],
)
def test_only_what_the_gateway_can_tell_is_honoured(notifications, tools):
    assert asked(notifications) == Subscription(b"7", tools)


@pytest.mark.parametrize(
    "notifications",
    ["[]", "null", "7", '{"toolsListChanged":1}', '{"toolsListChanged":"true"}', '{"toolsListChanged":{}}'],
)
def test_a_filter_that_is_none_is_invalid_params(notifications):
    with pytest.raises(ProtocolError) as refused:
        asked(notifications)
    assert refused.value.code == Code.INVALID_PARAMS


@pytest.mark.parametrize(
    "notifications", ['{"toolsListChanged":true,"toolsListChanged":false}', '{"toolslistchanged":true}']
)
def test_a_filter_that_two_parsers_could_read_in_two_ways_is_refused(notifications):
    with pytest.raises(ProtocolError):
        asked(notifications)


@pytest.mark.parametrize("params", ["{}", '{"Notifications":{}}'])
def test_a_request_without_a_filter_is_refused(params):
    with pytest.raises(ProtocolError):
        listening(params)


def test_the_sdk_reads_the_acknowledgement_and_what_it_honours():
    first = SubscriptionsAcknowledgedNotification.model_validate_json(subscriptions.acknowledged(TOOLS))
    assert first.params.notifications.tools_list_changed is True
    content = json.loads(subscriptions.acknowledged(NOTHING))
    assert content["params"] == {"notifications": {}, "_meta": {SUBSCRIPTION_ID: 7}}


def test_the_sdk_reads_the_news_and_the_end():
    ToolListChangedNotification.model_validate_json(subscriptions.tools_list_changed(TOOLS))
    end = json.loads(subscriptions.closed(TOOLS))
    assert end["id"] == "a-1"
    SubscriptionsListenResult.model_validate(end["result"])


@pytest.mark.parametrize("request_id", [b"7", b'"a\\n\\u00e9"', b"1.50e1", b"-0", b'""'])
def test_every_message_repeats_the_id_byte_for_byte(request_id):
    about = Subscription(request_id, tools_list_changed=True)
    tag = b'"_meta":{"io.modelcontextprotocol/subscriptionId":%b}' % request_id
    for message in (subscriptions.acknowledged, subscriptions.tools_list_changed, subscriptions.closed):
        assert tag in message(about)
    assert subscriptions.closed(about).startswith(b'{"jsonrpc":"2.0","id":%b,"result":' % request_id)

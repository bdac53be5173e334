"""What is judged is what is sent on: nothing ambiguous gets past the envelope."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from sluicegate.protocol.jsonrpc import (
    PARAMS,
    Code,
    ProtocolError,
    error_body,
    error_object,
    members,
    parse,
    result_body,
)

CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":%s}}'


def refused(body: bytes | str) -> ProtocolError:
    with pytest.raises(ProtocolError) as error:
        parse(body.encode() if isinstance(body, str) else body)
    return error.value


def test_a_request_is_read_one_level_deep_and_its_values_stay_bytes():
    request = parse(b'{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"a","arguments":{"b" :1.0e0}}}')
    assert (request.id, request.method) == (b'"x"', "tools/call")
    assert bytes(request.params["arguments"]) == b'{"b" :1.0e0}'


@pytest.mark.parametrize("request_id", ['"a"', "0", "-7", "12345678901234567890123", '"\\u00e9"', "1.5"])
def test_an_id_is_echoed_as_it_was_written(request_id):
    request = parse(f'{{"jsonrpc":"2.0","id":{request_id},"method":"ping"}}'.encode())
    assert request.id is not None
    assert result_body(request.id, b"{}") == b'{"jsonrpc":"2.0","id":%b,"result":{}}' % request_id.encode()


@pytest.mark.parametrize("request_id", ["null", "true", "[]", "{}", '"' + "x" * 300 + '"'])
def test_an_id_that_is_no_string_or_number_is_refused(request_id):
    assert refused(f'{{"jsonrpc":"2.0","id":{request_id},"method":"ping"}}').code is Code.INVALID_REQUEST


def test_a_message_without_id_is_a_notification():
    assert parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xef\xbb\xbf{}",
        b'{"jsonrpc":"2.0","id":1,"method":"ping"} x',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"p\xed\xa0\x80"}',
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\\ud800"}}',
        (CALL % ("[" * 50_000 + "]" * 50_000)).encode(),
        (CALL % ('{"a":' * 50_000 + "1" + "}" * 50_000)).encode(),
    ],
    ids=range(11),
)
def test_what_is_not_json_is_a_parse_error(body):
    assert refused(body).code is Code.PARSE_ERROR


@pytest.mark.parametrize("body", ['"x"', "1", "null", "[]", '[{"jsonrpc":"2.0","id":1,"method":"ping"}]'])
def test_what_is_not_one_object_is_an_invalid_request(body):
    assert refused(body).code is Code.INVALID_REQUEST


def test_a_batch_is_refused_by_that_word():
    assert "batch" in str(refused(' [{"jsonrpc":"2.0","id":1,"method":"ping"}]'))


@pytest.mark.parametrize(
    "body",
    [
        '{"id":1,"method":"ping"}',
        '{"jsonrpc":"1.0","id":1,"method":"ping"}',
        '{"jsonrpc":2.0,"id":1,"method":"ping"}',
        '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":1,"result":{}}',
        '{"jsonrpc":"2.0","id":1,"method":7}',
    ],
)
def test_an_envelope_that_is_no_request_is_refused_with_its_id(body):
    error = refused(body)
    assert (error.code, error.id, error.status) == (Code.INVALID_REQUEST, b"1", 400)


@pytest.mark.parametrize("params", ["[]", "1", '"x"', "null"])
def test_params_must_be_an_object(params):
    assert refused(f'{{"jsonrpc":"2.0","id":1,"method":"ping","params":{params}}}').code is Code.INVALID_PARAMS


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","meth\\u006fd":"tools/call"}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"ok","name":"evil"}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{ "name" : "ok" , "n\\u0061me" : "evil"}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"a":1,"a":2}}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"a"},"params":{"name":"b"}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":1, "x":[]}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"x":1 ,"x":[11]}}',
    ],
)
def test_duplicate_keys_are_refused_at_every_level_that_decides(body):
    assert "duplicate" in str(refused(body))


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","PARAMS":{}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"ok","Name":"evil"}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"name":"ok","argument\u017f":{}}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"_META":{}}}',
        '{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"IO.modelcontextprotocol/protocolVersion":"x"}}}',
    ],
)
def test_keys_that_differ_from_a_known_one_in_case_only_are_refused(body):
    assert "case" in str(refused(body))


def test_unknown_keys_are_let_through_to_the_upstream():
    request = parse(b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"task":{"ttl":1},"future":[1]}}')
    assert bytes(request.params["future"]) == b"[1]"


def test_white_space_costs_nothing_but_time():
    assert parse(b' { "jsonrpc" : "2.0" ,\n"id":1, "method":"ping", "params" : { "x" : 99999999999999999999999 } } ').id


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_any_object_without_doubt_is_read_as_python_reads_it(value, ascii_only, indent):
    content = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        content.encode()
        found = members(Raw(content.encode()), PARAMS, "params")
    except (UnicodeEncodeError, ProtocolError):
        folded = [key.casefold() for key in value]
        lone = any("\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False))
        escaped = any(json.dumps(key) != f'"{key}"' for key in value)
        assert lone or escaped or any(name.casefold() in folded for name in PARAMS)
        return
    assert {key: json.loads(bytes(raw)) for key, raw in found.items()} == value


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_a_protocol_error(body):
    try:
        parse(body)
    except ProtocolError:
        return


def test_an_error_without_a_known_id_has_a_null_id():
    content = json.loads(error_body(None, error_object(Code.PARSE_ERROR, "x", {"y": 1})))
    assert content == {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "x", "data": {"y": 1}}}

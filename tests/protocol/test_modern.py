"""The modern era's per-request checks, with the official SDK's rules as the oracle where it has them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import InboundModernRoute, classify_inbound_request, decode_header_value, encode_header_value

from sluicegate.protocol import modern
from sluicegate.protocol.jsonrpc import Code, ProtocolError, parse
from sluicegate.protocol.modern import MirrorHeaders

META = {modern.PROTOCOL_VERSION: modern.VERSION, modern.CLIENT_CAPABILITIES: {}}


def message(method="tools/call", meta=META, **params):
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def headers(version=modern.VERSION, method="tools/call", name="echo"):
    return {"mcp-protocol-version": version, "mcp-method": method, "mcp-name": name}


def code_of(body, given_headers):
    mirrored = ([given_headers[key]] if given_headers.get(key) is not None else [] for key in headers())
    try:
        modern.check(parse(json.dumps(body).encode()), MirrorHeaders(*mirrored))
    except ProtocolError as error:
        return error.code
    return None


def sdk_code_of(body, given_headers):
    outcome = classify_inbound_request(body, headers={k: v for k, v in given_headers.items() if v is not None})
    return None if isinstance(outcome, InboundModernRoute) else outcome.code


cases = [
    (message(name="echo"), headers()),
    (message(name="echo"), headers(name="other")),
    (message(name="echo"), headers(name="Echo")),
    (message(name="echo"), headers(name=None)),
    (message(name="echo"), headers(method="tools/list")),
    (message(name="echo"), headers(method=None)),
    (message(name="echo"), headers(version="2025-11-25")),
    (message(name="echo"), headers(version=None)),
    (message(name="echo", meta={modern.PROTOCOL_VERSION: modern.VERSION}), headers()),
    (message(name="echo", meta={modern.CLIENT_CAPABILITIES: {}}), headers()),
    (message(name="echo", meta={**META, modern.PROTOCOL_VERSION: "2099-01-01"}), headers(version="2099-01-01")),
    (message(name="echo", meta={**META, modern.PROTOCOL_VERSION: "2099-01-01"}), headers()),
    (message(name="höhe"), headers(name="=?base64?aMO2aGU=?=")),
    (message(name="höhe"), headers(name="=?base64?aMO2aGV=?=")),
    (message(name="x"), headers(name="=?BASE64?eA==?=")),
    (message("tools/list"), headers(method="tools/list", name=None)),
    (message("server/discover"), headers(method="server/discover", name=None)),
]


@pytest.mark.parametrize(("body", "given_headers"), cases, ids=range(len(cases)))
def test_we_accept_and_refuse_as_the_official_sdk_does(body, given_headers):
    assert code_of(body, given_headers) == sdk_code_of(body, given_headers)


def test_an_unknown_version_is_answered_with_those_we_speak():
    body = message(name="echo", meta={**META, modern.PROTOCOL_VERSION: "2099-01-01"})
    with pytest.raises(ProtocolError) as refused:
        modern.check(parse(json.dumps(body).encode()), MirrorHeaders(["2099-01-01"], ["tools/call"], ["echo"]))
    assert refused.value.code is Code.UNSUPPORTED_PROTOCOL_VERSION
    assert refused.value.data == {"supported": ["2026-07-28"], "requested": "2099-01-01"}


def test_a_header_given_twice_is_refused():
    request = parse(json.dumps(message(name="echo")).encode())
    with pytest.raises(ProtocolError) as refused:
        modern.check(request, MirrorHeaders([modern.VERSION], ["tools/call"], ["echo", "echo"]))
    assert refused.value.code is Code.HEADER_MISMATCH


@pytest.mark.parametrize(
    ("method", "meta", "version_header", "is_modern"),
    [
        ("tools/call", META, [modern.VERSION], True),
        ("tools/call", META, [], True),
        ("tools/call", {}, [modern.VERSION], True),
        ("tools/call", {}, ["2099-01-01"], True),
        ("tools/call", {}, ["2025-06-18"], False),
        ("tools/call", {}, [], False),
        ("initialize", {}, [], False),
        ("initialize", {}, [modern.VERSION], False),
    ],
)
def test_the_era_follows_from_the_body_and_then_from_the_version_header(method, meta, version_header, is_modern):
    assert modern.speaks_modern(parse(json.dumps(message(method, meta)).encode()), version_header) is is_modern


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_header_values_are_decoded_as_the_sdk_encodes_them(value):
    assert modern.decoded_header(encode_header_value(value)) == value


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12).map("=?base64?{}?=".format))
def test_odd_sentinels_are_read_as_the_sdk_reads_them(value):
    assert modern.decoded_header(value) == decode_header_value(value)


@pytest.mark.parametrize(
    ("given_result", "expected"),
    [
        (b'{"content":[]}', b'{"resultType":"complete","content":[]}'),
        (b"{}", b'{"resultType":"complete"}'),
        (b' { "a" : 1 } ', b'{"resultType":"complete","a" : 1 } '),
        (b'{"resultType":"input_required"}', b'{"resultType":"input_required"}'),
        (b'{"a":1,"resultType":"task"}', b'{"a":1,"resultType":"task"}'),
    ],
)
def test_a_result_without_a_type_is_marked_complete_and_otherwise_untouched(given_result, expected):
    assert modern.completed(given_result) == expected


def test_only_a_result_that_is_not_complete_wants_input():
    assert modern.wants_input(b'{"resultType":"input_required"}')
    assert not modern.wants_input(b'{"resultType":"complete"}')
    assert not modern.wants_input(b'{"content":[{"text":"\\"resultType\\""}]}')

"""A tool's description goes through unchanged but for its name."""

import json

import pytest

from sluicegate.protocol.tools import check_public_length, list_result, rendered, split_definition

RICH = (
    b'{"name":"a","title":"\xc3\xa9","inputSchema":{"type":"object","$defs":{"x":{"const":12345678901234567890123}},'
    b'"properties":{"p":{"$ref":"#/$defs/x"}},"if":{}},"_meta":{"k":[1.50,null]},"future":{"a" : 1}}'
)


def test_everything_but_the_name_stays_byte_for_byte():
    name, rest = split_definition(RICH)
    assert (name, rendered("u__a", rest)) == ("a", RICH.replace(b'"name":"a"', b'"name":"u__a"'))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"[]", "not an object"),
        (b'{"inputSchema":{}}', "without a name"),
        (b'{"name":7,"inputSchema":{}}', "string as its name"),
        (b'{"name":"a b","inputSchema":{}}', "1 to 128"),
        (b'{"name":"","inputSchema":{}}', "1 to 128"),
        (b'{"name":"' + b"x" * 129 + b'","inputSchema":{}}', "1 to 128"),
        (b'{"name":"a"}', "inputSchema"),
        (b'{"name":"a","inputSchema":[]}', "inputSchema"),
    ],
)
def test_an_odd_tool_is_named_with_what_is_odd(raw, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_definition(raw)


def test_a_name_that_gets_too_long_with_its_slug_is_odd():
    check_public_length("a", "x" * 125)
    with pytest.raises(ValueError, match="128"):
        check_public_length("a", "x" * 126)


@pytest.mark.parametrize("modern", [True, False])
def test_a_list_carries_hints_against_sharing_in_the_modern_era_only(modern):
    content = json.loads(list_result([b'{"name":"a"}', b'{"name":"b"}'], "next", modern))
    assert [tool["name"] for tool in content["tools"]] == ["a", "b"]
    assert content["nextCursor"] == "next"
    assert (content.get("ttlMs"), content.get("cacheScope"), content.get("resultType")) == (
        (0, "private", "complete") if modern else (None, None, None)
    )


def test_the_last_page_has_no_cursor():
    assert "nextCursor" not in json.loads(list_result([], None, False))

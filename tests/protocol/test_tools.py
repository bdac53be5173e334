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


def tool(**members: object) -> bytes:
    return json.dumps({"name": "a", "inputSchema": {"type": "object"}, **members}).encode()


def schema(**members: object) -> dict[str, object]:
    return {"type": "object", **members}


LEGAL = {
    "every field": tool(
        title="T",
        description="",
        outputSchema=schema(properties={"x": {}}, required=[]),
        annotations={"title": "t", "readOnlyHint": True, "openWorldHint": False, "later": None},
        icons=[{"src": "data:,", "mimeType": "image/png", "sizes": ["any"], "theme": "dark", "later": 1}],
        execution={"taskSupport": "optional"},
        _meta={"x": None},
    ),
    "any keyword": tool(
        inputSchema=schema(
            **{
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "$ref": "#/$defs/a",
                "$defs": {"a": True},
                "if": True,
                "then": {"not": False},
                "additionalProperties": False,
                "properties": {"a": {"type": ["string", "null"], "default": None}, "A": {}},
                "x-mine": [None],
            }
        )
    ),
    "fields of tomorrow": tool(later=None, meta={}, cost={"name": 5, "Name": 6}),
    "brackets and digits in strings": tool(description='\\"[' * 300 + "9" * 5000, title="\\" + "{" * 300),
    "as deep as may be": tool(inputSchema=schema(x=json.loads("[" * 98 + "]" * 98))),
    "as long a number as may be": tool(inputSchema=schema(maximum=int("9" * 4000))),
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_the_specification_allows_passes(name):
    _, rest = split_definition(LEGAL[name])
    assert json.loads(rendered("a", rest)) == json.loads(LEGAL[name])


ILL_TYPED: dict[str, tuple[object, ...]] = {
    "title": (5, None),
    "description": (5, None),
    "inputSchema": (
        {},
        "x",
        None,
        {"type": "array"},
        {"type": ["object"]},
        schema(properties=[]),
        schema(properties=None),
        schema(properties={"a": True}),
        schema(properties={"a": 5}),
        schema(required="a"),
        schema(required=[1]),
        schema(**{"$schema": 5}),
    ),
    "outputSchema": ("x", None, {}, {"type": "array"}, schema(required=None)),
    "annotations": (
        "x",
        None,
        {"readOnlyHint": "maybe"},
        {"destructiveHint": None},
        {"title": 5},
        {"read_only_hint": "x"},
    ),
    "icons": ("x", None, {}, ["x"], [{}], [{"src": 5}], [{"src": "x", "theme": "pink"}], [{"src": "x", "sizes": "9"}]),
    "execution": (5, None, {"taskSupport": "maybe"}, {"task_support": "maybe"}),
    "_meta": ("x", None, []),
    "meta": ("x",),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ILL_TYPED.items() for value in values])
def test_a_tool_that_would_break_a_clients_list_is_named_with_the_place(key, value):
    with pytest.raises(ValueError, match=rf"^tool `a`: .*{key}"):
        split_definition(tool(**{key: value}))


@pytest.mark.parametrize("twin", ["Name", "NAME", "na_me", "InputSchema", "input_schema", "Title", "_META", "Meta"])
def test_a_member_that_a_client_may_take_for_another_is_odd(twin):
    with pytest.raises(ValueError, match=f"tool `a`: `{twin}` may be taken for"):
        split_definition(tool(**{twin: {}}))


@pytest.mark.parametrize("again", ["name", "inputSchema", "later"])
def test_a_member_that_comes_twice_is_odd(again):
    both = tool(later={})[:-1] + b',"%b":{"type":"object"}}' % again.encode()
    with pytest.raises(ValueError, match=r"twice|string as its name"):
        split_definition(both)


def test_a_name_that_comes_twice_is_odd():
    with pytest.raises(ValueError, match="tool `b`: it has `name` twice"):
        split_definition(tool()[:-1] + b',"name":"b"}')


@pytest.mark.parametrize("depth", [99, 250, 900, 100_000])
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"x":', b"}")])
def test_a_tool_that_is_nested_too_deeply_for_clients_is_odd(depth, pair):
    inner = pair[0] * depth + b"1" + pair[1] * depth
    with pytest.raises(ValueError, match="nested more than 100 deep"):
        split_definition(b'{"name":"a","inputSchema":{"type":"object","x":%b}}' % inner)


def test_a_number_that_is_too_long_for_clients_is_odd():
    with pytest.raises(ValueError, match="tool `a`: a number has more than 4000 digits"):
        split_definition(b'{"name":"a","inputSchema":{"type":"object","maximum":-%b}}' % (b"9" * 4001))


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

"""Sealed texts are the texts, and cannot be sent or received."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sluicegate.core.definitions import sealed
from sluicegate.core.events import decode_change, encode_entity
from tests.support.world import CLOCK, tool

NOW = tool(CLOCK, "now")


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.text(), min_size=1))
def test_sealed_texts_come_back_as_they_were(texts: dict[str, str]) -> None:
    together = sealed(texts.items())
    assert {name: together.text(name) for name in texts} == texts
    assert {name: together.hash_of(name) for name in texts} == {name: hash(text) for name, text in texts.items()}


def test_many_texts_that_are_alike_take_little_room_together() -> None:
    texts = {f"tool_{number}": tool(CLOCK, f"tool_{number}").described for number in range(100)}
    assert len(sealed(texts.items()).block) < sum(map(len, texts.values())) / 5


def test_a_sealed_tool_is_described_as_before() -> None:
    together = sealed((each.name, each.described) for each in (NOW, tool(CLOCK, "sleep")))
    assert replace(NOW, definition=together).described == NOW.described


def test_a_sealed_tool_cannot_be_written_to_the_log() -> None:
    with pytest.raises(TypeError):
        encode_entity(replace(NOW, definition=sealed([("now", "{}")])))


@pytest.mark.parametrize("hashes", ["[1]", '"AAAAAAAAAAA="', "1"])
def test_no_payload_is_taken_for_a_sealed_definition(hashes: str) -> None:
    seal = f'{{"names":["now"],"hashes":{hashes},"block":""}}'.encode()
    payload = encode_entity(NOW).replace(msgspec.json.encode(NOW.definition), seal)
    assert seal in payload
    with pytest.raises(ValueError, match="definition"):
        decode_change(1, "tool", NOW.id, payload)

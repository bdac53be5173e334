"""The event parser: the standard's rules, bounds, and that cuts between chunks never matter."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluicegate.protocol.sse import COMMENT, LINE_COST, EventTooLarge, SseEvent, SseParser, encoded

LIMIT = 10_000


def parse(*chunks: bytes, limit: int = LIMIT) -> list[SseEvent]:
    parser = SseParser(limit)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def message(data: bytes) -> SseEvent:
    return SseEvent("message", data)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_of_the_standard_ends_a_line(end: bytes) -> None:
    assert parse(end.join([b"event: x", b"data: 1", b"", b"data: 2", b"", b""])) == [SseEvent("x", b"1"), message(b"2")]


def test_the_lines_of_data_are_joined_by_a_line_feed() -> None:
    assert parse(b"data: a\ndata:b\ndata\ndata:  c\n\n") == [message(b"a\nb\n\n c")]


def test_comments_unknown_fields_and_events_without_data_give_nothing() -> None:
    assert parse(b": ping\n\nid: 7\nretry: 10\n\nevent: only\n\nfoo: bar\ndata: x\n\n") == [message(b"x")]


def test_a_byte_order_mark_at_the_start_is_dropped_and_only_there() -> None:
    mark = b"\xef\xbb\xbf"
    assert parse(mark + b"data: a\n\n" + mark + b"data: b\n\ndata: c\n\n") == [message(b"a"), message(b"c")]


def test_an_event_that_the_stream_ends_in_is_dropped() -> None:
    assert parse(b"data: whole\n\ndata: half\n") == [message(b"whole")]


def test_a_carriage_return_and_a_line_feed_in_two_chunks_are_one_line_end() -> None:
    assert parse(b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n") == [message(b"a\nb")]


def test_the_type_of_one_event_is_not_that_of_the_next() -> None:
    assert parse(b"event: x\n\ndata: a\n\n") == [message(b"a")]


def test_an_endless_line_is_refused_once_it_passes_the_limit() -> None:
    parser = SseParser(LIMIT)
    parser.feed(b"data: " + b"x" * (LIMIT - 6))
    with pytest.raises(EventTooLarge):
        parser.feed(b"x")


def test_an_endless_event_of_short_lines_is_refused_too() -> None:
    with pytest.raises(EventTooLarge):
        parse(*[b"data:\n"] * (LIMIT + 1))


@pytest.mark.parametrize("line", [b"\n", b"\r", b":\n", b"id:\n", b"data:\n"])
def test_lines_without_end_are_refused_long_before_their_bytes_reach_the_limit(line: bytes) -> None:
    most = LIMIT // LINE_COST
    parse(*[line] * most)
    with pytest.raises(EventTooLarge):
        parse(*[line] * (most + 1))


def test_the_limit_of_bytes_is_for_one_event_and_not_for_the_stream() -> None:
    assert len(parse(*[b"data: " + b"x" * (LIMIT // 2) + b"\n\n"] * 10)) == 10


pieces = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data:",
        b"data: ",
        b"event: e",
        b": c",
        b"id: 1",
        b"\xef\xbb\xbf",
        "é€😀".encode(),
        b"x",
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join), st.lists(st.integers(0, 200), max_size=20))
def test_any_cuts_give_the_same_events(stream: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert parse(*(stream[a:b] for a, b in pairwise(at))) == parse(stream)


@given(st.lists(pieces, max_size=40).map(b"".join))
def test_the_events_are_those_of_a_plain_reading_of_the_whole_stream(stream: bytes) -> None:
    lines = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    expected: list[SseEvent] = []
    data: list[bytes] = []
    kind = ""
    for line in lines:
        if line == b"":
            if data:
                expected.append(SseEvent(kind or "message", b"\n".join(data)))
            data, kind = [], ""
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            kind = line[6:].removeprefix(b" ").decode()
    assert parse(stream) == expected


def test_what_is_encoded_is_parsed_again_and_a_comment_says_nothing():
    message = b'{"jsonrpc":"2.0","id":1,"result":{}}'
    parser = SseParser(1024)
    assert parser.feed(COMMENT + encoded(message) + COMMENT) == [SseEvent("message", message)]

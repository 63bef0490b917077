"""The event-stream decoder: any split of the bytes gives the same events."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from corral.wire import ServerSentEvent, SseDecoder, read_event

RECORDED = (Path(__file__).parent / "replies" / "b11434-events.txt").read_bytes()


def decode(pieces: list[bytes], limit: int = 1 << 20) -> list[ServerSentEvent]:
    """Feed the pieces one after another."""
    decoder = SseDecoder(limit)
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_recorded_stream_byte_by_byte() -> None:
    """A recorded stream gives the same events whole and one byte at a time."""
    whole = decode([RECORDED])

    assert whole == decode([bytes([byte]) for byte in RECORDED])
    assert all(read_event(event.data) is not None for event in whole)
    assert len(whole) > 4


def test_line_ends_and_fields() -> None:
    """CR, LF and CRLF end a line; several data lines join; comments, ids and retries are passed over."""
    stream = b": hello\r\nevent: a\rdata: one\ndata:two\r\nid: 7\nretry: 1\n\r\ndata\n\ndata:  x\n\n"

    assert decode([stream]) == [
        ServerSentEvent("a", "one\ntwo"),
        ServerSentEvent("message", ""),
        ServerSentEvent("message", " x"),
    ]


def test_blank_lines_give_nothing() -> None:
    """An event without data is none, however many blank lines follow."""
    assert decode([b"\n\n\nid: 1\n\n\n\n: ping\n\n"]) == []


def test_unfinished_event_is_not_given() -> None:
    """What has no blank line after it yet stays inside."""
    assert decode([b"data: cut", b" short\n"]) == []


def test_byte_order_mark_is_passed_over() -> None:
    """A byte order mark at the start does not hide the first field."""
    assert decode([b"\xef\xbb\xbfdata: x\n\n"]) == [ServerSentEvent("message", "x")]


def test_too_large_event_is_dropped_whole() -> None:
    """An event over the limit is dropped and counted, and the next one is read."""
    decoder = SseDecoder(limit=20)
    events = decoder.feed(b"data: " + b"x" * 50 + b"\ndata: y\n\n" + b"data: fine\n\n")

    assert events == [ServerSentEvent("message", "fine")]
    assert decoder.dropped == 1


def test_endless_line_stays_small() -> None:
    """A line without end does not fill the memory."""
    decoder = SseDecoder(limit=1000)
    for _ in range(1000):
        assert decoder.feed(b"x" * 1000) == []

    assert decoder.buffered_bytes <= 1000


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_any_split_of_any_bytes(data: bytes, cuts: list[int]) -> None:
    """Junk never raises, and where it is cut makes no difference."""
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(edges)]

    assert decode(pieces) == decode([data])


@given(st.lists(st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"])), min_size=1))
def test_what_is_sent_is_what_is_read(lines: list[str]) -> None:
    """Data lines come out as they went in."""
    stream = "".join(f"data: {line}\n" for line in lines).encode() + b"\n"

    assert [event.data for event in decode([stream])] == ["\n".join(lines)]


@given(st.text())
def test_junk_data_is_no_event(text: str) -> None:
    """The data of an event may be anything; reading it never raises."""
    event = read_event(text)

    assert event is None or isinstance(event.kind, str)

"""A decoder for server-sent events that is fed bytes.

``feed(data)`` returns the events that are complete; what is incomplete stays inside, up to a stated size.
Any split of the bytes gives the same events. An event larger than the limit is dropped whole and counted.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from __future__ import annotations

from corral.wire.record import Record

MAX_EVENT_BYTES = 1 << 20


class ServerSentEvent(Record):
    """One event as it was on the wire."""

    name: str
    """The ``event`` field; ``message`` when the stream has none (llama-server never sends one)."""
    data: str


class SseDecoder:
    """Turns bytes into events; CR, LF and CRLF end a line, wherever the bytes are cut."""

    __slots__ = ("_data", "_limit", "_line", "_name", "_size", "_skip_lf", "_started", "_too_large", "dropped")

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._line = bytearray()
        self._data: list[bytes] = []
        self._name = b""
        self._size = 0
        self._skip_lf = False
        self._started = False
        self._too_large = False
        self.dropped = 0
        """How many events were larger than the limit."""

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished event is held."""
        return len(self._line) + sum(map(len, self._data))

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take more bytes; return the events that they complete."""
        events: list[ServerSentEvent] = []
        if self._skip_lf and data:
            self._skip_lf = False
            if data[:1] == b"\n":
                data = data[1:]
        start = 0
        while True:
            end = _find_line_end(data, start)
            if end < 0:
                break
            self._keep(data[start:end])
            self._end_line(events)
            start = end + 1
            if data[end] == 0x0D:
                if start == len(data):
                    self._skip_lf = True
                elif data[start] == 0x0A:
                    start += 1
        self._keep(data[start:])
        return events

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self._too_large = True
            # One kept byte still tells a line with text from the blank line that ends the event.
            piece = b"" if self._line else piece[:1]
            self._data.clear()
        self._line += piece

    def _end_line(self, events: list[ServerSentEvent]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line:
            self._take_field(line)
            return
        if self._too_large:
            self.dropped += 1
        elif self._data:
            name = self._name.decode("utf-8", "replace") or "message"
            events.append(ServerSentEvent(name, b"\n".join(self._data).decode("utf-8", "replace")))
        self._data.clear()
        self._name = b""
        self._size = 0
        self._too_large = False

    def _take_field(self, line: bytes) -> None:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data" and not self._too_large:
            self._data.append(value)
        elif field == b"event":
            self._name = value


def _find_line_end(data: bytes, start: int) -> int:
    lf, cr = data.find(b"\n", start), data.find(b"\r", start)
    return lf if cr < 0 else cr if lf < 0 else min(lf, cr)

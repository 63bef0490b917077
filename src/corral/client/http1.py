"""HTTP/1.1 as the blocking client needs it: the bytes of one request, and one reply, read as it comes.

Python's ``http.client`` can do this and far more, but it imports ``email`` and ``ssl``, for which every short command
would wait (``docs/dependencies.md``). What is meant here by HTTP is 1.1 and 1.0.

Source: RFC 9112.
"""

from __future__ import annotations

from corral.wire import excerpt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LINE_BYTES = 1 << 16
_MAX_FIELDS = 100
_RECEIVE_BYTES = 1 << 16
_HEX = frozenset(b"0123456789abcdefABCDEF")
_LISTS = frozenset({"connection", "content-length", "transfer-encoding"})
"""Headers of which each counts, when they come more than once; of all others the last does."""


class NotHttpError(ValueError):
    """What came is no HTTP at all; the text is what came instead."""


class BadReplyError(ValueError):
    """It began as HTTP, and then was none; the text says what is wrong."""


def build_request(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """A whole request, ready to be sent.

    ``path`` is what stands in the request line, already percent-encoded. Raises ValueError where a value would end its
    line or cannot be written.
    """
    fields = {**headers, "Accept-Encoding": "identity"}
    if body is not None or method not in ("GET", "CONNECT"):
        fields["Content-Length"] = str(len(body or b""))
    if not (path.isascii() and path.isprintable()) or " " in path:
        raise ValueError(f"the path holds what a request line cannot carry: {path!a}")
    for name, value in fields.items():
        if not value.isprintable():
            raise ValueError(f"the header {name} holds what no header can carry")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


class Response:
    """One reply: the head, and the body piece by piece."""

    def __init__(self, receive: Callable[[int], bytes], *, has_body: bool = True) -> None:
        """Read the head; ``receive`` gives at most so many bytes as soon as there are some, and none at the end.

        ``has_body`` is False for the reply to a CONNECT, whose head is all of it. Raises NotHttpError, BadReplyError,
        ConnectionResetError when it was cut, and what ``receive`` raises; so does ``read``.
        """
        self._receive = receive
        self._buffer, self._at = b"", 0
        self._has_begun = False
        while True:
            self.status, self.reason, is_persistent = self._read_status()
            self.headers: dict[str, str] = self._read_fields()
            """By lower-case name."""
            if not 100 <= self.status < 200 or self.status == 101:
                break
        self._is_chunked, self._left = self._find_framing() if has_body else (False, 0)
        self._is_first_chunk = True
        tokens = [token.strip() for token in self.headers.get("connection", "").lower().split(",")]
        is_kept = "close" not in tokens and (is_persistent or "keep-alive" in tokens)
        self._may_be_kept = is_kept and self.status != 101 and (self._is_chunked or self._left is not None)

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can carry another request once the body was read: nothing else came behind it."""
        is_over = not self._is_chunked and self._left == 0 and self._at == len(self._buffer)
        return self._may_be_kept and is_over

    def read(self, limit: int = _RECEIVE_BYTES) -> bytes:
        """At most so many bytes of the body, as soon as there are some; none at its end."""
        if self._is_chunked and self._left == 0:
            self._begin_chunk()
        if self._left == 0:
            return b""
        size = limit if self._left is None else min(limit, self._left)
        if self._at < len(self._buffer):
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
        else:
            piece = self._receive(size)
        if self._left is not None:
            if not piece:
                raise ConnectionResetError(f"the answer was cut: {self._left} bytes are missing")
            self._left -= len(piece)
        elif not piece:
            self._left = 0
        return piece

    def _begin_chunk(self) -> None:
        """Read the size of the next chunk; of the last, also what comes behind it."""
        if not self._is_first_chunk and self._read_line() != b"":
            raise BadReplyError("a chunk is longer than it said")
        self._is_first_chunk = False
        line = self._read_line()
        size = line.partition(b";")[0].strip()
        if not size or len(size) > 16 or not _HEX.issuperset(size):
            raise BadReplyError(f"the size of a chunk is no number: {_show(line)}")
        self._left = int(size, 16)
        if self._left == 0:
            self._read_fields()
            self._is_chunked = False

    def _find_framing(self) -> tuple[bool, int | None]:
        """Whether the body comes in chunks, and how long it is; None until the connection ends."""
        if self.status < 200 or self.status in (204, 304):
            return False, 0
        coding = self.headers.get("transfer-encoding", "identity").lower()
        if coding == "chunked":
            return True, 0
        if coding != "identity":
            raise BadReplyError(f"an unknown Transfer-Encoding: {_show(coding.encode())}")
        lengths = {text.strip() for text in self.headers.get("content-length", "").split(",")}
        if lengths == {""}:
            return False, None
        length = lengths.pop()
        if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
            raise BadReplyError(f"Content-Length is no number: {_show(self.headers['content-length'].encode())}")
        return False, int(length)

    def _read_status(self) -> tuple[int, str, bool]:
        """Status, reason, and whether this version keeps connections open unless it says otherwise."""
        line = self._read_line(is_first=True)
        version, _, rest = line.partition(b" ")
        status, _, reason = rest.strip().partition(b" ")
        if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit() or status < b"100":
            raise NotHttpError(_show(line))
        return int(status), reason.strip().decode("latin-1"), version == b"HTTP/1.1"

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        name = ""
        for _ in range(_MAX_FIELDS + 1):
            line = self._read_line()
            if not line:
                return fields
            if line[:1] in b" \t" and name:
                # A folded line, which no server should send any more.
                fields[name] = f"{fields[name]} {line.strip().decode('latin-1')}".strip()
                continue
            title, colon, value = line.partition(b":")
            name = title.strip().decode("latin-1").lower()
            if not colon or not name:
                raise BadReplyError(f"a line is no header: {_show(line)}")
            text = value.strip().decode("latin-1")
            fields[name] = f"{fields[name]}, {text}" if name in _LISTS and name in fields else text
        raise BadReplyError(f"it has more than {_MAX_FIELDS} headers")

    def _read_line(self, *, is_first: bool = False) -> bytes:
        """One line without its end."""
        looked = self._at
        while (end := self._buffer.find(b"\n", looked)) < 0:
            self._buffer, self._at = self._buffer[self._at :], 0
            looked = len(self._buffer)
            if is_first and not (self._buffer.startswith(b"HTTP/") or b"HTTP/".startswith(self._buffer)):
                # Who speaks something else need never send the end of a line.
                raise NotHttpError(_show(self._buffer))
            if looked > _LINE_BYTES:
                raise BadReplyError(f"a line is longer than {_LINE_BYTES >> 10} KiB")
            piece = self._receive(_RECEIVE_BYTES)
            if not piece:
                raise ConnectionResetError("the answer was cut" if self._has_begun else _NO_ANSWER)
            self._has_begun = True
            self._buffer += piece
        line, self._at = self._buffer[self._at : end], end + 1
        return line.removesuffix(b"\r")


_NO_ANSWER = "the server closed it without an answer"


def _show(line: bytes) -> str:
    return excerpt(line) if line else "(an empty line)"

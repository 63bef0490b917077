"""The heads of messages as bytes: what passes between client and router, and what belongs to one connection only.

Names and values go on byte for byte and in order. Both sides are framed anew, so that a length or an encoding that
one end understands differently never reaches the other.
"""

from __future__ import annotations

from collections.abc import Iterable

Pairs = Iterable[tuple[bytes, bytes]]

_OF_CONNECTION = frozenset(
    (
        *(b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"proxy-authenticate", b"proxy-authorization", b"http2-settings"),
    )
)
_OF_REQUEST = _OF_CONNECTION | {b"content-length", b"expect"}
_CREDENTIALS = frozenset((b"authorization", b"x-api-key"))


def build_request(
    method: str, target: bytes, headers: Pairs, length: int | None, key: str | None, hides_key: bool
) -> bytes:
    """The head that the router gets.

    ``length`` is that of the body, None where the request has none. ``hides_key``: what the client showed is for us
    alone; ``key`` is shown to the router in its place, None being no key.
    """
    headers = tuple(headers)
    dropped = _add_named(headers, _OF_REQUEST)
    if hides_key:
        dropped = dropped | _CREDENTIALS
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target)]
    lines += [b"%b: %b" % pair for pair in headers if pair[0].lower() not in dropped]
    if key is not None:
        lines.append(b"Authorization: Bearer %b" % key.encode("ascii"))
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def build_response(status: int, reason: str, headers: Pairs, added: Iterable[bytes]) -> bytes:
    """The head that the client gets; ``added`` are whole lines, such as how the body is framed."""
    headers = tuple(headers)
    dropped = _add_named(headers, _OF_CONNECTION)
    lines = [b"HTTP/1.1 %d %b" % (status, reason.encode("latin-1", "replace"))]
    lines += [b"%b: %b" % pair for pair in headers if pair[0].lower() not in dropped]
    lines += added
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _add_named(headers: tuple[tuple[bytes, bytes], ...], dropped: frozenset[bytes]) -> frozenset[bytes]:
    """With what a Connection header says is for this connection only; a length is never let go that way."""
    named = [value for name, value in headers if name.lower() == b"connection"]
    if not named or named in ([b"keep-alive"], [b"close"]):
        return dropped
    words = {word.strip(b" \t").lower() for value in named for word in value.split(b",")}
    return dropped | (words - {b"content-length", b"content-type", b"host"})

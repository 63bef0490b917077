"""The model that a request's body names, read as the router reads it.

In JSON the last of several keys counts, an escaped key is a key, a byte order mark is skipped, and anything but a
string names nothing. Of a multipart form the text field counts; given twice, it names nothing. A body that the router
will refuse, or that it finds no model in, names none here either: the router then answers 400 and touches no model.

Source: llama.cpp ``server_models_routes::proxy_post`` and ``server_http_context::post`` with nlohmann's JSON parser,
b11434; checked against the real router by a property test.
"""

from __future__ import annotations

import re
from json import JSONDecoder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LARGE_BYTES = 1 << 20
"""From here on a body is not read as a whole, which would keep everything else waiting, but searched."""


def find_model(body: bytes, content_type: str) -> str | None:
    """The model that a body names; None when it names none, or the router will refuse it."""
    if read_media_type(content_type) == "multipart/form-data":
        return find_field(body, read_boundary(content_type), "model")
    if len(body) < LARGE_BYTES:
        try:
            return _as_name(read_json(body))
        except RecursionError:
            # The router's parser knows no depth that is too deep.
            pass
    return search_json(body)


def read_json(body: bytes) -> Any:
    """A body as the router's JSON parser reads it, with every number a 0; None for what that refuses, or ``null``."""
    if body.startswith(_BYTE_ORDER_MARK):
        body = body[len(_BYTE_ORDER_MARK) :]
    try:
        text = body.decode()
        value, end = _DECODER.raw_decode(text, _skip_white(text, 0))
    except ValueError:
        return None
    # A zero byte ends the router's reading, whatever follows.
    if text[_skip_white(text, end) :][:1] not in ("", "\0"):
        return None
    return None if "\\u" in text and _has_lone_surrogate(text) else value


def search_json(body: bytes) -> str | None:
    """The string under the last ``model`` key of the outermost object; what lies deeper is skipped, and not checked.

    Takes small steps, so that other threads go on meanwhile.
    """
    at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0
    search = _Search()
    while (match := (_MARK if search.depth <= 1 else _DEEP_MARK).search(body, at)) is not None:
        mark, at = match.group(), match.end()
        if mark == b'"':
            end = _find_string_end(body, at)
            if end < 0:
                return None
            if search.wants_string:
                search.take_string(body[at - 1 : end])
            at = end
        elif not search.take_mark(mark):
            break
    return search.found or None


class _Search:
    """What is known of an object while it is read from left to right."""

    __slots__ = ("_is_value", "_key", "depth", "found")

    def __init__(self) -> None:
        self.depth = 0
        self.found: str | None = None
        self._key = ""
        self._is_value = False

    @property
    def wants_string(self) -> bool:
        """Whether a string here is a key or the value that is looked for."""
        return self.depth == 1 and (not self._is_value or self._key == "model")

    def take_string(self, text: bytes) -> None:
        """Take a key or a value of the outermost object, quotes and escapes included."""
        value = read_json(text)
        name = value if isinstance(value, str) else ""
        if not self._is_value:
            self._key = name
        else:
            self.found = name

    def take_mark(self, mark: bytes) -> bool:
        """Take a character outside of strings; False when nothing more is to come."""
        if mark in b"}]":
            self.depth -= 1
            return self.depth > 0
        if self.depth == 1:
            if mark in b",:":
                self._is_value = mark == b":"
                return True
            if self._key == "model":
                # No string, so no name.
                self.found = None
        if mark in b"{[":
            self.depth += 1
        return self.depth > 1 or (self.depth == 1 and mark != b"[")


def _find_string_end(body: bytes, at: int) -> int:
    """Behind the quote that ends the string that begins at ``at``; -1 when none does."""
    while (end := body.find(b'"', at)) >= 0:
        slashes = end
        while body[slashes - 1] == 0x5C:
            slashes -= 1
        if (end - slashes) % 2 == 0:
            return end + 1
        at = end + 1
    return -1


def wants_stream(body: bytes) -> bool:
    """Whether a JSON body asks for its answer piece by piece."""
    document = _read_shallow(body)
    return isinstance(document, dict) and document.get("stream") is True


def read_conversations(body: bytes) -> list[str]:
    """The conversations that a lookup asks for."""
    document = _read_shallow(body)
    found = document.get("conversation_ids") if isinstance(document, dict) else None
    return [item for item in found if isinstance(item, str) and item] if isinstance(found, list) else []


def find_field(body: bytes, boundary: str, name: str) -> str | None:
    """The text of a form's only text field of this name; None without one, with several, or in a broken form."""
    if not boundary:
        return None
    mark = b"--" + boundary.encode("utf-8", "surrogateescape")
    at = body.find(mark + b"\r\n")
    values: list[bytes] = []
    while at >= 0:
        head_at = at + len(mark) + 2
        head_end = head_at - 2 if body.startswith(b"\r\n", head_at) else body.find(b"\r\n\r\n", head_at)
        end = body.find(b"\r\n" + mark, head_end + 4) if head_end >= 0 else -1
        if end < 0:
            return None
        if _names_field(body[head_at : max(head_at, head_end)], name):
            values.append(body[head_end + 4 : end])
        after = end + 2 + len(mark)
        if body.startswith(b"--", after):
            break
        if not body.startswith(b"\r\n", after):
            return None
        at = end + 2
    if len(values) != 1:
        return None
    try:
        return values[0].decode() or None
    except UnicodeDecodeError:
        return None


def _names_field(head: bytes, name: str) -> bool:
    """Whether the head of a part is that of a text field, not a file, of this name."""
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        key, _, value = line.partition(":")
        kind, _, parameters = value.strip(" \t").partition(";")
        if key.lower() == "content-disposition" and kind.lower() == "form-data":
            found = _read_parameters(parameters)
            return found.get("name") == name and not found.get("filename") and not found.get("filename*")
    return False


def read_media_type(content_type: str) -> str:
    """What stands before the parameters of a Content-Type, in lower case."""
    return content_type.partition(";")[0].strip(" \t").lower()


def read_boundary(content_type: str) -> str:
    """The boundary of a multipart Content-Type; empty when it has none."""
    return _read_parameters(content_type.partition(";")[2]).get("boundary", "")


def _read_parameters(text: str) -> dict[str, str]:
    """``a=b; c="d;e"`` as pairs; of a repeated name the first counts."""
    found: dict[str, str] = {}
    for part in _PARAMETER.findall(text):
        key, _, value = part.partition("=")
        value = value.strip(" \t")
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        found.setdefault(key.strip(" \t"), value)
    return found


def _as_name(document: Any) -> str | None:
    name = document.get("model") if isinstance(document, dict) else None
    return name if isinstance(name, str) and name else None


def _read_int(text: str) -> int:
    # The router's parser takes a number that no double can hold for an error; below that it has at most 309 digits.
    return 0 if len(text) < 309 else _read_float(text)


def _read_float(text: str) -> int:
    if float(text) in (float("inf"), float("-inf")):
        raise ValueError("a number too large for the router's parser")
    return 0


def _refuse_constant(_text: str) -> Any:
    raise ValueError("NaN and Infinity are no JSON")


def _has_lone_surrogate(text: str) -> bool:
    """Whether an escape names half of a character, which Python's parser takes and the router's does not."""
    return _LONE.search(_PAIR.sub("-", _DOUBLE.sub("-", text))) is not None


def _skip_white(text: str, at: int) -> int:
    match = _WHITE.match(text, at)
    return at if match is None else match.end()


def _read_shallow(body: bytes) -> Any:
    try:
        return read_json(body)
    except RecursionError:
        return None


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DECODER = JSONDecoder(parse_int=_read_int, parse_float=_read_float, parse_constant=_refuse_constant)
_WHITE = re.compile(r"[ \t\n\r]*")
_MARK = re.compile(rb"[^ \t\n\r]")
_DEEP_MARK = re.compile(rb'["{}\[\]]')
_PARAMETER = re.compile(r'(?:[^;"]|"[^"]*"?)+')
_DOUBLE = re.compile(r"\\\\")
_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LONE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

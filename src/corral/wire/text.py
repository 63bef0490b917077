"""Names are untrusted text: how an id becomes something that is safe to print.

A model id may hold quotes, line ends, terminal control codes or ten thousand characters. What is sent
to the router is always the id itself; what is shown to a person goes through here.
"""

from __future__ import annotations

_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e"}


def escape_controls(text: str) -> str:
    """Make text safe for a terminal: control, direction and lone surrogate characters become visible escapes.

    Emoji and other scripts stay. The result has no line end.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_safe(char) else _escape(char) for char in text)


def _is_safe(char: str) -> bool:
    if char in _BIDI or "\ud800" <= char <= "\udfff":
        return False
    # U+200D joins emoji and U+FE0F picks their look; str.isprintable calls the first a control.
    return char.isprintable() or char == "\u200d"


def _escape(char: str) -> str:
    if char in _SHORT:
        return _SHORT[char]
    return f"\\x{ord(char):02x}" if char < "\u0100" else _escape_wide(char)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of text longer than ``limit`` characters, keeping both ends and a mark."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def quote_name(name: str) -> str:
    """A model's id in full, printable: as it is, or where it holds what must be escaped, in the shell's ``$'...'``.

    bash, zsh and every shell of POSIX 2024 read that back as the id itself.
    """
    return name if _is_plain(name) else f"$'{_quote(name)}'"


def show_name(name: str, limit: int = 80) -> str:
    """A model's id as a person may see it: as ``quote_name`` has it, and at most ``limit`` characters."""
    short = shorten(name, 4 * limit)
    return shorten(short, limit) if _is_plain(short) else f"$'{shorten(_quote(short), limit - 3)}'"


def _is_plain(name: str) -> bool:
    return name == escape_controls(name)


def _quote(name: str) -> str:
    """Escapes that the shell reads back: there \\x is a byte and not a character, and the quote ends the name."""
    own = {"\\": "\\\\", "'": "\\'"}
    return "".join(own.get(c) or (c if _is_safe(c) else _escape(c) if c < "\x80" else _escape_wide(c)) for c in name)


def _escape_wide(char: str) -> str:
    point = ord(char)
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"

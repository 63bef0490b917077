"""Rows of text in columns, by how wide the characters are on a terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "   "


def format_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row, each column as wide as its widest cell; the last one and empty ends are not padded."""
    if not rows:
        return []
    widths = [max(measure_text(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [_format_row(row, widths) for row in rows]


def _format_row(row: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - measure_text(cell)) for cell, width in zip(row, widths, strict=True))
    return _GAP.join(padded).rstrip(" ")


def measure_text(text: str) -> int:
    """How many columns the text takes: two for wide characters, none for marks that combine."""
    return len(text) if text.isascii() else sum(map(_measure, text))


def cut_text(text: str, columns: int) -> str:
    """As much of the text as surely fits; a mark is not parted from what it combines with."""
    if text.isascii():
        return text[:columns]
    left = columns
    for at, char in enumerate(text):
        # Terminals that know the emoji look of a narrow character make it wide.
        left -= 1 if char == _EMOJI_LOOK else _measure(char)
        if left < 0:
            return text[: at - 1] if char == _EMOJI_LOOK else text[:at]
    return text


_EMOJI_LOOK = "\ufe0f"
_NO_WIDTH = ("Mn", "Me", "Cf")


def _measure(char: str) -> int:
    from unicodedata import category, east_asian_width

    if category(char) in _NO_WIDTH or "\u1160" <= char <= "\u11ff":
        # The latter are vowels and finals of Hangul, which join the letter before.
        return 0
    return 2 if east_asian_width(char) in "WF" else 1

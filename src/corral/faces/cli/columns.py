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
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    width = 0
    for char in text:
        if combining(char) or char in "\u200d\ufe0e\ufe0f":
            continue
        width += 2 if east_asian_width(char) in "WF" else 1
    return width

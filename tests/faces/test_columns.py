"""Columns line up by what a terminal shows."""

from __future__ import annotations

from corral.faces.cli.columns import cut_text, format_rows, measure_text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Cells are padded, the end of a line is not."""
    assert ["NAME   STATE", "a      loaded", "bcde"] == format_rows([("NAME", "STATE"), ("a", "loaded"), ("bcde", "")])


def test_no_rows_are_no_lines() -> None:
    """Nothing to show is no line at all."""
    assert [] == format_rows([])


def test_width_is_what_a_terminal_shows() -> None:
    """Wide characters take two columns, combining marks and joiners none."""
    assert [3, 4, 1, 2, 1, 2] == [
        measure_text(text) for text in ("abc", "日本", "e\u0301", "🦙", "ก\u0e31", "\u1100\u1161")
    ]


def test_text_is_cut_by_what_a_terminal_shows() -> None:
    """What is cut fits, whole characters with their marks, and is as long as it can be."""
    cut = [cut_text(text, 5) for text in ("abcdefg", "日本語", "abcde\u0301f", "abcd🦙", "abcd❤\ufe0f", "abc❤\ufe0f")]

    assert ["abcde", "日本", "abcde\u0301", "abcd", "abcd", "abc❤\ufe0f"] == cut

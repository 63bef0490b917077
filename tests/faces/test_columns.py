"""Columns line up by what a terminal shows."""

from __future__ import annotations

from corral.faces.cli.columns import format_rows, measure_text


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    """Cells are padded, the end of a line is not."""
    assert ["NAME   STATE", "a      loaded", "bcde"] == format_rows([("NAME", "STATE"), ("a", "loaded"), ("bcde", "")])


def test_no_rows_are_no_lines() -> None:
    """Nothing to show is no line at all."""
    assert [] == format_rows([])


def test_width_is_what_a_terminal_shows() -> None:
    """Wide characters take two columns, combining marks and joiners none."""
    assert [3, 4, 1, 2] == [measure_text(text) for text in ("abc", "日本", "e\u0301", "🦙")]

"""Names are untrusted text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral.wire import escape_controls, shorten, show_name


def test_plain_and_foreign_names_stay() -> None:
    """Ordinary names, other scripts and emoji are shown as they are."""
    for name in ("ggml-org/qwen3:Q4_K_M", "我的模型", "pony 🐎", 'a "b" c'):
        assert show_name(name) == name


def test_control_codes_become_visible() -> None:
    """Nothing that a terminal would obey gets through."""
    assert escape_controls("a\x1b[31mb\nc\u202ed\x9b\ud800") == "a\\e[31mb\\nc\\u202ed\\x9b\\ud800"


def test_long_names_keep_both_ends() -> None:
    """A long name is cut in the middle."""
    shown = show_name("a" * 5000 + "z" * 5000, 20)

    assert len(shown) == 20 and shown.startswith("aaa") and shown.endswith("zzz") and "…" in shown


@given(st.text(max_size=400), st.integers(4, 100))
def test_any_name_is_printable_and_bounded(name: str, limit: int) -> None:
    """Whatever the id, what is shown is one printable line of bounded length."""
    shown = show_name(name, limit)

    assert len(shown) <= limit
    assert all(char.isprintable() or char == "\u200d" for char in shown)
    assert len(shorten(name, limit)) <= max(limit, 0)

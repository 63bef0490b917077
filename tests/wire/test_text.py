"""Names are untrusted text."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.wire import escape_controls, quote_name, shorten, show_name


def test_plain_and_foreign_names_stay() -> None:
    """Ordinary names, other scripts and emoji are shown as they are."""
    for name in ("ggml-org/qwen3:Q4_K_M", "我的模型", "pony 🐎", 'a "b" c'):
        assert show_name(name) == name


def test_control_codes_become_visible() -> None:
    """Nothing that a terminal would obey gets through."""
    assert escape_controls("a\x1b[31mb\nc\u202ed\x9b\ud800") == "a\\e[31mb\\nc\\u202ed\\x9b\\ud800"


def test_escaped_names_are_quoted() -> None:
    """A name with escapes stands in the shell's quotes, so that it is not taken for one that holds backslashes."""
    assert [r"$'a\nb'", r"a\nb", "it's", r"$'it\'s\u009b\\'"] == [
        quote_name(name) for name in ("a\nb", r"a\nb", "it's", "it's\x9b\\")
    ]
    assert r"$'a\e[31…mm\e'" == show_name("a\x1b[31" + "m" * 50 + "\x1b", 14)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_shells_read_quoted_names_back(shell: str) -> None:
    """What is shown of an odd id can be pasted: the shell makes the id of it again."""
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    names = ["new\nline", "esc\x1b[31mred", "tab\tquote'back\\slash", "\u202egnp", "c1\x9b", "\x01f", "\U000e0001日本"]
    script = "printf '%s\\0' " + " ".join(map(quote_name, names))
    done = subprocess.run([program, "-c", script], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True)

    assert names == done.stdout.decode().split("\0")[:-1]


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

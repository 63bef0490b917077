"""Reading processes: what Linux really shows, odd names, and junk."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from corral.machine import procfs
from corral.ops.measurement import Process
from tests.machine.tree import Tree

RECORDED = Path(__file__).parent / "recorded"


def test_recorded_stat() -> None:
    """Name, parent and start of a real child are read."""
    stat = procfs.parse_stat(17042, (RECORDED / "stat.txt").read_bytes())

    assert stat == procfs.Stat(Process(17042, 226820, "llama-server"), 16998, False)


def test_odd_names(tree: Tree) -> None:
    """Brackets, spaces and line breaks in a process's name confuse nothing."""
    name = "a) R 1 (b\nc"
    tree.add_process(7, parent=3, name=name, started=5)

    assert procfs.read_stat(tree.proc, 7) == procfs.Stat(Process(7, 5, name), 3, False)


@given(st.binary(max_size=200))
def test_junk_never_raises(junk: bytes) -> None:
    """Whatever a file holds, reading it ends in a value or in None."""
    procfs.parse_stat(1, junk)
    procfs.parse_stat(1, b"1 (x) " + junk)
    procfs.split_strings(junk)


def test_strings_are_kept_apart() -> None:
    """Empty arguments stay; bytes that are no text are replaced."""
    assert procfs.split_strings(b"a\0\0b c\0") == ("a", "", "b c")
    assert procfs.split_strings(b"\xff\0") == ("\ufffd",)
    assert procfs.split_strings(b"") == ()


def test_what_may_not_be_read_is_none(tree: Tree) -> None:
    """A process that is not there, or not ours to read, is unknown and not empty."""
    tree.add_process(7)

    assert procfs.read_stat(tree.proc, 8) is None
    assert procfs.read_environment(tree.proc, 7) is None
    assert procfs.list_open_files(tree.proc, 7) is None
    assert procfs.read_user(tree.proc, 8) is None
    assert procfs.list_children(tree.proc, 8) is None
    assert procfs.read_link(f"{tree.proc}/7/cwd") is None
    assert procfs.read_file(f"{tree.proc}/7/a\0b") is None
    assert procfs.read_file(tree.proc) is None


def test_environment_and_user(tree: Tree) -> None:
    """Variables are read with whatever stands behind the first equals sign."""
    tree.add_process(7, environ={"A": "1=2", "B": ""}, user=33)

    assert procfs.read_environment(tree.proc, 7) == {"A": "1=2", "B": ""}
    assert procfs.read_user(tree.proc, 7) == 33


def test_this_machine() -> None:
    """On a real Linux the test's own process is found, with its parent and itself among that one's children."""
    if not Path("/proc/self/stat").exists():
        return
    stat = procfs.read_stat("/proc", os.getpid())
    children = procfs.list_children("/proc", os.getppid())

    assert stat is not None and stat.parent == os.getppid() and procfs.is_living("/proc", stat.process)
    assert os.getpid() in procfs.list_pids("/proc")
    assert children is None or os.getpid() in children

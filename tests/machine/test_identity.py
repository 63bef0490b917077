"""Who we are, for a record that outlives us."""

from __future__ import annotations

import os

from corral.machine import find_living, read_boot_id, read_process
from corral.ops.measurement import Process
from tests.machine.tree import Tree


def test_boot_id(tree: Tree) -> None:
    """The mark of this boot is read, and is None where the system has none."""
    assert read_boot_id(tree.proc) is None
    tree.write("proc/sys/kernel/random/boot_id", "23ca0f75-a5cd-4bec-8ada-110f673d6174\n")

    assert "23ca0f75-a5cd-4bec-8ada-110f673d6174" == read_boot_id(tree.proc)


def test_process(tree: Tree) -> None:
    """A living process is known with its start; one that ended, or never was, is none."""
    tree.add_process(7, started=5, name="x")
    tree.add_process(8, state="Z")

    assert (Process(7, 5, "x"), None, None) == tuple(read_process(pid, tree.proc) for pid in (7, 8, 9))
    own = read_process()
    assert own is None or own.pid == os.getpid()


def test_living(tree: Tree) -> None:
    """Of remembered processes those live that have the same start; one that took over a number does not."""
    tree.write("proc/self/stat", "")
    tree.add_process(7, started=5)
    tree.add_process(8, state="Z")
    remembered = [Process(7, 5), Process(7, 4), Process(8, 1), Process(9, 1)]

    assert [Process(7, 5)] == find_living(remembered, tree.proc)


def test_living_where_processes_are_not_shown(tree: Tree) -> None:
    """Without a process table the number has to do."""
    mine, nobody = Process(os.getpid(), 0), Process(2**22 - 7, 0)

    assert [mine] == find_living([mine, nobody], tree.proc)

"""Memory of processes and of the machine."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.machine.memory import Footprint, Footprints, read_footprint, read_host_memory
from corral.ops.measurement import HostMemory
from tests.machine.tree import Tree

RECORDED = Path(__file__).parent / "recorded"


def test_recorded_child(tree: Tree) -> None:
    """Of a real child, what its end gives back and what stays as cache are told apart."""
    tree.write("proc/5/smaps_rollup", (RECORDED / "smaps_rollup.txt").read_bytes())

    assert Footprint(71252 << 10, 87513 << 10) == read_footprint(tree.proc, 5)


def test_recorded_machine(tree: Tree) -> None:
    """The machine's memory is read as a real one shows it."""
    tree.write("proc/meminfo", (RECORDED / "meminfo.txt").read_bytes())

    assert HostMemory(24684092 << 10, 23901776 << 10, 298836 << 10) == read_host_memory(tree.proc)


def test_shares_may_not_be_read(tree: Tree) -> None:
    """Of another user's process the plain figures are taken, and that they are not shares is said."""
    tree.write("proc/5/status", (RECORDED / "status.txt").read_bytes())
    found = read_footprint(tree.proc, 5)

    assert (71252 << 10, None) == (found.host_bytes, found.cache_bytes) and "shares" in found.reason


def test_old_kernel_without_kinds_of_shares(tree: Tree) -> None:
    """A kernel that tells shares but not of what kind is read by the plain figures."""
    tree.write("proc/5/smaps_rollup", "Pss:  100 kB\n")
    tree.write("proc/5/status", "RssAnon:  7 kB\nRssShmem:  2 kB\n")

    assert 9 << 10 == read_footprint(tree.proc, 5).host_bytes


def test_unreadable_is_unknown(tree: Tree) -> None:
    """What may not be read is None with a reason, and never 0."""
    found = read_footprint(tree.proc, 5)

    assert (None, None) == (found.host_bytes, found.cache_bytes) and found.reason
    tree.remove("proc/meminfo")
    assert HostMemory(None, None, None) == read_host_memory(tree.proc)


def test_many_are_read_each_as_itself(tree: Tree) -> None:
    """Of many processes, read side by side, each figure is its own, in the order that was asked for."""
    pids = list(range(9, 2, -1))
    for pid in pids:
        tree.write(f"proc/{pid}/smaps_rollup", f"Pss_Anon:  {pid} kB\n")
    found = Footprints(tree.proc, [*pids, 99]).collect()

    assert [*(pid << 10 for pid in pids), None] == [one.host_bytes for one in found]
    assert [] == Footprints(tree.proc, []).collect()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_junk_never_raises(tree: Tree, junk: bytes) -> None:
    """Whatever the files hold, reading them ends in figures or in none."""
    for name in ("proc/5/smaps_rollup", "proc/5/status", "proc/meminfo"):
        tree.write(name, junk + b"\nPss_Anon: " + junk)
    read_footprint(tree.proc, 5)
    read_host_memory(tree.proc)

"""Sockets: the tables that Linux really writes, both families, and junk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.machine.sockets import ESTABLISHED, LISTENING, Sockets, find_owners, holds_socket, parse_rows, show_address
from tests.machine.tree import Tree

RECORDED = Path(__file__).parent / "recorded"


@pytest.mark.skipif(sys.byteorder == "big", reason="recorded on a little-endian machine")
def test_recorded_table() -> None:
    """A real child with three streams has one socket that listens and three connections."""
    rows = list(parse_rows((RECORDED / "tcp.txt").read_bytes(), (ESTABLISHED, LISTENING)))
    mine = [row for row in rows if row.local_port == 0xA981]

    assert [LISTENING, ESTABLISHED, ESTABLISHED, ESTABLISHED] == [row.state for row in mine]
    assert {"127.0.0.1"} == {show_address(row.local) for row in rows}
    assert (0, 262432) == (mine[0].user, mine[0].inode)


def test_both_families(tree: Tree) -> None:
    """Addresses of both families are read, and an IPv4 address within IPv6 is shown as what it is."""
    tree.add_socket(8080, address="::")
    tree.add_socket(8080, address="2001:db8::7", state=1, remote=("2001:db8::9", 5))
    tree.add_socket(8080, address="::ffff:192.0.2.7", state=1, remote=("::ffff:192.0.2.9", 6))
    rows = Sockets(tree.proc, None).read_own((ESTABLISHED, LISTENING))

    assert rows is not None
    assert ["::", "2001:db8::7", "192.0.2.7"] == [show_address(row.local) for row in rows]
    assert [0, 5, 6] == [row.remote_port for row in rows]


@given(st.binary(max_size=300))
def test_junk_never_raises(junk: bytes) -> None:
    """Whatever a table holds, reading it ends in rows."""
    line = b"  0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 1000 0 "
    list(parse_rows(junk, (10,)))
    list(parse_rows(line + junk, (10,)))
    list(parse_rows(junk + line, (10,), {0x1F90}))


def test_silent_kernel_is_replaced_by_tables(tree: Tree) -> None:
    """Where the kernel does not answer, the tables do; where it does, they are not read."""
    tree.add_process(5)
    tree.connect(41001, 50001)
    silent = Sockets(tree.proc, lambda states, ports: None)
    answering = Sockets(tree.proc, lambda states, ports: [])

    assert {41001: 1} == silent.count_connections(5, [41001])
    assert {41001: 0} == answering.count_connections(5, [41001])
    assert 2 == len(silent.read_own((ESTABLISHED,)) or ()) and [] == answering.read_own((ESTABLISHED,))


def test_another_network_is_never_asked_of_the_kernel(tree: Tree) -> None:
    """The kernel tells of our network only, so a container's connections come from its tables."""
    tree.add_process(5, net="container")
    tree.connect(41001, 50001, net="container")

    assert {41001: 1} == Sockets(tree.proc, lambda states, ports: []).count_connections(5, [41001])


def test_shared_network_without_its_name(tree: Tree) -> None:
    """Where a process's namespace may not be read, a common listening socket tells that the network is shared."""
    tree.add_socket(22)
    tree.add_process(5)
    tree.add_process(6, net="container")
    tree.add_socket(22, net="container")
    for pid in (5, 6):
        tree.remove(f"proc/{pid}/ns/net")
    sockets = Sockets(tree.proc, None)

    assert sockets.shares(5) and not sockets.shares(6)


def test_unreadable_tables_are_unknown(tree: Tree) -> None:
    """Without a table there is no count, rather than a count of none."""
    sockets = Sockets(tree.proc, None)

    assert sockets.count_connections(77, [41001]) is None and sockets.read_of(77, (LISTENING,)) is None


def test_owners(tree: Tree) -> None:
    """A socket's owner is found among the processes whose files may be read."""
    tree.add_process(5, files={0: "/dev/null", 3: "socket:[9]"})
    tree.add_process(6)

    assert {9: 5} == find_owners(tree.proc, [6, 5], [9, 0, 10])
    assert (True, False, None) == tuple(
        holds_socket(tree.proc, pid, inodes) for pid, inodes in ((5, [9]), (5, [1]), (6, [9]))
    )

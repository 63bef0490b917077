"""Children without a connection are seen to have none still, without a look at every socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection

import pytest

from corral.machine import Machine
from corral.machine.door import Door
from corral.machine.netlink import ask_kernel
from corral.machine.sockets import ESTABLISHED, LISTENING, Row, Sockets
from corral.machine.stillness import Stillness
from tests.machine.tree import Tree, listed

MODELS = (listed("a", 41001), listed("b", 41002))
LOCAL = bytes((127, 0, 0, 1))
ROUTER_INODE = 4711


class Kernel:
    """Answers as the kernel does, and counts the walks through all sockets."""

    def __init__(self) -> None:
        self.walks = 0
        self.queued = 0
        self.connected: list[int] = []
        self.is_silent = False

    def __call__(self, states: Collection[int], ports: Collection[int] | None) -> list[Row] | None:
        if self.is_silent:
            return None
        if list(states) == [LISTENING]:
            router, child = ((8080, ROUTER_INODE, 0), (41001, 7, self.queued))
            listening = [
                Row(LISTENING, LOCAL, port, bytes(4), 0, 1000, inode, None, queued)
                for port, inode, queued in (router, child)
            ]
            return [row for row in listening if ports is None or row.local_port in ports]
        self.walks += 1
        return [Row(ESTABLISHED, LOCAL, port, LOCAL, 50000, 0, 8) for port in self.connected if port in (ports or ())]


@pytest.fixture
def kernel() -> Kernel:
    """A kernel that knows of no connection."""
    return Kernel()


@pytest.fixture
def meter(tree: Tree, kernel: Kernel) -> Machine:
    """A router with two idle children, looked at once."""
    tree.add_router()
    tree.link("proc/500/fd/3", f"socket:[{ROUTER_INODE}]")
    for pid, name, port in ((501, "a", 41001), (502, "b", 41002)):
        tree.add_child(pid, name, port)
        tree.link(f"proc/{pid}/fd/3", f"socket:[{pid}3]")
    meter = Machine(Door("127.0.0.1", 8080), proc=tree.proc, sys=tree.sys, ask=kernel)
    assert count(meter) == [0, 0]
    assert kernel.walks == 1
    return meter


def count(meter: Machine) -> list[int | None]:
    """What the children have in flight, by a look."""
    return [child.in_flight for child in meter.measure(MODELS, memory=False).children]


def test_nothing_new_takes_no_walk(meter: Machine, kernel: Kernel) -> None:
    """As long as no child opened a socket and nobody waits to be accepted, one walk is enough."""
    assert [count(meter), count(meter)] == [[0, 0], [0, 0]]
    assert kernel.walks == 1


def test_a_new_socket_takes_a_walk(meter: Machine, kernel: Kernel, tree: Tree) -> None:
    """A child that has a new socket open is looked at, and what it answers is counted."""
    tree.link("proc/501/fd/4", "socket:[9999]")
    kernel.connected = [41001]

    assert [count(meter), count(meter)] == [[1, 0], [1, 0]]
    assert kernel.walks == 3, "what is busy is looked at each time"


def test_a_connection_in_the_queue_takes_a_walk(meter: Machine, kernel: Kernel) -> None:
    """A connection that the child has not accepted yet is no open file, and is seen all the same."""
    kernel.queued, kernel.connected = 1, [41001]

    assert count(meter) == [1, 0]


def test_a_child_that_stops_takes_no_walk(meter: Machine, kernel: Kernel, tree: Tree) -> None:
    """Sockets that a child closes on its way out are no sign of a request."""
    tree.remove("proc/501/fd/3")

    assert count(meter) == [0, 0]
    assert kernel.walks == 1


def test_what_cannot_be_told_takes_a_walk(meter: Machine, kernel: Kernel, tree: Tree) -> None:
    """Where a child's files may not be read, each look walks."""
    tree.remove("proc/502/fd")

    assert [count(meter), count(meter)] == [[0, 0], [0, 0]]
    assert kernel.walks == 3


def test_a_silent_kernel(meter: Machine, kernel: Kernel) -> None:
    """Where the kernel does not answer any more, the tables tell."""
    kernel.is_silent = True

    assert count(meter) == [0, 0]
    assert kernel.walks == 1


def test_real_sockets() -> None:
    """On this machine: a connection is seen while it waits to be accepted, and when it is."""
    sockets = Sockets("/proc", ask_kernel)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        queues = sockets.read_queues(os.getpid(), (port,))
        if queues is None:
            pytest.skip("this kernel, or a sandbox, does not answer")
        assert queues == {port: 0}
        with socket.create_connection(("127.0.0.1", port)):
            assert sockets.read_queues(os.getpid(), (port,)) == {port: 1}
            accepted, _ = server.accept()
            assert sockets.read_queues(os.getpid(), (port,)) == {port: 0}
            accepted.close()


def test_only_children_seen_idle_are_known() -> None:
    """Before the first walk nothing is known to be still."""
    assert Stillness("/proc", Sockets("/proc", None)).holds(1, ()) is False

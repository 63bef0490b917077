"""When a child was last active: by the connections that the system still remembers."""

from __future__ import annotations

import socket
from collections.abc import Collection

import pytest

from corral.machine import Machine
from corral.machine.door import Door
from corral.machine.netlink import ask_kernel
from corral.machine.procfs import count_ticks
from corral.machine.sockets import ENDED, REMEMBERED_S, Row, Sockets, read_rows
from corral.wire import Model
from tests.machine.tree import Tree, listed


def look(tree: Tree, *models: Model, recent: bool = True) -> dict[str, float | None]:
    """When each child was last active."""
    machine = Machine(Door("127.0.0.1", 8080), proc=tree.proc, sys=tree.sys, readers=())
    found = machine.measure(models, memory=False, recent=recent)
    return {child.model: child.last_active_s for child in found.children}


@pytest.fixture
def family(tree: Tree) -> Tree:
    """A router with two children."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_child(502, "b", 41002)
    return tree


MODELS = (listed("a", 41001), listed("b", 41002))


@pytest.mark.parametrize("client_closed", [False, True])
def test_short_connection_is_seen_after_its_end(family: Tree, client_closed: bool) -> None:
    """A connection that began and ended between two looks is seen, whichever end closed it first."""
    family.end(41001, 50001, 45.5, client_closed=client_closed)

    assert look(family, *MODELS) == {"a": pytest.approx(14.5), "b": None}


def test_the_last_of_several_counts(family: Tree) -> None:
    """Of several connections that have ended, the newest says how long the child has been idle."""
    for client, left_s in ((50001, 10.0), (50002, 58.0), (50003, 30.0)):
        family.end(41002, client, left_s)

    assert look(family, *MODELS) == {"a": None, "b": pytest.approx(2.0)}


def test_open_connection_is_now(family: Tree) -> None:
    """A child with a request in flight is active now, whatever ended before."""
    family.end(41001, 50001, 30.0)
    family.connect(41001, 50002)

    assert look(family, *MODELS)["a"] == 0.0


def test_start_counts_as_activity(family: Tree) -> None:
    """A child that has just started has been idle no longer than it lives; its requests count if they are newer."""
    ticks = count_ticks()
    family.write("proc/uptime", f"{(50100 + 20 * ticks) / ticks} 0.0\n")
    family.end(41002, 50001, 55.0)

    assert look(family, *MODELS) == {"a": pytest.approx(20.0, abs=0.1), "b": pytest.approx(5.0)}


@pytest.mark.parametrize("uptime", ["1.0", "999999.0", "soon", ""])
def test_age_that_says_nothing(family: Tree, uptime: str) -> None:
    """A child that is older than the minute, or a system that hides its own age, adds nothing."""
    family.write("proc/uptime", uptime)

    assert look(family, *MODELS) == {"a": None, "b": None}


def test_it_is_told_only_on_request(family: Tree) -> None:
    """Who does not ask for it pays nothing for it, and learns only of open connections."""
    family.end(41001, 50001, 30.0)
    family.connect(41002, 50002)

    assert look(family, *MODELS, recent=False) == {"a": None, "b": 0.0}


def test_connection_to_the_same_port_elsewhere_is_not_ours(family: Tree) -> None:
    """A connection from here to another machine, whose port happens to be a child's, says nothing about the child."""
    family.add_socket(50009, state=6, address="192.0.2.7", remote=("192.0.2.9", 41001), inode=0, left_s=50.0)

    assert look(family, *MODELS)["a"] is None


def test_container(tree: Tree) -> None:
    """What a container's network remembers is read there, and ours is not asked."""
    tree.add_router(net="box")
    tree.add_child(501, "a", 41001, net="box")
    tree.end(41001, 50001, 55.0, net="box")
    tree.end(41001, 50001, 59.0)

    assert look(tree, listed("a", 41001)) == {"a": pytest.approx(5.0)}


@pytest.mark.parametrize("left_s", [75.0, 0.0])
def test_odd_timer_stays_within_the_minute(family: Tree, left_s: float) -> None:
    """A kernel that remembers for longer, or a timer that is about to run out, gives no impossible time."""
    family.end(41001, 50001, left_s)
    found = look(family, *MODELS)["a"]

    assert found is not None and 0.0 <= found <= REMEMBERED_S


def test_silent_kernel_is_replaced_by_tables(family: Tree) -> None:
    """Where the kernel does not answer, the tables tell the same."""
    family.end(41001, 50001, 59.0)

    def ask(states: Collection[int], ports: Collection[int] | None) -> list[Row] | None:
        return None

    ends = Sockets(family.proc, ask).find_last_ends(501, {41001}) or {}

    assert list(ends) == [41001] and ends[41001] == pytest.approx(1.0)


def test_unreadable_sockets_are_unknown(tree: Tree) -> None:
    """Without a table there is no answer, rather than one of rest."""
    assert Sockets(tree.proc, None).find_last_ends(77, {41001}) is None


def test_kernel_and_tables_agree() -> None:
    """Of a real connection that has just ended, the kernel and its tables tell the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(server.getsockname()) as client:
            peer, _ = server.accept()
            # The server's end closes first, as a child's does.
            peer.close()
            client.recv(1)
    asked = ask_kernel((ENDED,), (port,))
    if asked is None:
        pytest.skip("this kernel, or a sandbox, does not answer")
    told = read_rows("/proc/self/net", (ENDED,), (port,))

    assert told is not None and [row.local_port for row in told] == [row.local_port for row in asked] == [port]
    for row in (*told, *asked):
        assert row.left_s is not None and 55 < row.left_s <= REMEMBERED_S

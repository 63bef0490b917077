"""Who is connected to the router."""

from __future__ import annotations

from corral.machine import Machine
from corral.machine.door import Door
from corral.ops.measurement import Peer
from tests.machine.tree import Tree

OWN = 300


def find(tree: Tree) -> tuple[Peer, ...] | None:
    """The peers of the router at port 8080."""
    return Machine(Door("127.0.0.1", 8080), proc=tree.proc, readers=()).find_peers(own_pid=OWN)


def test_local_and_remote_clients(tree: Tree) -> None:
    """Local programs are named, each once with its connections; other machines by address; ourselves not at all."""
    tree.add_router()
    web = tree.add_process(40, name="open-webui", files={5: "socket:[11]", 6: "socket:[12]"})
    tree.add_process(OWN, name="corral", files={3: "socket:[13]"})
    for client_port, inode in ((50001, 11), (50002, 12), (50003, 13), (50004, 14)):
        tree.connect(8080, client_port, inode=inode)
    for client_port in (60001, 60002):
        tree.add_socket(8080, address="192.0.2.7", state=1, remote=("198.51.100.4", client_port))
    tree.add_socket(8080, state=8, remote=("127.0.0.1", 50009))
    tree.connect(9090, 50010, inode=11)

    assert (
        Peer("127.0.0.1", 2, web, 1000),
        Peer("127.0.0.1", 1, None, 1000),
        Peer("198.51.100.4", 2, None, None),
    ) == find(tree)


def test_router_that_may_not_be_read(tree: Tree) -> None:
    """Who is connected is seen by the connections, also where the router's process is not."""
    tree.add_socket(8080, user=0)
    web = tree.add_process(40, name="open-webui", files={5: "socket:[11]"})
    tree.connect(8080, 50001, inode=11)

    assert (Peer("127.0.0.1", 1, web, 1000),) == find(tree)


def test_router_in_a_container(tree: Tree) -> None:
    """A container's own view is read: its clients have addresses there."""
    tree.add_router(500, 8080, net="container")
    tree.add_child(501, "a", 41001, net="container")
    tree.add_socket(8080, net="container", state=1, remote=("198.51.100.4", 7))

    assert (Peer("198.51.100.4", 1),) == find(tree)


def test_nobody_and_nothing_to_see(tree: Tree) -> None:
    """Nobody connected is an empty answer; tables that cannot be read are none."""
    tree.add_router()

    assert () == find(tree)
    tree.remove("net/host/tcp")
    tree.remove("net/host/tcp6")
    assert find(tree) is None
    assert Machine(Door("203.0.113.9", 8080), proc=tree.proc).find_peers() is None

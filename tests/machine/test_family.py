"""Whose process is whose: the router's children, hidden ones, those of others, and tunnels."""

from __future__ import annotations

import os

import pytest

from corral.ops.measurement import Measurement
from tests.machine.kit import Clock, look, machine
from tests.machine.tree import BINARY, Tree, build_args, listed


def test_hidden_child_is_found(tree: Tree) -> None:
    """A child of the router that the list does not show is found under the name it was started with."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_child(502, "owner/hidden:Q4", 41002)
    found = look(tree, listed("a", 41001))

    assert [("a", False), ("owner/hidden:Q4", True)] == [(child.model, child.is_hidden) for child in found.children]


def test_hidden_child_alone_is_found(tree: Tree) -> None:
    """The router is known by who listens, also when nothing that it lists is resident."""
    tree.add_router()
    tree.add_child(502, "hidden", 41002)

    assert [child.model for child in look(tree, listed("a", 41001, "unloaded")).children] == ["hidden"]


def test_children_of_another_router_are_not_ours(tree: Tree) -> None:
    """Two routers on one machine are told apart by the port of the URL."""
    tree.add_router(500, 8080)
    tree.add_router(600, 9090)
    tree.add_child(501, "a", 41001, parent=500)
    tree.add_child(601, "a", 41002, parent=600, router_port="9090")
    found = look(tree, listed("a", 41001))

    assert [501] == [child.process.pid for child in found.children]


def test_process_that_only_looks_like_a_child_is_none(tree: Tree) -> None:
    """A single-model server with the same options, and a shell that names them, are no children."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_process(502, parent=500, args=build_args("b", 41002), environ={"PATH": "/bin"})
    tree.add_process(503, parent=500, args=["grep", "--port --alias"], environ={})
    tree.add_process(504, parent=500, args=[BINARY, "--alias", "c", "--port", "no"], environ={})
    download = {"LLAMA_SERVER_ROUTER_PORT": "8080", "LLAMA_SERVER_CHILD_MODE": "download"}
    tree.add_process(505, parent=500, args=build_args("d", 41005), environ=download)

    assert [501] == [child.process.pid for child in look(tree, listed("a", 41001)).children]


def test_tunnel_is_seen_through(tree: Tree) -> None:
    """Behind a tunnel of SSH, the children of a local router with the same names are not taken for the remote ones."""
    tree.add_router(600, 9090)
    tree.add_child(601, "a", 41001, parent=600, router_port="9090")
    inode = tree.add_socket(8080)
    tree.add_process(700, name="ssh", args=["ssh", "-L", "8080:localhost:9090", "gpu"], files={4: f"socket:[{inode}]"})
    same_port, other_port = look(tree, listed("a", 41001)), look(tree, listed("a", 41077))

    assert () == same_port.children == other_port.children
    assert same_port.reason.startswith("ssh (pid 700) answers at 127.0.0.1:8080")
    assert same_port.reason == other_port.reason


@pytest.mark.parametrize(("pid", "args"), [(700, ["python", "-m", "corral.sim", "--port", "8080"]), (os.getpid(), [])])
def test_simulator_is_no_tunnel(tree: Tree, pid: int, args: list[str]) -> None:
    """A simulated router, in a process of its own or in ours, has no memory to measure, and is called what it is."""
    inode = tree.add_socket(8080)
    tree.add_process(pid, name="python", args=args, files={4: f"socket:[{inode}]"})

    assert "a simulated router's models hold no memory" == look(tree, listed("a", 41001)).reason


def test_tunnel_of_another_user_is_seen_through(tree: Tree) -> None:
    """A tunnel whose files may not be read is not taken for the router either, as the listening user is another."""
    tree.add_router(600, 9090)
    tree.add_child(601, "a", 41001, parent=600)
    tree.remove("proc/600/fd")
    tree.add_socket(8080, user=0)

    found = look(tree, listed("a", 41001))
    assert found.children == () and found.reason


def test_tunnel_on_another_address_is_seen_through(tree: Tree) -> None:
    """A router on one loopback address and a tunnel on the other: the list's ports decide."""
    tree.add_router(600, 8080)
    tree.add_child(601, "a", 41001, parent=600)
    inode = tree.add_socket(8080, address="::1")
    tree.add_process(700, name="ssh", args=["ssh"], files={4: f"socket:[{inode}]"})
    remote = machine(tree, "localhost").measure([listed("a", 41055)], memory=False)
    local = machine(tree, "localhost").measure([listed("a", 41001)], memory=False)
    by_address = machine(tree, "::1").measure([listed("a", 41001)], memory=False)

    assert remote.children == () == by_address.children and remote.reason and by_address.reason
    assert [601] == [child.process.pid for child in local.children]


def test_router_of_another_user(tree: Tree) -> None:
    """Where a router's files and environment may not be read, the user of the listening socket proves it."""
    tree.add_router(user=33)
    tree.add_child(501, "a", 41001)
    for path in ("proc/500/fd", "proc/501/fd", "proc/501/environ", "proc/500/ns/net", "proc/501/ns/net"):
        tree.remove(path)

    assert [501] == [child.process.pid for child in look(tree, listed("a", 41001)).children]


def test_routers_of_another_user(tree: Tree) -> None:
    """Of two routers whose files may not be read, the children of one are not taken for those of an idle other."""
    tree.add_router(500, 8080, user=33)
    tree.add_router(600, 9090, user=33)
    tree.add_child(601, "a", 41001, parent=600)
    for path in ("proc/500/fd", "proc/600/fd", "proc/601/fd", "proc/601/environ"):
        tree.remove(path)
    found = look(tree, listed("a", 41055, "unloaded"))

    assert () == found.children and "" == found.reason


def test_router_in_a_container(tree: Tree) -> None:
    """A container's children are read in their own network; a mapped port is no obstacle when command lines agree."""
    tree.add_router(500, 8000, net="container")
    tree.add_child(501, "a", 41001, net="container")
    tree.connect(41001, 50001, net="container")
    tree.connect(41001, 50002)
    found = look(tree, listed("a", 41001))

    assert [(501, 1)] == [(child.process.pid, child.in_flight) for child in found.children]


def test_container_with_other_command_lines_is_not_ours(tree: Tree) -> None:
    """In another network, port and name alone prove nothing: the command line must be the one that is listed."""
    tree.add_router(500, 8000, net="container")
    tree.add_child(501, "a", 41001, net="container")
    args = [*build_args("a", 41001), "--threads", "8"]
    found = look(tree, listed("a", 41001, args=args))

    assert found.children == () and "container" in found.reason


@pytest.mark.parametrize("bound", ["/run/llama.sock", "llama.sock", "./llama.sock"])
def test_unix_socket(tree: Tree, bound: str) -> None:
    """A router behind a unix socket is known by the socket that it holds, however it wrote the path."""
    tree.write("net/host/unix", f"Num Ref\nffff0: 00000002 00000000 00010000 0001 01 77 {bound}\n")
    tree.add_process(500, name="llama-server", args=[BINARY], files={3: "socket:[77]"})
    tree.add_child(501, "a", 41001)
    meter = machine(tree, socket_path="/run/llama.sock")

    assert [501] == [child.process.pid for child in meter.measure([listed("a", 41001)], memory=False).children]
    assert meter.find_peers() is None


def test_nothing_resident_needs_no_reason(tree: Tree) -> None:
    """A router that holds nothing, and may not be read, is no reason to complain."""
    tree.add_socket(8080, user=0)

    assert look(tree, listed("a", None, "unloaded")) == Measurement(())


def test_children_that_cannot_be_seen_have_a_reason(tree: Tree) -> None:
    """A resident model without a process here is reported as not visible, not as gone."""
    tree.add_socket(8080, user=0)

    assert "container" in look(tree, listed("a", 41001)).reason


def test_later_looks_read_only_what_may_have_changed(tree: Tree) -> None:
    """Within a second nothing but the known processes and their connections is read again."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    meter = machine(tree)
    models = [listed("a", 41001)]
    first = meter.measure(models, memory=False)
    for path in ("cmdline", "environ", "fd", "task"):
        tree.remove(f"proc/501/{path}")
        tree.remove(f"proc/500/{path}")
    tree.connect(41001, 50001)
    second = meter.measure(models, memory=False)

    assert [0] == [child.in_flight for child in first.children]
    assert [1] == [child.in_flight for child in second.children]


def test_new_child_is_found_when_it_is_listed(tree: Tree) -> None:
    """A child that the list names is looked for at once; a hidden one within a second."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    clock = Clock()
    meter = machine(tree, clock=clock)
    meter.measure([listed("a", 41001)], memory=False)
    tree.add_child(502, "b", 41002)
    tree.add_child(503, "hidden", 41003)
    tree.remove("proc/503/stat")
    both = meter.measure([listed("a", 41001), listed("b", 41002)], memory=False)
    tree.remove("proc/503")
    tree.add_child(504, "late", 41004)
    clock.now = 1.5
    late = meter.measure([listed("a", 41001), listed("b", 41002)], memory=False)

    assert [501, 502] == [child.process.pid for child in both.children]
    assert [("a", False), ("b", False), ("late", True)] == [(child.model, child.is_hidden) for child in late.children]


def test_child_that_ended_is_forgotten(tree: Tree) -> None:
    """A child that ended, is a zombie, or whose number is another process's, is not reported."""
    tree.add_router()
    for pid, name in ((501, "gone"), (502, "zombie"), (503, "other"), (504, "stays")):
        tree.add_child(pid, name, 41000 + pid)
    models = [listed(name, 41000 + pid) for pid, name in ((501, "gone"), (504, "stays"))]
    meter = machine(tree)
    assert len(meter.measure(models, memory=False).children) == 4
    for pid in (501, 502, 503):
        tree.remove(f"proc/{pid}")
    tree.add_process(502, parent=500, state="Z")
    tree.add_process(503, started=999_999)

    assert ["stays"] == [child.model for child in meter.measure(models, memory=False).children]


def test_number_of_a_dead_sibling(tree: Tree) -> None:
    """A look at one model alone finds its new child, also where that has the number of another's that has ended."""
    tree.add_router()
    tree.add_child(501, "gone", 41001)
    tree.add_child(502, "a", 41002)
    meter = machine(tree)
    meter.measure([listed("gone", 41001), listed("a", 41002)], memory=False)
    for pid in (501, 502):
        tree.remove(f"proc/{pid}")
    environ = {"LLAMA_SERVER_ROUTER_PORT": "8080"}
    tree.add_process(501, parent=500, args=build_args("a", 41009), environ=environ, files={}, started=999_999)
    found = meter.measure([listed("gone", 41001, "unloaded"), listed("a", 41009)], memory=False, only=("a",))

    assert [("a", 501)] == [(child.model, child.process.pid) for child in found.children]


def test_restarted_router_is_found_again(tree: Tree) -> None:
    """When the router is another process, its children are found anew."""
    tree.add_router(500)
    tree.add_child(501, "a", 41001)
    meter = machine(tree)
    meter.measure([listed("a", 41001)], memory=False)
    for pid in (500, 501):
        tree.remove(f"proc/{pid}")
    tree.write("net/host/tcp", "")
    router = tree.add_router(600)
    tree.add_child(601, "a", 41006, parent=600)
    found = meter.measure([listed("a", 41006)], memory=False)

    assert (router, [601]) == (found.router, [child.process.pid for child in found.children])


def test_old_and_new_child_of_one_model(tree: Tree) -> None:
    """While one child ends and the next starts, the listed one comes first and none is hidden."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_child(502, "a", 41002)
    found = look(tree, listed("a", 41002))

    assert [(502, False), (501, False)] == [(child.process.pid, child.is_hidden) for child in found.children]


def test_kernel_without_lists_of_children(tree: Tree) -> None:
    """Where the kernel does not list a process's children, all processes are looked through."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    meter = machine(tree)
    meter.measure([listed("a", 41001)], memory=False)
    tree.remove("proc/500/task/500/children")
    tree.add_child(502, "b", 41002)
    found = meter.measure([listed("a", 41001), listed("b", 41002)], memory=False)

    assert [501, 502] == [child.process.pid for child in found.children]


def test_odd_ids(tree: Tree) -> None:
    """Quotes, spaces, line breaks, slashes, non-ASCII and ten thousand characters are ids like any other."""
    tree.add_router()
    ids = ['we "quote" it\'s / here', "two\nlines", "emoji 🐎 ü:Q4", "x" * 10_000, " --port", "--alias"]
    for number, name in enumerate(ids):
        tree.add_child(501 + number, name, 41001 + number)
    found = look(tree, *(listed(name, 41001 + number) for number, name in enumerate(ids)))

    assert set(ids) == {child.model for child in found.children} and len(found.children) == len(ids)

"""Where a router is: addresses, names and what is written about them."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.machine.door import Door, Place, find_place, list_own_addresses, resolve_host
from corral.machine.unix import find_unix_listeners
from tests.machine.tree import Tree


def test_own_addresses(tree: Tree) -> None:
    """The addresses of the interfaces are read, networks and broadcast addresses are none of them."""
    assert {"127.0.0.1", "192.0.2.7", "::1", "2001:db8::7"} == list_own_addresses(tree.proc)


def test_label() -> None:
    """A door is shown as people write it, without control codes."""
    assert ["h:1", "[::1]:1", "/run/x\\e.sock"] == [
        door.label for door in (Door("h", 1), Door("::1", 1), Door("", 0, "/run/x\x1b.sock"))
    ]


def test_names_without_an_address(tree: Tree) -> None:
    """A name that leads nowhere is no machine of ours."""
    nothing = find_place(Door("gpu", 1), tree.proc, lambda _: [])
    junk = find_place(Door("gpu", 1), tree.proc, lambda _: ["no address"])

    assert "nowhere" in nothing.reason and "nowhere" in junk.reason


def test_scoped_address(tree: Tree) -> None:
    """An address with the name of an interface behind it is the address."""
    assert Place(frozenset({"::1"})) == find_place(Door("::1%lo", 1), tree.proc, lambda host: [])


def test_system_resolver() -> None:
    """The system's resolver knows this machine."""
    assert {"127.0.0.1", "::1"}.intersection(resolve_host("localhost"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_junk_never_raises(tree: Tree, junk: bytes) -> None:
    """Whatever the tables hold, reading them ends."""
    for name in ("fib_trie", "if_inet6", "unix"):
        tree.write(f"net/host/{name}", junk + b"\nx: 2 0 10000 1 1 7 " + junk)
    list_own_addresses(tree.proc)
    find_unix_listeners(f"{tree.proc}/net", "/run/x")

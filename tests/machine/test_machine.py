"""The Meter: what is in flight, what is held, what is refused, and what is unknown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import corral
from corral.machine import Machine
from corral.machine.door import Door
from corral.machine.readings import Reading
from corral.ops.measurement import Device, DeviceUse, Holder, Measurement, Process
from tests.machine.kit import look, machine
from tests.machine.tree import BINARY, Tree, build_args, listed

ENVIRON = {"PYTHONPATH": str(Path(corral.__file__).parents[1])}
JUNK_PATHS = {
    *(f"proc/501/{name}" for name in ("stat", "cmdline", "environ", "status", "smaps_rollup", "fdinfo/5")),
    *(f"proc/500/{name}" for name in ("stat", "cmdline", "status", "task/500/children")),
    *(f"net/host/{name}" for name in ("tcp", "tcp6", "fib_trie", "if_inet6")),
    *(f"sys/class/drm/card0/device/{name}" for name in ("uevent", "mem_info_vram_total", "product_name")),
    "proc/meminfo",
}


def test_children_and_requests_in_flight(tree: Tree) -> None:
    """Each model's child is found, with its own established connections and nobody else's."""
    router = tree.add_router()
    busy = tree.add_child(501, "busy", 41001)
    idle = tree.add_child(502, "idle", 41002)
    for client in (50001, 50002, 50003):
        tree.connect(41001, client)
    tree.add_socket(41002, state=8, remote=("127.0.0.1", 50009))
    found = look(tree, listed("busy", 41001), listed("idle", 41002), listed("other", None, "unloaded"))

    assert (router, "") == (found.router, found.reason)
    assert [("busy", busy, 41001, 3), ("idle", idle, 41002, 0)] == [
        (child.model, child.process, child.port, child.in_flight) for child in found.children
    ]
    assert not any(child.is_hidden or child.reasons for child in found.children)


def test_look_at_some_models_alone(tree: Tree) -> None:
    """A look that is about some models tells of these, and of no other."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_child(502, "b", 41002)
    tree.connect(41002, 50001)
    found = machine(tree).measure([listed("a", 41001), listed("b", 41002)], memory=False, only=("b",))

    assert [("b", 1)] == [(child.model, child.in_flight) for child in found.children]


def test_connection_not_yet_accepted_is_in_flight(tree: Tree) -> None:
    """A request that the child has not accepted yet counts."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    tree.add_socket(41001, state=3, remote=("127.0.0.1", 50001), inode=0)

    assert look(tree, listed("a", 41001)).children[0].in_flight == 1


def test_child_on_an_ipv6_address(tree: Tree) -> None:
    """Connections count whichever table shows them."""
    tree.add_router()
    args = build_args("a", 41001)
    environ = {"LLAMA_SERVER_ROUTER_PORT": "8080"}
    tree.add_process(501, parent=500, args=args, environ=environ)
    tree.add_socket(41001, address="::1")
    tree.add_socket(41001, address="::1", state=1, remote=("::1", 50001))

    assert look(tree, listed("a", 41001)).children[0].in_flight == 1


def test_unreadable_connections(tree: Tree) -> None:
    """Where no table may be read nothing is said to be idle: unknown, with the reason."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    meter = machine(tree)
    assert meter.measure([listed("a", 41001)], memory=False).children
    tree.remove("net/host/tcp")
    tree.remove("net/host/tcp6")
    child = meter.measure([listed("a", 41001)], memory=False).children[0]

    assert child.in_flight is None and child.reasons == ("its connections may not be read",)


@pytest.mark.parametrize("host", ["203.0.113.9", "gpu.example", "2001:db8::99", ""])
def test_router_on_another_machine(tree: Tree, host: str) -> None:
    """A router on another machine is not looked for here, and that is said."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    found = machine(tree, host).measure([listed("a", 41001)], memory=True)

    assert ((), (), None) == (found.children, found.devices, found.host)
    assert ":8080" in found.reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "192.0.2.7", "0.0.0.0", "2001:db8::7", "::1"])
def test_addresses_of_this_machine(tree: Tree, host: str) -> None:
    """Loopback and every address of an interface are this machine."""
    tree.add_process(500, name="llama-server", args=[BINARY], files={3: "socket:[7]"})
    tree.add_socket(8080, address="::", inode=7)
    tree.add_child(501, "a", 41001)
    found = machine(tree, host).measure([listed("a", 41001)], memory=False)

    assert ([501], "") == ([child.process.pid for child in found.children], found.reason)


def test_host_name_of_this_machine(tree: Tree) -> None:
    """A name counts as this machine if all of its addresses are."""
    tree.add_router()
    tree.add_child(501, "a", 41001)
    answers = {"here": ["127.0.1.1", "127.0.0.1"], "both": ["127.0.0.1", "203.0.113.9"]}

    def measure(host: str) -> Measurement:
        meter = Machine(Door(host, 8080), proc=tree.proc, resolve=answers.__getitem__, readers=())
        return meter.measure([listed("a", 41001)], memory=False)

    assert [501] == [child.process.pid for child in measure("here").children]
    assert "another machine" in measure("both").reason


def test_system_without_proc(tree: Tree) -> None:
    """Where there is no /proc, as on macOS, nothing is guessed."""
    tree.remove("proc/meminfo")
    found = look(tree, listed("a", 41001))

    assert found.children == () and "/proc" in found.reason


def test_memory_of_children_and_machine(tree: Tree) -> None:
    """Asked for memory, each child has what its end gives back, what stays as cache, and its part of devices."""
    tree.add_router()
    process = tree.add_child(501, "a", 41001)
    tree.write("proc/501/smaps_rollup", "Pss_Anon:  300 kB\nPss_File:  40 kB\nPss_Shmem:  5 kB\n")
    other = Process(9, 9, "game")
    holders = (Holder(process, 700), Holder(other, 20))
    device = Device("nvidia:0", "Card", 1000, 720, 280, holders)
    found = machine(tree, readings=[Reading((device,))]).measure([listed("a", 41001)], memory=True)
    child = found.children[0]

    assert (305 << 10, 40 << 10, (DeviceUse("nvidia:0", 700),)) == (child.host_bytes, child.cache_bytes, child.devices)
    assert (Holder(process, 700, "a"), Holder(other, 20, None)) == found.devices[0].holders
    assert found.host is not None and 2048 << 10 == found.host.anonymous_bytes


def test_unknown_memory_has_its_reason(tree: Tree) -> None:
    """What a device does not tell is None for the child, and the reasons stand beside it."""
    tree.add_router()
    process = tree.add_child(501, "a", 41001)
    silent = Reading((), frozenset({501}), "no library")
    nameless = Reading((Device("nvidia:0", "Card", 1, 1, 0, (Holder(process, None),)),))
    unknown = machine(tree, readings=[silent]).measure([listed("a", 41001)], memory=True).children[0]
    unsized = machine(tree, readings=[nameless]).measure([listed("a", 41001)], memory=True).children[0]

    assert (None, None, None) == (unknown.devices, unknown.device_bytes, unknown.total_bytes)
    assert ("its memory may not be read", "no library") == unknown.reasons
    assert (DeviceUse("nvidia:0", None),) == unsized.devices and unsized.device_bytes is None
    assert "does not tell" in unsized.reasons[-1]


def test_living(tree: Tree) -> None:
    """Of some processes those are named that have not ended; a zombie has, unless its other threads still run."""
    alive = tree.add_process(10)
    zombie = tree.add_process(11, state="Z")
    ending = tree.add_process(12, state="Z", threads=3)
    reused = Process(10, 77)

    assert (alive, ending) == machine(tree).find_living([alive, zombie, ending, reused, Process(99, 1)])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(JUNK_PATHS)), st.binary(max_size=80))
def test_junk_never_raises(tree: Tree, path: str, junk: bytes) -> None:
    """Whatever any file of the machine holds, a look ends in a measurement, and so does one at peers and orphans."""
    if not Path(tree.proc, "500").exists():
        tree.add_router()
        tree.add_child(501, "a", 41001)
        tree.link("proc/501/fd/5", "/dev/dri/renderD128")
        tree.write("sys/class/drm/card0/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0\n")
    tree.write(path, junk)
    meter = Machine(Door("127.0.0.1", 8080), proc=tree.proc, sys=tree.sys)
    for _ in range(2):
        meter.measure([listed("a", 41001)], memory=True)
    meter.find_peers()
    meter.find_orphans(())
    meter.find_living([Process(501, 50100)])


def test_start_up_is_cheap() -> None:
    """Having a Machine loads nothing that is slow to load, and no library of a device."""
    names = ["asyncio", "ctypes", "dataclasses", "inspect", "logging", "pynvml", "socket", "subprocess", "typing"]
    script = f"import sys; from corral.machine import Machine; print(*sorted(sys.modules.keys() & set({names})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=ENVIRON)

    assert "" == done.stdout.strip()

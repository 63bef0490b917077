"""NVIDIA devices: which way of asking is taken, and whose memory is whose. None of this ran on a card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from corral.machine.nvidia import Nvidia
from corral.machine.readings import CardsUnreadableError
from corral.ops.measurement import DeviceUse, Holder, Process
from tests.machine.cards import FakeCard, FakeError, FakeLibrary, Memory, Usage
from tests.machine.test_nvidia_smi import Tool
from tests.machine.tree import MIB, Tree

DEVICE = {5: "/dev/nvidia0", 6: "/dev/nvidiactl"}


def no_library() -> Any:
    """A system without the package."""
    raise CardsUnreadableError("the package nvidia-ml-py is not installed")


def no_tool(command: Sequence[str]) -> str:
    """A system without the program."""
    raise CardsUnreadableError("nvidia-smi is not installed")


def reader(tree: Tree, library: FakeLibrary | None = None, run: Any = no_tool) -> Nvidia:
    """A reader on a machine with a driver."""
    tree.write("dev/nvidiactl", "")
    return Nvidia(proc=tree.proc, dev=tree.dev, load=no_library if library is None else lambda: library, run=run)


def test_machine_without_a_driver(tree: Tree) -> None:
    """Where there is no driver nothing is loaded or started, and a child holds nothing on such a device."""
    nvidia = Nvidia(proc=tree.proc, dev=tree.dev, load=lambda: pytest.fail("loaded"), run=lambda _: pytest.fail("run"))
    reading = nvidia.read([501])

    assert ((), ()) == (reading.devices, reading.find_uses(Process(501, 1)))


def test_child_and_others(tree: Tree) -> None:
    """A child's memory is told by its pid, and who else holds memory stands beside it."""
    child = tree.add_process(501, name="llama-server", files=DEVICE)
    game = tree.add_process(9, name="game", files=DEVICE)
    card = FakeCard("RTX", Memory(1000, 900), (Usage(501, 700),), (Usage(9, 150), Usage(77, 50)))
    reading = reader(tree, FakeLibrary(card)).read([501])

    assert (DeviceUse("nvidia:0", 700),) == reading.find_uses(child)
    assert (Holder(child, 700), Holder(game, 150), Holder(Process(77, 0), 50)) == reading.devices[0].holders
    assert (1000, 900, 100, "") == (
        reading.devices[0].total_bytes,
        reading.devices[0].used_bytes,
        reading.devices[0].free_bytes,
        reading.devices[0].reason,
    )


def test_library_is_started_once(tree: Tree) -> None:
    """The driver is connected to once, however often it is asked."""
    library = FakeLibrary(FakeCard())
    nvidia = reader(tree, library)
    nvidia.read([])
    nvidia.read([])

    assert 1 == library.starts


def test_child_that_is_not_named_holds_nothing(tree: Tree) -> None:
    """Where the driver names every process, a child without an entry holds nothing."""
    child = tree.add_process(501, files=DEVICE)

    assert () == reader(tree, FakeLibrary(FakeCard())).read([501]).find_uses(child)


def test_other_process_with_the_childs_number(tree: Tree) -> None:
    """In a container an old driver's number may be another process's: without an open device it is not believed."""
    tree.link("proc/self/ns/pid", "pid:[4026532222]")
    child = tree.add_process(501, files={0: "/dev/null"})
    reading = reader(tree, FakeLibrary(FakeCard(compute=(Usage(501, 700),)))).read([501])

    assert () == reading.find_uses(child)
    assert (Holder(Process(501, 0), 700),) == reading.devices[0].holders


def test_container_whose_processes_are_not_named(tree: Tree) -> None:
    """In a container a child that has the device open and no entry holds an unknown amount, and the reason is said."""
    tree.link("proc/self/ns/pid", "pid:[4026532222]")
    child = tree.add_process(501, files=DEVICE)
    hidden = tree.add_process(502)
    reading = reader(tree, FakeLibrary(FakeCard(compute=(Usage(90_501, 700),)))).read([501, 502])

    assert reading.find_uses(child) is None and reading.find_uses(hidden) is None
    assert "container" in reading.reason


def test_wsl(tree: Tree) -> None:
    """Under WSL the driver lists no processes: devices are shown, a child's part is unknown."""
    tree.write("dev/dxg", "")
    child = tree.add_process(501, files={3: "/dev/dxg"})
    nvidia = Nvidia(proc=tree.proc, dev=tree.dev, load=lambda: FakeLibrary(FakeCard()), run=no_tool)
    reading = nvidia.read([501])

    assert reading.find_uses(child) is None and 1000 == reading.devices[0].total_bytes


def test_refused_list_of_processes(tree: Tree) -> None:
    """A driver that refuses to name processes leaves holders and children unknown, in its own words."""
    child = tree.add_process(501, files=DEVICE)
    refused = FakeError("Insufficient Permissions")
    reading = reader(tree, FakeLibrary(FakeCard(compute=refused, graphics=refused))).read([501])

    assert reading.devices[0].holders is None and reading.find_uses(child) is None
    assert "processes: Insufficient Permissions" == reading.reason == reading.devices[0].reason


def test_program_stands_in_for_the_library(tree: Tree) -> None:
    """Without the package the program is asked; a child that it does not name may still use Vulkan."""
    child = tree.add_process(501, name="llama-server", files=DEVICE)
    vulkan, cpu = tree.add_process(502, files=DEVICE), tree.add_process(503, files={})
    reading = reader(tree, run=Tool()).read([501, 502, 503])

    assert (DeviceUse("nvidia:0", 8000 * MIB),) == reading.find_uses(child)
    assert reading.find_uses(vulkan) is None and "nvidia-smi" in reading.reason
    assert () == reading.find_uses(cpu)
    assert ["llama-server", "game, the"] == [holder.process.name for holder in reading.devices[0].holders or ()]


def test_neither_library_nor_program(tree: Tree) -> None:
    """A driver that nothing can ask leaves children unknown, and what is missing is said."""
    child, cpu = tree.add_process(501, files=DEVICE), tree.add_process(502, files={})
    reading = reader(tree).read([501, 502])

    assert reading.find_uses(child) is None and () == reading.find_uses(cpu) and not reading.devices
    assert "nvidia-ml-py is not installed; nvidia-smi is not installed" in reading.reason


def test_library_without_a_driver_gives_way(tree: Tree) -> None:
    """A library that cannot reach the driver is replaced by the program, and tried again at the next look."""
    library = FakeLibrary(FakeCard(), broken="Driver/library version mismatch")
    nvidia = reader(tree, library, Tool())

    assert 2 == len(nvidia.read([]).devices) and 2 == len(nvidia.read([]).devices)
    assert 2 == library.starts

"""AMD and Intel devices. The trees are built from the kernel's documentation; none was read on such a device."""

from __future__ import annotations

from corral.machine.drm import Drm
from corral.ops.measurement import Device, DeviceUse, Holder
from tests.machine.tree import MIB, Tree

AMD_PCI, INTEL_PCI = "0000:03:00.0", "0000:00:02.0"


def add_card(tree: Tree, number: int, driver: str, pci: str, **files: int) -> None:
    """A card as sysfs shows it."""
    folder = f"sys/class/drm/card{number}"
    tree.write(f"{folder}/device/uevent", f"DRIVER={driver}\nPCI_CLASS=30000\nPCI_ID=1002:744C\nPCI_SLOT_NAME={pci}\n")
    for name, size in files.items():
        tree.write(f"{folder}/device/{name}", f"{size}\n")


def add_client(tree: Tree, pid: int, handle: int, number: int, pci: str = AMD_PCI, **memory: int) -> None:
    """An open file of a device, with MiB in each region."""
    tree.link(f"proc/{pid}/fd/{handle}", "/dev/dri/renderD128")
    lines = [f"drm-resident-{region}:\t{size} MiB" for region, size in memory.items()]
    head = [f"drm-pdev:\t{pci}", f"drm-client-id:\t{number}"]
    tree.write(f"proc/{pid}/fdinfo/{handle}", "\n".join([*head, *lines, ""]))


def reader(tree: Tree) -> Drm:
    """A reader of this machine."""
    return Drm(proc=tree.proc, sys=tree.sys)


def test_machine_without_such_a_device(tree: Tree) -> None:
    """Where no known driver runs a card, nothing is read and a child holds nothing there."""
    child = tree.add_process(501)
    add_card(tree, 0, "nvidia", AMD_PCI)
    tree.write("sys/class/drm/card0-DP-1/status", "connected\n")
    reading = reader(tree).read([501])

    assert ((), ()) == (reading.devices, reading.find_uses(child))


def test_amd_card(tree: Tree) -> None:
    """An AMD card's memory comes from sysfs, and who holds it from the processes, each client once."""
    add_card(tree, 0, "amdgpu", AMD_PCI, mem_info_vram_total=16000 * MIB, mem_info_vram_used=900 * MIB)
    child = tree.add_process(501, files={0: "/dev/null"})
    game = tree.add_process(9, files={})
    add_client(tree, 501, 5, 1, vram=700, gtt=3)
    add_client(tree, 501, 6, 1, vram=690)
    add_client(tree, 501, 7, 2, vram=10)
    add_client(tree, 9, 5, 3, vram=100)
    # The same client, handed over to another process, is no second use.
    add_client(tree, 9, 6, 1, vram=700)
    reading = reader(tree).read([501])

    holders = (Holder(child, 710 * MIB), Holder(game, 100 * MIB))
    sizes = (16000 * MIB, 900 * MIB, 15100 * MIB)
    assert (Device(f"drm:{AMD_PCI}", "AMD 1002:744C", *sizes, holders),) == reading.devices
    assert (DeviceUse(f"drm:{AMD_PCI}", 710 * MIB),) == reading.find_uses(child)


def test_amd_device_that_shares_the_machines_memory(tree: Tree) -> None:
    """Of an integrated AMD device the memory that the machine lends is a device of its own."""
    own = {"mem_info_vram_total": 512 * MIB, "mem_info_vram_used": 100 * MIB}
    add_card(tree, 1, "amdgpu", AMD_PCI, **own, mem_info_gtt_total=8000 * MIB, mem_info_gtt_used=3000 * MIB)
    child = tree.add_process(501, files={})
    add_client(tree, 501, 5, 1, vram=50, gtt=2500)
    reading = reader(tree).read([501])

    assert [(f"drm:{AMD_PCI}", 412 * MIB), (f"drm:{AMD_PCI}:gtt", 5000 * MIB)] == [
        (device.id, device.free_bytes) for device in reading.devices
    ]
    assert [50 * MIB, 2500 * MIB] == [use.used_bytes for use in reading.find_uses(child) or ()]


def test_intel_card(tree: Tree) -> None:
    """An Intel card tells its processes' memory, and of its own at most how much there is."""
    add_card(tree, 0, "xe", INTEL_PCI)
    tree.write("sys/class/drm/card0/device/tile0/physical_vram_size_bytes", f"{8000 * MIB}\n")
    tree.write("sys/class/drm/card0/device/tile1/physical_vram_size_bytes", f"{8000 * MIB}\n")
    child = tree.add_process(501, files={})
    add_client(tree, 501, 5, 1, INTEL_PCI, vram0=700, vram1=50, system=9, gtt=1)
    device = reader(tree).read([501]).devices[0]

    assert (16000 * MIB, None, None) == (device.total_bytes, device.used_bytes, device.free_bytes)
    assert (Holder(child, 750 * MIB),) == device.holders and "used in all" in device.reason


def test_intel_card_of_the_older_driver(tree: Tree) -> None:
    """The older driver's card is known to have memory of its own by its size, or by what its clients tell."""
    add_card(tree, 0, "i915", INTEL_PCI, lmem_total_bytes=4000 * MIB)
    add_card(tree, 1, "i915", AMD_PCI)
    child = tree.add_process(501, files={})
    add_client(tree, 501, 5, 1, AMD_PCI, local0=700, system0=5)
    one, two = reader(tree).read([501]).devices

    assert (4000 * MIB, None) == (one.total_bytes, two.total_bytes)
    assert ((), (Holder(child, 700 * MIB),)) == (one.holders, two.holders)


def test_intel_device_that_shares_the_machines_memory(tree: Tree) -> None:
    """An integrated Intel device holds memory of the machine, which is told as such."""
    add_card(tree, 0, "i915", INTEL_PCI)
    child = tree.add_process(501, files={})
    add_client(tree, 501, 5, 1, INTEL_PCI, system0=300)
    device = reader(tree).read([501]).devices[0]

    assert (Holder(child, 300 * MIB),) == device.holders and "lent by the machine" in device.name


def test_processes_of_others(tree: Tree) -> None:
    """A child that may not be read is unknown, other users' processes make the list a part, kernel threads do not."""
    add_card(tree, 0, "amdgpu", AMD_PCI, mem_info_vram_total=100, mem_info_vram_used=50)
    child = tree.add_process(501, files={})
    tree.add_process(2, name="kthreadd")
    whole = reader(tree).read([501])
    hidden = tree.add_process(502, args=["llama-server"])
    part = reader(tree).read([501, 502])

    assert ("", ()) == (whole.devices[0].reason, whole.find_uses(child))
    assert "other users" in part.devices[0].reason and part.find_uses(hidden) is None and part.reason
    assert () == part.find_uses(child)


def test_product_name(tree: Tree) -> None:
    """A card that tells its name is called by it; one card's several entries are one device."""
    add_card(tree, 0, "amdgpu", AMD_PCI)
    add_card(tree, 1, "amdgpu", AMD_PCI)
    tree.write("sys/class/drm/card0/device/product_name", "Instinct MI210\n")
    devices = reader(tree).read([]).devices

    assert ["AMD Instinct MI210"] == [device.name for device in devices]
    assert (None, None, None) == (devices[0].total_bytes, devices[0].used_bytes, devices[0].free_bytes)

"""Which readers of devices are imported at all."""

from __future__ import annotations

from corral.machine.devices import find_readers, has_nvidia_driver
from corral.machine.drm import Drm
from tests.machine.tree import Tree


def test_no_reader_without_devices(tree: Tree) -> None:
    """A machine without drivers of devices pays for no reader."""
    assert not has_nvidia_driver(tree.proc, tree.dev)
    assert Drm not in [type(reader) for reader in find_readers(tree.proc, tree.sys)]


def test_reader_where_a_driver_is(tree: Tree) -> None:
    """Each sign of a driver brings its reader."""
    tree.write("sys/class/drm/version", "drm 1.1.0\n")
    tree.write("proc/driver/nvidia/version", "NVRM version\n")

    names = [type(reader).__name__ for reader in find_readers(tree.proc, tree.sys)]

    assert names == ["Nvidia", "Drm"]
    assert has_nvidia_driver(tree.proc, tree.dev)

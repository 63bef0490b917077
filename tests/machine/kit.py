"""A Meter on a built tree, with a clock and readers of devices that the test decides."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from corral.machine import Machine
from corral.machine.door import Door
from corral.machine.readings import Reading
from corral.ops.measurement import Measurement
from corral.wire import Model
from tests.machine.tree import Tree


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FixedReader:
    """A reader of devices that always sees the same."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def read(self, children: Collection[int]) -> Reading:
        """What it was given."""
        return self.reading


def no_names(host: str) -> Iterable[str]:
    """A system that knows no host name."""
    raise OSError(host)


def machine(
    tree: Tree,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    socket_path: str = "",
    clock: Clock | None = None,
    readings: Sequence[Reading] = (),
) -> Machine:
    """The machine that a tree describes."""
    door = Door("", 0, socket_path) if socket_path else Door(host, port)
    readers = [FixedReader(reading) for reading in readings]
    return Machine(door, proc=tree.proc, sys=tree.sys, readers=readers, resolve=no_names, clock=clock or Clock())


def look(tree: Tree, *models: Model) -> Measurement:
    """One look without memory."""
    return machine(tree).measure(models, memory=False)

"""A stand-in for the machine of a raw router: one card, and what the router's models hold there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corral.ops.measurement import Child, Device, DeviceUse, Holder, HostMemory, Measurement, Process
from corral.wire import Model
from tests.faces.kit import RawRouter

GIB = 1 << 30
BLENDER = Process(77, 1, "blender")


class Card:
    """A meter of a machine with one card of 24 GiB: what a resident model holds there, and blender's 2 GiB."""

    def __init__(self, raw: RawRouter, held_gib: dict[str, int]) -> None:
        self.raw, self.held_gib = raw, held_gib
        self.in_flight: dict[str, int | None] = {}
        self.slips_in: dict[str, int] = {}
        """What comes between the look that decides and those of the unload."""
        self.last_active_s: dict[str, float] = {}
        self.others_gib = 2
        self.takes_gib = 0
        """What blender takes as soon as a model has gone."""
        self.reason = ""
        self.still_seen: set[str] = set()
        """Models that are unloaded, and whose process is seen for one look more."""
        self.on_look: Callable[[], None] | None = None
        """Called before each look that asks for what was recent."""
        self.on_proof: Callable[[], None] | None = None
        """Called when it is asked which processes live."""

    def measure(
        self, models: Sequence[Model], *, memory: bool, recent: bool = False, only: Sequence[str] = ()
    ) -> Measurement:
        """One look."""
        if recent and self.on_look is not None:
            self.on_look()
        if self.reason:
            return Measurement((), reason=self.reason)
        up = [name for name in self.held_gib if self.raw.models[name] != "unloaded" or name in self.still_seen]
        self.still_seen = set()
        children = tuple(self._build(name, {} if recent else self.slips_in) for name in up)
        others = self.others_gib + self.takes_gib * (len(up) < len(self.held_gib))
        used = (sum(self.held_gib[name] for name in up) + others) * GIB
        card = Device("nvidia:0", "NVIDIA One", 24 * GIB, used, 24 * GIB - used, (Holder(BLENDER, others * GIB),))
        return Measurement(children, (card,), HostMemory(64 * GIB, 32 * GIB, 0), Process(9, 1))

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """Those whose model is still up."""
        if self.on_proof is not None:
            self.on_proof()
        up = {child.process for child in self.measure((), memory=False).children}
        return tuple(process for process in processes if process in up)

    def _build(self, name: str, slips_in: dict[str, int]) -> Child:
        held = self.held_gib[name] * GIB
        process = Process(self.raw.ports[name] + 1000, 1, name)
        return Child(
            name,
            process,
            self.raw.ports[name],
            slips_in.get(name, self.in_flight.get(name, 0)),
            0,
            0,
            (DeviceUse("nvidia:0", held),),
            last_active_s=self.last_active_s.get(name),
        )

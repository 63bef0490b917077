"""Whether the memory of what was unloaded is back, as the machine shows it.

A model's memory counts as freed when its process was measured before, is seen to be gone after, and on every
device that it used no dead process is listed any more and the free figure has stopped changing. What the
machine never showed is not proven and not doubted: the list's word stands alone for it (``status only``).
"""

from __future__ import annotations

from corral.ops.protocol import Measure, WakeAt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.ops.measurement import Child, Device, Measurement, Process
    from corral.ops.protocol import Effect
    from corral.wire import Listing

LOOK_S = 0.02
STEADY_S = 0.1
"""A device's free figure has to stand still for this long."""
_STEADY_BYTES = 8 << 20
"""Smaller changes than this are other programs at work."""


class Proof:
    """Collects the evidence for the models that the list shows unloaded."""

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}
        self._dead: set[Process] = set()
        self._alive: set[Process] = set()
        """Those that a look after the end of their model still found."""
        self._devices: dict[str, Device] = {}
        """The newest look at each device."""
        self._steady_since: dict[str, float] = {}
        self._looked_at = self._taken_at = -LOOK_S

    def expect(self, model_id: str, child: Child) -> None:
        """This process was the model's when it was asked to unload."""
        self._children[model_id] = child

    def next(self, model_ids: Sequence[str], listing: Listing, now: float, *, every_s: float = LOOK_S) -> list[Effect]:
        """The look that is due, when there is anything left to prove of these models; else nothing."""
        open_ids = [model_id for model_id in model_ids if self.is_open(model_id)]
        if not open_ids:
            return []
        if now < self._looked_at + every_s:
            return [WakeAt(self._looked_at + every_s)]
        self._looked_at = now
        children = [self._children[model_id] for model_id in open_ids]
        memory = any(child.devices for child in children)
        return [Measure(listing.models, memory, tuple(child.process for child in children))]

    def take(self, measurement: Measurement, asked: Sequence[Process], living: Sequence[Process], now: float) -> None:
        """The machine was looked at after at least one model ended: of the processes ``asked``, ``living`` live."""
        self._alive = (self._alive - set(asked)) | set(living)
        self._dead |= set(asked) - set(living)
        for device in measurement.devices:
            before = self._devices.get(device.id)
            self._devices[device.id] = device
            if before is None or not _is_alike(before.free_bytes, device.free_bytes) or self._find_holders(device):
                self._steady_since[device.id] = now
            else:
                self._steady_since.setdefault(device.id, now)
        self._taken_at = now

    def is_seen(self, model_id: str) -> bool:
        """Whether the machine showed this model's process, and was looked at after its end."""
        child = self._children.get(model_id)
        return child is not None and child.process in self._dead | self._alive

    def is_dead(self, model_id: str) -> bool:
        """Whether this model's process is seen to be gone."""
        child = self._children.get(model_id)
        return child is not None and child.process in self._dead

    def is_open(self, model_id: str) -> bool:
        """Whether something of this model is still to be seen."""
        child = self._children.get(model_id)
        if child is None:
            return False
        return child.process not in self._dead or any(not self._is_back(use.device) for use in child.devices or ())

    def is_refuted(self, model_id: str) -> bool:
        """Whether the machine was looked at and showed that something of this model is still held."""
        return self.is_seen(model_id) and self.is_open(model_id)

    def freed_bytes(self, model_id: str) -> int | None:
        """What the end of this model gave back; None when that was not seen or not measured."""
        child = self._children.get(model_id)
        return None if child is None or self.is_open(model_id) else child.total_bytes

    def explain(self, model_id: str) -> str:
        """Why the memory of this model was not seen to be free."""
        child = self._children[model_id]
        if child.process not in self._dead:
            return f"its process {child.process.pid} still lives"
        parts = []
        for use in child.devices or ():
            device = self._devices.get(use.device)
            if device is None:
                parts.append(f"{use.device} could not be read again")
            elif not self._is_back(use.device):
                held = ", ".join(f"{h.process.name or '?'} (pid {h.process.pid})" for h in device.holders or ())
                parts.append(f"the memory of {device.name} does not settle; in use there: {held or 'not known'}")
        return "; ".join(parts)

    def _is_back(self, device_id: str) -> bool:
        since = self._steady_since.get(device_id)
        return since is not None and self._taken_at - since >= STEADY_S

    def _find_holders(self, device: Device) -> bool:
        """Whether one of ours that is dead is still listed there."""
        dead = {process.pid for process in self._dead}
        return any(holder.process.pid in dead for holder in device.holders or ())


def _is_alike(before: int | None, after: int | None) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= _STEADY_BYTES

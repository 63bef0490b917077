"""What the readers of devices hand over, and what follows of it for each child."""

from __future__ import annotations

from corral.ops.measurement import Device, DeviceUse, Holder, Process
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Reading(Record):
    """What one reader saw of the devices that it knows; nothing where there is none of them."""

    devices: tuple[Device, ...] = ()
    unknown: frozenset[int] = frozenset()
    """The pids of the children whose part the devices do not tell."""
    reason: str = ""
    """Why that is so."""

    def find_uses(self, process: Process) -> tuple[DeviceUse, ...] | None:
        """What a child holds on these devices; None when that is not known."""
        if process.pid in self.unknown:
            return None
        held = ((device.id, holder) for device in self.devices for holder in device.holders or ())
        mine = ((device, holder) for device, holder in held if is_same(holder.process, process))
        return tuple(DeviceUse(device, holder.used_bytes) for device, holder in mine)


def is_same(one: Process, other: Process) -> bool:
    """Whether both are the same process; a process may change its name."""
    return one.pid == other.pid and one.started == other.started


def name_models(device: Device, models: Mapping[int, str]) -> Device:
    """The device with the models of those of its holders that are children; ``models`` is by pid."""
    if device.holders is None:
        return device
    holders = tuple(Holder(one.process, one.used_bytes, models.get(one.process.pid)) for one in device.holders)
    sizes = (device.total_bytes, device.used_bytes, device.free_bytes)
    return Device(device.id, device.name, *sizes, holders, device.reason, device.is_lent)


class Use(Record):
    """A process on a card, as the driver names it."""

    pid: int
    used_bytes: int | None
    name: str = ""


class Card(Record):
    """An NVIDIA card, or a part of one (MIG), as its driver describes it."""

    id: str
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    uses: tuple[Use, ...] | None = None
    """None when the driver names no processes."""
    reason: str = ""
    """Why something is None, or some process may be missing."""


class CardsUnreadableError(Exception):
    """This way of asking the driver does not work here; the text says why."""

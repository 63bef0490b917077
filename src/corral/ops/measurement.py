"""What the router's own machine says of its children, as values: processes, connections, memory, devices.

``corral.machine`` reads it; the verbs decide by it and the faces show it. What could not be read is None and
comes with a reason; it is never 0.
"""

from __future__ import annotations

from corral.wire import Model, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol
else:

    class Protocol:
        """Stands in at run time, where ``typing`` would cost start-up time."""


class Process(Record):
    """One process, for certain: the number alone may be used again."""

    pid: int
    started: int
    """Clock ticks after boot, field 22 of ``/proc/PID/stat``."""
    name: str = ""


class DeviceUse(Record):
    """What one process holds on one device."""

    device: str
    """The ``id`` of a Device."""
    used_bytes: int | None
    """None when the driver names the process without an amount."""


class Child(Record):
    """The process behind one model."""

    model: str
    """The model's id; for a child that the list hides, the name it was started with."""
    process: Process
    port: int
    in_flight: int | None
    """Requests being answered: established connections to its port."""
    host_bytes: int | None = None
    """What its end gives back: anonymous and shared memory, each page by its share (``Pss_Anon``, ``Pss_Shmem``)."""
    cache_bytes: int | None = None
    """File-backed pages by share; they stay as cache when it ends."""
    devices: tuple[DeviceUse, ...] | None = None
    """Empty when it holds nothing on any device; None when no device could be read."""
    is_hidden: bool = False
    """Not in the router's list (``dedup-cache-models``)."""
    reasons: tuple[str, ...] = ()
    """Why something above is None."""
    last_active_s: float | None = None
    """How long ago a connection to it was last open, 0 for one that is, or it was started. None when neither was
    within the last minute, which is as long as the system remembers, when that cannot be seen, and when it was not
    asked for."""

    @property
    def device_bytes(self) -> int | None:
        """Its memory on all devices together; None when any part is unknown."""
        if self.devices is None or any(use.used_bytes is None for use in self.devices):
            return None
        return sum(use.used_bytes or 0 for use in self.devices)

    @property
    def total_bytes(self) -> int | None:
        """What its end gives back, on host and devices together; None when nothing of it is known."""
        known = [part for part in (self.host_bytes, self.device_bytes) if part is not None]
        return sum(known) if known else None


class Holder(Record):
    """A process that holds memory on a device."""

    process: Process
    used_bytes: int | None
    model: str | None = None
    """The model whose child it is; None when it is not the router's."""


class Device(Record):
    """One device with memory of its own."""

    id: str
    """Stable on this machine, such as ``nvidia:0`` or ``drm:0000:03:00.0``."""
    name: str
    total_bytes: int | None
    used_bytes: int | None
    free_bytes: int | None
    holders: tuple[Holder, ...] | None
    """Who uses it; None when that could not be read, a part of the truth when ``reason`` says so."""
    reason: str = ""
    is_lent: bool = False
    """Its memory is a part of the machine's own."""


class HostMemory(Record):
    """The machine's own memory (``/proc/meminfo``)."""

    total_bytes: int | None
    available_bytes: int | None
    anonymous_bytes: int | None


class Measurement(Record):
    """One look at the machine."""

    children: tuple[Child, ...]
    """Those that were found; a resident model that is missing here could not be seen."""
    devices: tuple[Device, ...] = ()
    host: HostMemory | None = None
    router: Process | None = None
    reason: str = ""
    """Why the router's processes cannot be seen at all; empty when they can."""

    def find(self, model_id: str) -> Child | None:
        """The child of a model; None when it was not seen."""
        return next((child for child in self.children if child.model == model_id), None)


class Peer(Record):
    """Who is connected to the router now."""

    address: str
    """Where the connections come from, without the port."""
    connections: int
    process: Process | None = None
    """None when it runs on another machine, or belongs to a user whose processes cannot be read."""
    user: int | None = None
    """The user id of a client on this machine; None when it is not known."""


class Orphan(Record):
    """A child whose router is gone: nobody will end it, and what it holds stays held."""

    process: Process
    model: str
    """The name it was started with."""
    port: int
    router_port: int | None
    """The port of the router that started it; None when that was not a number."""
    host_bytes: int | None = None
    devices: tuple[DeviceUse, ...] | None = None
    reasons: tuple[str, ...] = ()
    """Why something above is None."""


class Meter(Protocol):
    """Looks at the machine. Touches no model and no router; never raises."""

    def measure(
        self, models: Sequence[Model], *, memory: bool, recent: bool = False, only: Sequence[str] = ()
    ) -> Measurement:
        """Find the children of these models, with requests in flight, and with ``memory`` what they and devices hold.

        ``models`` is the whole list, so that a child of the router that is not in it is known as hidden. With
        ``recent`` also how long ago each was last active. ``only`` names models that alone are told, all when empty:
        a look without memory is quicker so.
        """

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """Those of these processes that have not ended; a zombie has."""

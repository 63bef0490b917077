"""The router's own machine: the Meter that reads it.

One object for one router. Nothing here touches the router or a model, and nothing raises: what cannot be read is
None, with its reason.
"""

from __future__ import annotations

import os
from time import monotonic

from corral.machine.devices import find_readers
from corral.machine.door import Door, Doorway, Place, find_place, resolve_host
from corral.machine.family import FamilyFinder
from corral.machine.netlink import ask_kernel
from corral.machine.procfs import is_living, read_age
from corral.machine.sockets import REMEMBERED_S, Sockets
from corral.machine.stillness import Stillness
from corral.ops.measurement import Child, Measurement, Orphan
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Protocol

    from corral.machine.family import Kin
    from corral.machine.memory import Footprint
    from corral.machine.readings import Reading
    from corral.machine.sockets import Ask
    from corral.ops.measurement import DeviceUse, Peer, Process
    from corral.wire import Model

    class DeviceReader(Protocol):
        """Reads the devices of one kind."""

        def read(self, children: Collection[int]) -> Reading:
            """Look at all devices; ``children`` are the pids for which it matters whether they are told."""


_NO_PROC = "this system has no /proc, where Linux shows processes, connections and memory"
_NO_CONNECTIONS = "its connections may not be read"
_NO_AMOUNT = "the driver does not tell how much it holds on the device"


class Machine:
    """What this computer says of one router; ``Machine.for_router`` is the usual way to have one.

    Parameters:
        door: the router's address.
        proc, sys: the roots of the trees.
        ask: asks the kernel for the sockets of our own network; None means to read the tables in ``proc``.
        readers: the readers of devices; None means NVIDIA's, AMD's and Intel's.
        resolve: gives the addresses of a host name, or raises OSError.
        clock: seconds that never run backwards.
    """

    def __init__(
        self,
        door: Door,
        *,
        proc: str = "/proc",
        sys: str = "/sys",
        ask: Ask | None = None,
        readers: Sequence[DeviceReader] | None = None,
        resolve: Callable[[str], Iterable[str]] = resolve_host,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._door, self._proc, self._sys = door, proc, sys
        self._readers, self._resolve, self._clock = readers, resolve, clock
        self._sockets = Sockets(proc, ask)
        self._stillness = Stillness(proc, self._sockets)
        self._place: Place | None = None
        self._finder: FamilyFinder | None = None

    @classmethod
    def for_router(cls, host: str = "", port: int = 0, socket_path: str = "") -> Machine:
        """The machine of the router at this address; no name is looked up and nothing is read yet."""
        return cls(Door(host, port, socket_path), ask=ask_kernel)

    def measure(
        self, models: Sequence[Model], *, memory: bool, recent: bool = False, only: Sequence[str] = ()
    ) -> Measurement:
        """Find the children of these models, with requests in flight, and with ``memory`` what they and devices hold.

        ``models`` is the whole list, so that a child of the router that is not in it is known as hidden. With
        ``recent`` also how long ago each was last active. ``only`` names models that alone are told, all when empty:
        a look without memory is quicker so.
        """
        reason = self._find_place().reason
        if reason:
            return Measurement((), reason=reason)
        family = self._get_finder().find(models, only)
        if family.reason:
            return Measurement((), reason=family.reason)
        listed = {model.id: model.port for model in models}
        # A model may have two for a moment, one that ends and one that starts: the one that is listed comes first.
        meant = [one for one in family.children if not only or one.alias in only]
        kin = sorted(meant, key=lambda one: listed.get(one.alias) != one.port)
        if memory:
            return self._measure_memory(family.router, kin, listed, recent=recent)
        traffic = self._read_traffic(family.router, kin, recent=recent)
        return Measurement(tuple(_describe(one, traffic, listed) for one in kin), router=family.router)

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """Those of these processes that have not ended; a zombie has."""
        return tuple(process for process in processes if is_living(self._proc, process))

    def find_peers(self, *, own_pid: int | None = None) -> tuple[Peer, ...] | None:
        """Who is connected to the router now, this process excluded; None when that cannot be seen."""
        from corral.machine.peers import find_peers

        place = self._find_place()
        if place.reason or self._door.socket_path:
            return None
        pid = os.getpid() if own_pid is None else own_pid
        return find_peers(self._proc, self._sockets, self._door.port, self._get_finder().find_router(), pid)

    def find_orphans(self, listed_ports: Collection[int]) -> tuple[Orphan, ...]:
        """Children of this user whose router is gone; ``listed_ports`` are those that living routers list."""
        from corral.machine.orphans import find_orphans

        found = find_orphans(self._proc, listed_ports, os.geteuid())
        readings = self._read_devices([orphan.process for orphan in found]) if found else []
        return tuple(_add_devices(orphan, readings) for orphan in found)

    def kill_orphan(self, orphan: Orphan, listed_ports: Collection[int]) -> bool:
        """End an orphan at once (SIGKILL), if it still is one by every mark; returns whether it was signalled.

        Raises PermissionError when the system forbids it.
        """
        from corral.machine.orphans import kill_orphan

        return kill_orphan(self._proc, orphan.process, listed_ports, os.geteuid())

    def _find_place(self) -> Place:
        if self._place is None:
            if os.path.exists(f"{self._proc}/meminfo"):
                self._place = find_place(self._door, self._proc, self._resolve)
            else:
                self._place = Place(reason=_NO_PROC)
        return self._place

    def _get_finder(self) -> FamilyFinder:
        if self._finder is None:
            doorway = Doorway(self._door, self._find_place(), self._proc, self._sockets)
            self._finder = FamilyFinder(doorway, self._proc, self._clock)
        return self._finder

    def _read_traffic(self, router: Process | None, children: Sequence[Kin], *, recent: bool) -> Traffic:
        """Connections to the children's ports; all of them are in the router's network."""
        ports = {one.port for one in children}
        if not ports or router is None:
            return Traffic({})
        if not recent and self._stillness.holds(router.pid, children):
            return Traffic(dict.fromkeys(ports, 0))
        before = self._stillness.read(children)
        for pid in (router.pid, *(one.process.pid for one in children)):
            counts = self._sockets.count_connections(pid, ports)
            if counts is not None:
                self._stillness.learn(children, before, counts)
                # Read after those that are open, so that a connection that ends in between is seen.
                ends = self._sockets.find_last_ends(pid, ports) if recent else None
                return Traffic(counts, ends or {}, self._read_ages(children) if recent else {})
        return Traffic(None)

    def _read_ages(self, children: Sequence[Kin]) -> dict[int, float]:
        """Of the children that are younger than what the system remembers of connections, for how long they run."""
        ages = {one.port: read_age(self._proc, one.process) for one in children}
        return {port: age for port, age in ages.items() if age is not None and 0 <= age < REMEMBERED_S}

    def _measure_memory(
        self, router: Process | None, kin: Sequence[Kin], listed: Collection[str], *, recent: bool
    ) -> Measurement:
        from corral.machine.memory import Footprints, read_host_memory
        from corral.machine.readings import name_models

        footprints = Footprints(self._proc, [one.process.pid for one in kin])
        traffic = self._read_traffic(router, kin, recent=recent)
        readings = self._read_devices([one.process for one in kin])
        children = tuple(
            _describe(one, traffic, listed, footprint, readings)
            for one, footprint in zip(kin, footprints.collect(), strict=True)
        )
        names = {one.process.pid: one.alias for one in kin}
        devices = tuple(name_models(device, names) for reading in readings for device in reading.devices)
        return Measurement(children, devices, read_host_memory(self._proc), router)

    def _read_devices(self, processes: Sequence[Process]) -> list[Reading]:
        if self._readers is None:
            self._readers = find_readers(self._proc, self._sys)
        pids = [process.pid for process in processes]
        return [reader.read(pids) for reader in self._readers]


class Traffic(Record):
    """The connections to children, by their ports, and since when there could be any."""

    counts: dict[int, int] | None
    """Those that are open; None when they cannot be read."""
    ends: Mapping[int, float] = {}
    """How many seconds ago the last of those that have ended did."""
    ages: Mapping[int, float] = {}
    """Of children that have just started, for how many seconds they have run."""

    def find_last_active(self, port: int) -> float | None:
        """How long ago a connection to a port was last open, or its child started; None when that is not known."""
        if self.counts and self.counts.get(port):
            return 0.0
        known = [times[port] for times in (self.ends, self.ages) if port in times]
        return min(known) if known else None


def _describe(
    kin: Kin,
    traffic: Traffic,
    listed: Collection[str],
    footprint: Footprint | None = None,
    readings: Sequence[Reading] = (),
) -> Child:
    """A child as far as it was looked at: without a footprint, memory was not asked for."""
    in_flight = None if traffic.counts is None else traffic.counts.get(kin.port)
    reasons = [] if in_flight is not None else [_NO_CONNECTIONS]
    host, cache, uses = None, None, None
    if footprint is not None:
        uses, unknown = _find_uses(kin.process, readings)
        reasons += [*filter(None, [footprint.reason]), *unknown]
        host, cache = footprint.host_bytes, footprint.cache_bytes
    return Child(
        kin.alias,
        kin.process,
        kin.port,
        in_flight,
        host,
        cache,
        uses,
        is_hidden=kin.alias not in listed,
        reasons=tuple(reasons),
        last_active_s=traffic.find_last_active(kin.port),
    )


def _find_uses(process: Process, readings: Sequence[Reading]) -> tuple[tuple[DeviceUse, ...] | None, list[str]]:
    """What a process holds on all devices, and why that is not known."""
    found = [(reading, reading.find_uses(process)) for reading in readings]
    reasons = [reading.reason for reading, uses in found if uses is None]
    uses = tuple(use for _, uses in found for use in uses or ())
    if any(use.used_bytes is None for use in uses):
        reasons.append(_NO_AMOUNT)
    return None if any(uses is None for _, uses in found) else uses, reasons


def _add_devices(orphan: Orphan, readings: Sequence[Reading]) -> Orphan:
    uses, reasons = _find_uses(orphan.process, readings)
    identity = (orphan.process, orphan.model, orphan.port, orphan.router_port)
    return Orphan(*identity, orphan.host_bytes, uses, (*orphan.reasons, *reasons))

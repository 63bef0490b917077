"""AMD and Intel devices: each process's memory from ``/proc/PID/fdinfo``, and from sysfs what the driver tells there.

Written from the kernel's documentation; it was not run on such a device. Reading another process takes the same user
or root. A buffer that two processes share is counted for both.

Source: ``Documentation/gpu/drm-usage-stats.rst``, ``Documentation/gpu/amdgpu/driver-misc.rst`` of Linux.
"""

from __future__ import annotations

import os

from corral.machine.fdinfo import Client, merge_clients, parse_fdinfo
from corral.machine.procfs import list_open_files, list_pids, read_file, read_stat
from corral.machine.readings import Reading
from corral.ops.measurement import Device, Holder
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

_NAMES = {"amdgpu": "AMD", "i915": "Intel", "xe": "Intel"}
_OWN, _LENT = frozenset({"vram", "local"}), frozenset({"gtt", "system"})
"""Regions on the device, and regions in the machine's memory; a number may follow."""
_NO_USE_IN_ALL = "the driver does not tell how much is used in all"
_NOT_ALL = "processes of other users may not be read"
_CHILD_UNREADABLE = "its use of AMD or Intel devices may not be read by this user"


class Card(Record):
    """A device that one of the known drivers runs."""

    pci: str
    driver: str
    name: str
    folders: tuple[str, ...]
    """Where sysfs describes it: the card and its device."""


class Pool(Record):
    """A card's own memory, or the part of the machine's that is lent to it."""

    suffix: str
    remark: str
    """Says that it is lent; empty for the card's own."""
    regions: frozenset[str]
    total_bytes: int | None
    used_bytes: int | None


class Drm:
    """Reads AMD and Intel devices; ``proc`` and ``sys`` are the roots of the trees."""

    def __init__(self, *, proc: str = "/proc", sys: str = "/sys") -> None:
        self._proc, self._sys = proc, sys

    def read(self, children: Collection[int]) -> Reading:
        """Look at all cards; a client that is open in several processes counts for a child first."""
        cards = find_cards(self._sys)
        if not cards:
            return Reading()
        known = frozenset(children)
        others = (pid for pid in list_pids(self._proc) if pid not in known)
        clients, unreadable = self._read_processes([*known, *others])
        reason = _NOT_ALL if unreadable else ""
        devices = []
        for card in cards:
            mine = [(pid, client.regions) for pid, client in clients if client.pci == card.pci]
            devices += [self._describe(card, pool, mine, reason) for pool in list_pools(card, mine)]
        return Reading(tuple(devices), known & unreadable, _CHILD_UNREADABLE)

    def _read_processes(self, pids: Iterable[int]) -> tuple[list[tuple[int, Client]], set[int]]:
        """Every client once, with its process, and the processes that may not be read."""
        clients: list[tuple[int, Client]] = []
        seen, unreadable = set[tuple[str, str]](), set[int]()
        for pid in pids:
            files = list_open_files(self._proc, pid)
            if files is None:
                # A thread of the kernel has no command line, and no device open.
                if read_file(f"{self._proc}/{pid}/cmdline"):
                    unreadable.add(pid)
                continue
            for client in merge_clients(self._read_clients(pid, files)):
                key = (client.pci, client.number)
                if key not in seen:
                    seen.add(key)
                    clients.append((pid, client))
        return clients, unreadable

    def _read_clients(self, pid: int, files: Iterable[tuple[str, str]]) -> Iterator[Client]:
        for number, target in files:
            if target.startswith("/dev/dri/"):
                client = parse_fdinfo(read_file(f"{self._proc}/{pid}/fdinfo/{number}") or b"")
                if client is not None:
                    yield client

    def _describe(self, card: Card, pool: Pool, clients: Iterable[tuple[int, dict[str, int]]], reason: str) -> Device:
        amounts: dict[int, int] = {}
        for pid, regions in clients:
            mine = (size for region, size in regions.items() if _get_kind(region) in pool.regions)
            amounts[pid] = amounts.get(pid, 0) + sum(mine)
        stats = ((read_stat(self._proc, pid), amount) for pid, amount in amounts.items() if amount)
        holders = tuple(Holder(stat.process, amount) for stat, amount in stats if stat is not None)
        total, used = pool.total_bytes, pool.used_bytes
        free = None if total is None or used is None else max(0, total - used)
        reasons = filter(None, (_NO_USE_IN_ALL if used is None else "", reason))
        device_id, name = f"drm:{card.pci}{pool.suffix}", card.name + pool.remark
        return Device(device_id, name, total, used, free, holders, "; ".join(reasons), bool(pool.remark))


def find_cards(sys: str) -> list[Card]:
    """The devices that a known driver runs, in the order of their numbers."""
    try:
        entries = os.listdir(f"{sys}/class/drm")
    except OSError:
        return []
    numbers = sorted(int(name[4:]) for name in entries if name.startswith("card") and name[4:].isdecimal())
    found: dict[str, Card] = {}
    for number in numbers:
        folder = f"{sys}/class/drm/card{number}"
        lines = (read_file(f"{folder}/device/uevent") or b"").decode(errors="replace").splitlines()
        facts = dict(line.split("=", 1) for line in lines if "=" in line)
        driver, pci = facts.get("DRIVER", ""), facts.get("PCI_SLOT_NAME", "")
        if driver in _NAMES and pci:
            product = (read_file(f"{folder}/device/product_name") or b"").decode(errors="replace").strip()
            name = f"{_NAMES[driver]} {product or facts.get('PCI_ID', '')}".strip()
            found.setdefault(pci, Card(pci, driver, name, (folder, f"{folder}/device")))
    return list(found.values())


def list_pools(card: Card, clients: Iterable[tuple[int, Mapping[str, int]]]) -> list[Pool]:
    """What memory a card has to tell of.

    An integrated AMD device takes most of its memory from the machine's (GTT), so that is shown beside a smaller
    part of its own. Of Intel's drivers only the clients tell whether a device has memory of its own.
    """
    if card.driver == "amdgpu":
        vram, gtt = (
            [_read_size(f"{card.folders[1]}/mem_info_{name}_{what}") for what in ("total", "used")]
            for name in ("vram", "gtt")
        )
        pools = [Pool("", "", frozenset({"vram"}), *vram)]
        if (gtt[0] or 0) > (vram[0] or 0):
            pools.append(Pool(":gtt", " (lent by the machine)", frozenset({"gtt"}), *gtt))
        return pools
    total = _read_intel_total(card)
    has_own = total is not None or any(_get_kind(region) in _OWN for _, regions in clients for region in regions)
    return [Pool("", "", _OWN, total, None) if has_own else Pool("", " (lent by the machine)", _LENT, None, None)]


def _read_intel_total(card: Card) -> int | None:
    """From i915 one figure, in one of two places; from xe one for each tile."""
    for folder in card.folders:
        if (size := _read_size(f"{folder}/lmem_total_bytes")) is not None:
            return size
    tiles = [_read_size(f"{card.folders[1]}/tile{tile}/physical_vram_size_bytes") for tile in range(4)]
    known = [size for size in tiles if size is not None]
    return sum(known) if known else None


def _get_kind(region: str) -> str:
    return region.rstrip("0123456789")


def _read_size(path: str) -> int | None:
    text = (read_file(path) or b"").strip()
    return int(text) if text.isdigit() and len(text) < 20 else None

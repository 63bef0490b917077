"""One open file of a graphics device, as ``/proc/PID/fdinfo`` describes it.

Source: ``Documentation/gpu/drm-usage-stats.rst`` of Linux. ``drm-memory-REGION`` is the older name of
``drm-resident-REGION``; a number without a unit is in bytes.
"""

from __future__ import annotations

from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {b"": 1, b"KiB": 1 << 10, b"MiB": 1 << 20, b"GiB": 1 << 30}
_KINDS = ("resident", "memory", "total")


class Client(Record):
    """What one client of a device holds."""

    pci: str
    """The device's PCI address."""
    number: str
    """Tells the clients of a device apart; one client may be open several times."""
    regions: dict[str, int]
    """Bytes in each region, such as ``vram``, ``gtt``, ``local0``, ``system0``."""


def parse_fdinfo(text: bytes) -> Client | None:
    """Read the text of a file in ``fdinfo``; None when it tells no device, client or memory."""
    fields: dict[str, bytes] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(b":")
        if colon and key.startswith(b"drm-"):
            fields[key.decode(errors="replace")] = value.strip()
    if "drm-pdev" not in fields or "drm-client-id" not in fields:
        return None
    regions = _read_regions(fields)
    pci, number = (fields[key].decode(errors="replace") for key in ("drm-pdev", "drm-client-id"))
    return Client(pci, number, regions) if regions else None


def merge_clients(clients: Iterable[Client]) -> list[Client]:
    """Each client once; where it was read several times the larger amount counts."""
    merged: dict[tuple[str, str], Client] = {}
    for client in clients:
        key = (client.pci, client.number)
        known = merged.get(key)
        regions = dict(known.regions) if known else {}
        for region, size in client.regions.items():
            regions[region] = max(size, regions.get(region, 0))
        merged[key] = Client(*key, regions)
    return list(merged.values())


def _read_regions(fields: dict[str, bytes]) -> dict[str, int]:
    """What is in memory of each region, the larger of both names; where neither is told, all that was asked for."""
    found: dict[str, dict[str, int]] = {kind: {} for kind in _KINDS}
    for key, value in fields.items():
        kind, _, region = key.removeprefix("drm-").partition("-")
        if kind in found and region and (size := _read_size(value)) is not None:
            found[kind][region] = size
    regions = dict(found["total"])
    for region in found["resident"].keys() | found["memory"].keys():
        regions[region] = max(found[kind].get(region, 0) for kind in ("resident", "memory"))
    return regions


def _read_size(value: bytes) -> int | None:
    number, _, unit = value.partition(b" ")
    scale = _UNITS.get(unit.strip())
    return int(number) * scale if scale is not None and number.isdigit() and len(number) < 20 else None

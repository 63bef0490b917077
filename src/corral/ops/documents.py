"""JSON documents that the command line and the gateway both give, with the same fields: unknown is null, never 0."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.ops.measurement import Child, Device
    from corral.ops.promises import LogEntry


def describe_device(device: Device) -> dict[str, Any]:
    """One device with memory of its own, and who holds it."""
    holders = None
    if device.holders is not None:
        holders = [
            {"pid": one.process.pid, "name": one.process.name, "used_bytes": one.used_bytes, "model": one.model}
            for one in device.holders
        ]
    return {
        "id": device.id,
        "name": device.name,
        "total_bytes": device.total_bytes,
        "used_bytes": device.used_bytes,
        "free_bytes": device.free_bytes,
        "lent": device.is_lent,
        "holders": holders,
        "reason": device.reason,
    }


_SIZES = ("memory_bytes", "device_bytes", "host_bytes", "cache_bytes", "memory_by_device")


def describe_memory(child: Child | None) -> dict[str, Any]:
    """What a model's process holds; all null when it is not seen."""
    if child is None:
        return dict.fromkeys(_SIZES) | {"hidden": False, "reasons": []}
    uses = child.devices
    by_device = None if uses is None else [{"id": use.device, "used_bytes": use.used_bytes} for use in uses]
    sizes = (child.total_bytes, child.device_bytes, child.host_bytes, child.cache_bytes, by_device)
    return dict(zip(_SIZES, sizes, strict=True)) | {"hidden": child.is_hidden, "reasons": list(child.reasons)}


def describe_entry(entry: LogEntry) -> dict[str, Any]:
    """One thing that was done."""
    return {
        "id": entry.id,
        "time": round(entry.wall, 3),
        "url": entry.router.label,
        "user": entry.owner.user,
        "host": entry.owner.host,
        "command": entry.command,
        "verb": entry.verb,
        "name": entry.model,
        "outcome": entry.outcome,
        "freed_bytes": entry.freed_bytes,
        "reason": entry.reason,
    }

"""Values that the ledger's tests share."""

from __future__ import annotations

from corral.ops.measurement import Process
from corral.ops.promises import Actor, LogEntry, Moment, Owner, RouterKey

ROUTER = RouterKey("http://127.0.0.1:8080", "http://localhost:8080")
OTHER = RouterKey("http://10.0.0.2:8080", "http://gpu-box:8080")
RENUMBERED = RouterKey("http://10.0.0.77:8080", "http://gpu-box:8080")
"""The other router after its address changed."""
OWNER = Owner("ann", "box")
NOW = Moment(1_000_000.0, 500.0, "boot-1", "box")
GUARD = Actor(Process(10, 100), "boot-1")
COMMAND = Actor(Process(11, 101), "boot-1")
ODD_IDS = ("x" * 10_000, "\x00\x1b[31m\n\r\t", "\ud800 lone", "'; DROP TABLE pins; --", "🦙 ü/é:Q4", '"%_\\')


def later(seconds: float) -> Moment:
    """So many seconds after NOW."""
    return Moment(NOW.wall + seconds, 500.0 + seconds, "boot-1", "box")


def entry(number: int, model: str = "a", **fields: object) -> LogEntry:
    """A log entry; its time is its number."""
    values: dict[str, object] = {"id": f"id-{number}", "router": ROUTER, "wall": float(number), **fields}
    return LogEntry(owner=OWNER, command="unload", verb="unload", model=model, outcome="unloaded", **values)  # type: ignore[arg-type]  # its own

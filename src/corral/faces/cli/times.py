"""Points in time and durations as people read them."""

from __future__ import annotations

import time


def tell_time(wall: float) -> str:
    """A point in time, in this machine's time zone: ``2026-11-25 20:41:09``; a dash where no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))
    except (OverflowError, ValueError, OSError):
        return "-"


def tell_duration(seconds: float) -> str:
    """A duration to its two largest units: ``1h59m``, ``12m30s``, ``40s``, ``3d4h``."""
    left = round(seconds)
    for unit, size, next_unit, next_size in _UNITS:
        if left >= size:
            rest = left % size // next_size
            return f"{left // size}{unit}" + (f"{rest}{next_unit}" if rest else "")
    return f"{left}s"


_UNITS = (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1))

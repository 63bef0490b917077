"""Tolerant accessors: one odd field of a reply never hides the rest of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def as_str(document: dict[str, Any], key: str) -> str | None:
    """The string under ``key``; None when it is absent or of another type."""
    value = document.get(key)
    return value if isinstance(value, str) else None


def as_int(document: dict[str, Any], key: str) -> int | None:
    """The whole number under ``key``; None when it is absent, a boolean or of another type."""
    value = document.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_dict(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under ``key``; an empty one when it is absent or of another type."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def as_strings(document: dict[str, Any], key: str) -> tuple[str, ...]:
    """The strings in the list under ``key``, others left out; a lone string counts as a list of one."""
    value = document.get(key)
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, list):
        return tuple(item for item in value if isinstance(item, str))
    return ()

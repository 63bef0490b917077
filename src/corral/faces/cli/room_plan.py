"""How room is made on a device, as arithmetic that a person can follow, and as JSON."""

from __future__ import annotations

from corral.faces.cli.columns import format_rows
from corral.faces.cli.listing import UNKNOWN
from corral.faces.cli.times import tell_duration
from corral.faces.cli.words import tell_bytes
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops.room import RoomPlan, Share

_REMEMBERED_S = 60.0
"""The system remembers no longer when a request ended: from here on an idle time is a bound."""


def print_plan(plan: RoomPlan, console: Console, *, goes_ahead: bool) -> None:
    """The models with what they hold there, and the sum; where it does not go ahead, nothing goes but only may."""
    rows = [("NAME", "HOLDS", "IDLE", "ACTION", "REASON"), *_build_rows(plan, "unload" if goes_ahead else "may go")]
    for line in format_rows(rows if len(rows) > 1 else []):
        console.line(line)
    console.line(f"{escape_controls(plan.device.name)}:")
    sums = [
        ("free now", plan.free_bytes),
        ("wanted", plan.wanted_bytes),
        ("missing", plan.missing_bytes),
        ("given back", plan.promised_bytes),
        ("free afterwards", plan.free_bytes + plan.promised_bytes),
        *([("still short", plan.short_bytes)] if plan.short_bytes else []),
    ]
    width = max(len(tell_bytes(size)) for _, size in sums)
    for line in format_rows([(f"  {word}", tell_bytes(size).rjust(width)) for word, size in sums]):
        console.line(line)


def tell_shortage(plan: RoomPlan) -> str:
    """By how much it is not enough, in one sentence."""
    short, wanted = tell_bytes(plan.short_bytes), tell_bytes(plan.wanted_bytes)
    return f"{wanted} cannot be made free on {escape_controls(plan.device.name)}: {short} would still be missing."


def describe_plan(plan: RoomPlan, *, goes_ahead: bool) -> dict[str, Any]:
    """For ``--json``: sizes in bytes, and all models that were looked at; see ``print_plan``."""
    device = plan.device
    return {
        "device": {"id": device.id, "name": device.name, "total_bytes": device.total_bytes},
        "wanted_bytes": plan.wanted_bytes,
        "free_bytes": plan.free_bytes,
        "missing_bytes": plan.missing_bytes,
        "promised_bytes": plan.promised_bytes,
        "short_bytes": plan.short_bytes,
        "reachable": plan.is_reachable,
        "models": [
            *(_describe_share(share, "unload" if goes_ahead else "may_go") for share in plan.unload),
            *(_describe_share(share, "leave") for share in plan.leave),
        ],
    }


def _build_rows(plan: RoomPlan, word: str) -> list[tuple[str, ...]]:
    shares = [*((share, word) for share in plan.unload), *((share, "leave") for share in plan.leave)]
    return [
        (show_name(share.model), _show_size(share), _show_idle(share), action, escape_controls(share.reason))
        for share, action in shares
    ]


def _show_size(share: Share) -> str:
    return UNKNOWN if share.used_bytes is None else tell_bytes(share.used_bytes)


def _show_idle(share: Share) -> str:
    if share.idle_s is None:
        return UNKNOWN
    return f"{'>' if share.idle_s >= _REMEMBERED_S else ''}{tell_duration(share.idle_s)}"


def _describe_share(share: Share, action: str) -> dict[str, Any]:
    return {
        "id": share.model,
        "action": action,
        "reason": share.reason,
        "stays": share.stays or None,
        "used_bytes": share.used_bytes,
        "idle_s": None if share.idle_s is None else round(share.idle_s, 1),
    }

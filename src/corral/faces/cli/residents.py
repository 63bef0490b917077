"""What ``ps`` shows: each resident model with its memory and its requests, and each device with who else uses it.

Unknown is a dash, and ``-o wide`` says why; it is never 0.
"""

from __future__ import annotations

from corral.faces.cli.listing import (
    UNKNOWN,
    describe_model,
    describe_state,
    join_names,
    print_document,
    print_table,
)
from corral.faces.cli.words import tell_bytes
from corral.ops.room import describe_host, find_idle_s
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.faces.cli.marks import Marks
    from corral.ops.measurement import Child, Device, Measurement
    from corral.wire import Model

_OTHERS = 4
"""So many of those who use a device besides the models are named."""
_MINUTE_S = 60.0


class Residents:
    """One look, in the two ways that it is shown."""

    def __init__(self, models: Sequence[Model], measured: Measurement, marks: Marks) -> None:
        self._models, self._measured, self._marks = models, measured, marks
        self._hidden = [child for child in measured.children if child.is_hidden]

    def print_text(self, console: Console, *, wide: bool) -> None:
        """A table of the models, and a line for each device."""
        rows = [_WIDE if wide else _USUAL, *(self._build(model, wide=wide) for model in self._models)]
        rows += [self._build_hidden(child, wide=wide) for child in self._hidden]
        if len(rows) > 1:
            print_table(rows, console)
        if self._measured.reason:
            if wide and self._models:
                console.line(f"Memory and requests in flight are not visible: {self._measured.reason}.")
            return
        for line in self._list_devices(wide=wide):
            console.line(line)

    def _build(self, model: Model, *, wide: bool) -> list[str]:
        child = self._measured.find(model.id)
        state, port = describe_state(model), model.port if child is None else child.port
        if not wide:
            return [show_name(model.id), state, show_memory(child), _show_busy(child), self._mark(model.id, child)]
        idle = UNKNOWN if child is None else _show_idle(model, child)
        return [
            *(show_name(model.id), state, *_show_parts(child), _show_busy(child), idle),
            *(UNKNOWN if child is None else str(child.process.pid), UNKNOWN if port is None else str(port)),
            *(join_names(model.aliases), join_names(model.tags), self._mark(model.id, child), self._explain(child)),
        ]

    def _build_hidden(self, child: Child, *, wide: bool) -> list[str]:
        """The list tells nothing of these, not even a state."""
        name, mark, busy = show_name(child.model), self._mark(child.model, child), _show_busy(child)
        if not wide:
            return [name, UNKNOWN, show_memory(child), busy, mark]
        pid, port = str(child.process.pid), str(child.port)
        names = (UNKNOWN, UNKNOWN)
        return [name, UNKNOWN, *_show_parts(child), busy, UNKNOWN, pid, port, *names, mark, self._explain(child)]

    def _mark(self, name: str, child: Child | None) -> str:
        hidden = "HIDDEN" if child is not None and child.is_hidden else ""
        return ", ".join(filter(None, (hidden, self._marks.show(name))))

    def _explain(self, child: Child | None) -> str:
        """Why something of this model is a dash."""
        if child is not None:
            return escape_controls("; ".join(child.reasons))
        return "" if self._measured.reason else "its process is not seen"

    def _list_devices(self, *, wide: bool) -> Iterator[str]:
        for at, device in enumerate(self._measured.devices):
            yield f"GPU {at} {show_device(device, wide=wide)}"
        if wide or not self._measured.devices:
            yield show_device(describe_host(self._measured.host), wide=wide)

    def print_json(self, url: str, console: Console) -> None:
        """One document."""
        from corral.ops.documents import describe_device

        found = self._measured
        extra = {
            "devices": [{"index": at} | describe_device(device) for at, device in enumerate(found.devices)],
            "host": None if found.host is None else _describe_host(found),
            "visible": not found.reason,
            "reason": found.reason,
            "router_pid": None if found.router is None else found.router.pid,
        }
        print_document(self._describe(), url, console, extra)

    def _describe(self) -> Iterator[dict[str, Any]]:
        for model in self._models:
            child = self._measured.find(model.id)
            yield describe_model(model) | self._marks.describe(model.id) | describe_child(model, child)
        for child in self._hidden:
            nothing = dict.fromkeys(("status", "exit_code", "raw"))
            known = {"id": child.model, "resident": True, "aliases": [], "tags": [], "port": child.port}
            yield known | nothing | self._marks.describe(child.model) | describe_child(None, child)


_USUAL = ["NAME", "STATE", "MEMORY", "BUSY", "MARKS"]
_WIDE = ["NAME", "STATE", "DEVICE", "HOST", "CACHE", "BUSY", "IDLE", "PID", "PORT", "ALIASES", "TAGS", "MARKS", "NOTES"]


def show_memory(child: Child | None) -> str:
    """What an end gives back; with a mark when a part of it cannot be seen."""
    if child is None or child.total_bytes is None:
        return UNKNOWN
    is_whole = child.host_bytes is not None and child.device_bytes is not None
    return f"{'' if is_whole else '>'}{tell_bytes(child.total_bytes)}"


def show_device(device: Device, *, wide: bool) -> str:
    """One line: how much is used and free, and by whom besides the models."""
    name = escape_controls(device.name)
    reason = f" ({escape_controls(device.reason)})" if wide and device.reason else ""
    if device.used_bytes is None or device.total_bytes is None:
        total = "" if device.total_bytes is None else f" of {tell_bytes(device.total_bytes)}"
        used = f"{UNKNOWN}{total} used, {UNKNOWN} free"
    else:
        used = f"{_tell_part(device.used_bytes, device.total_bytes)} used, {_tell_free(device)} free"
    others = show_others(device)
    return f"{name}: {used}{reason}{f'; others: {others}' if others else ''}"


def show_others(device: Device) -> str:
    """Who uses a device besides the models, the largest first; empty when that is nobody or not known."""
    others = sorted((one for one in device.holders or () if one.model is None), key=lambda one: -(one.used_bytes or 0))
    named = []
    for one in others[:_OTHERS]:
        size = UNKNOWN if one.used_bytes is None else tell_bytes(one.used_bytes)
        named.append(f"{escape_controls(one.process.name)[:40] or '?'} (pid {one.process.pid}) {size}")
    more = len(others) - len(named)
    return ", ".join([*named, f"{more} more"] if more else named)


def describe_child(model: Model | None, child: Child | None) -> dict[str, Any]:
    """What the machine shows of a model's process, for ``--json``; all None when it is not seen."""
    from corral.ops.documents import describe_memory

    return {
        "pid": None if child is None else child.process.pid,
        "in_flight": None if child is None else child.in_flight,
        "last_active_s": None if child is None else _round(child.last_active_s),
        "idle_s": None if child is None or model is None else _round(find_idle_s(model, child)),
    } | describe_memory(child)


def _round(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _describe_host(found: Measurement) -> dict[str, Any]:
    host = describe_host(found.host)
    return {"total_bytes": host.total_bytes, "used_bytes": host.used_bytes, "free_bytes": host.free_bytes}


def _show_parts(child: Child | None) -> tuple[str, ...]:
    """Memory on devices, on the host, and cached."""
    sizes = (None, None, None) if child is None else (child.device_bytes, child.host_bytes, child.cache_bytes)
    return tuple(UNKNOWN if size is None else tell_bytes(size) for size in sizes)


def _show_busy(child: Child | None) -> str:
    return UNKNOWN if child is None or child.in_flight is None else str(child.in_flight)


def _show_idle(model: Model, child: Child) -> str:
    """For how long nothing was in flight; the system remembers a minute, and sleep tells of longer."""
    idle_s = find_idle_s(model, child)
    if idle_s is None:
        return UNKNOWN
    from corral.faces.cli.times import tell_duration

    is_bound = child.last_active_s is None or idle_s > child.last_active_s
    return f"{'>' if is_bound else ''}{tell_duration(idle_s)}"


def _tell_part(part: int, whole: int) -> str:
    """``18.2 of 24.0 GiB``: both in one unit where that reads well."""
    one, other = tell_bytes(part), tell_bytes(whole)
    unit = other.rpartition(" ")[2]
    return f"{one.removesuffix(f' {unit}')} of {other}"


def _tell_free(device: Device) -> str:
    return UNKNOWN if device.free_bytes is None else tell_bytes(device.free_bytes)

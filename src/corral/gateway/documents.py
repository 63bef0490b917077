"""What Corral's own API says, as JSON documents: residents, holds, pins, sets, log entries, reports.

A document has ``schema_version``; unknown is null, never 0; times are seconds, moments seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic, time
from typing import Any

from corral.gateway.control import Control
from corral.gateway.visits import Visit
from corral.ops import Outcome
from corral.ops import outcome as words
from corral.ops.admission import Held
from corral.ops.documents import describe_device, describe_memory
from corral.ops.line import Line
from corral.ops.measurement import Child, Measurement
from corral.ops.promises import Pin, SavedSet
from corral.ops.room import find_idle_s
from corral.wire import CorralError, Model, RefusedError

SCHEMA_VERSION = 1
_GOOD = frozenset({words.UNLOADED, words.ALREADY_UNLOADED, words.REQUESTED, words.LOADED, words.ALREADY_LOADED})

Document = dict[str, Any]


def begin(control: Control) -> Document:
    """The fields that come first; ``url`` is the router's."""
    return {"schema_version": SCHEMA_VERSION, "url": control.router.url}


def describe_state(control: Control, measured: Measurement | None = None) -> Document:
    """The router, its models and what is promised about them; with ``measured`` also what they hold."""
    watcher, door = control.watcher, control.gate.door
    models = () if watcher.listing is None else watcher.listing.models
    document = begin(control) | {
        "router": {
            "reachable": watcher.error is None and watcher.listing is not None,
            "error": None if watcher.error is None else describe_error(watcher.error),
            "listed": watcher.listed_wall,
            "build": watcher.build,
            "models_max": door.models_max,
        },
        "guarded": door.is_careful,
        "parked": door.parked,
        "models": [describe_model(control, model, measured) for model in models],
        "holds": [describe_hold(held) for held in control.promises.holds],
    }
    if measured is not None:
        hidden = [child for child in measured.children if child.is_hidden]
        document["machine"] = {
            "visible": not measured.reason,
            "reason": measured.reason,
            "router_pid": None if measured.router is None else measured.router.pid,
            "devices": [describe_device(device) for device in measured.devices],
            "host": None if measured.host is None else {name: getattr(measured.host, name) for name in _HOST},
            "hidden": [{"id": child.model} | describe_child(None, child) for child in hidden],
        }
    return document


_HOST = ("total_bytes", "available_bytes", "anonymous_bytes")


def describe_model(control: Control, model: Model, measured: Measurement | None = None) -> Document:
    """One model: what the router says, what the gateway knows exactly, what is promised."""
    now, door = monotonic(), control.gate.door
    line = door.find_line(model.id)
    drain = control.operator.drains.find(model.id)
    in_flight = door.count_in_flight(model.id)
    document: Document = {
        "id": model.id,
        "status": model.status,
        "resident": model.is_resident,
        "aliases": list(model.aliases),
        "tags": list(model.tags),
        "port": model.port,
        "exit_code": model.exit_code,
        "in_flight": in_flight,
        "parked": 0 if line is None else len(line.parked),
        "idle_s": _tell_idle(model, line, in_flight, now),
        "pinned": model.id in door.pinned,
        **tell_hold(control, model.id),
        "draining": None
        if drain is None
        else {"by": drain.order.owner.label, "in_s": _round(max(0.0, drain.closure.ends_at - now))},
        "requests": [describe_visit(visit, now) for visit in control.visits.of(model.id)],
    }
    if measured is not None:
        document |= describe_child(model, measured.find(model.id))
        document["raw"] = model.raw
    return document


def _tell_idle(model: Model, line: Line | None, in_flight: int, now: float) -> float | None:
    """Since the end of the last answer, or since it came up; None for one that is not up."""
    if line is None or not line.is_up or not model.is_resident:
        return None
    return 0.0 if in_flight else _round(max(0.0, now - line.idle_since))


def describe_visit(visit: Visit, now: float) -> Document:
    """Who asks a model."""
    return {
        "client": visit.client,
        "user_agent": visit.user_agent,
        "key": visit.key_label,
        "task": visit.task,
        "path": visit.path,
        "since_s": _round(now - visit.arrived_at),
        "first_byte_s": None if visit.first_byte_at is None else _round(visit.first_byte_at - visit.arrived_at),
    }


def describe_child(model: Model | None, child: Child | None) -> Document:
    """What the machine shows of a model's process; all null when it is not seen."""
    return {
        "pid": None if child is None else child.process.pid,
        "child_port": None if child is None else child.port,
        "connections": None if child is None else child.in_flight,
        "last_active_s": None if child is None else child.last_active_s,
        "seen_idle_s": None if child is None or model is None else find_idle_s(model, child),
    } | describe_memory(child)


def describe_hold(held: Held) -> Document:
    """A hold in force."""
    hold = held.hold
    left_s = max(0.0, held.ends_at - monotonic())
    return {
        "id": hold.id,
        "models": None if hold.models is None else list(hold.models),
        "excepted": list(hold.excepted),
        "unloaded": list(hold.unloaded),
        "user": hold.owner.user,
        "host": hold.owner.host,
        "reason": hold.reason,
        "created": _round(hold.created.wall),
        "duration_s": hold.duration_s,
        "left_s": _round(left_s),
        "ends": _round(time() + left_s),
    }


def describe_pin(pin: Pin) -> Document:
    """A model that no rule chooses."""
    return {"id": pin.model, "user": pin.owner.user, "host": pin.owner.host, "pinned": _round(pin.pinned_wall)}


def describe_set(saved: SavedSet) -> Document:
    """A remembered list of models."""
    owner = saved.owner
    return {
        "name": saved.name,
        "models": list(saved.models),
        "user": owner.user,
        "host": owner.host,
        "saved": _round(saved.saved_wall),
    }


def describe_report(control: Control, outcomes: Sequence[Outcome], seconds: float) -> Document:
    """What became of each model."""
    freed = [item.freed_bytes for item in outcomes if item.freed_bytes is not None]
    return begin(control) | {
        "ok": all(item.outcome in _GOOD for item in outcomes),
        "seconds": _round(seconds),
        "freed_bytes": sum(freed) if freed else None,
        "models": [describe_outcome(item) | tell_hold(control, item.model) for item in outcomes],
        "holds": [describe_hold(held) for held in control.promises.holds],
    }


def tell_hold(control: Control, model: str) -> Document:
    """Whether a model is held now, and by which hold; of several the one that lasts longest."""
    held = control.gate.door.find_hold(model, monotonic())
    return {"held": held is not None, "hold": None if held is None else held.hold.id}


def describe_outcome(item: Outcome) -> Document:
    """What became of one model."""
    document: Document = {
        "id": item.model,
        "outcome": item.outcome,
        "ok": item.outcome in _GOOD,
        "status": item.status,
        "seconds": None if item.seconds is None else _round(item.seconds),
        "exit_code": item.exit_code,
        "detail": item.detail,
        "in_flight": item.in_flight,
        "cut": item.cut,
        "freed_bytes": item.freed_bytes,
    }
    if item.error is not None:
        document["error"] = describe_error(item.error)
    return document


def describe_error(error: CorralError) -> Document:
    """An error, and what to try."""
    document: Document = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, RefusedError):
        document["status"] = error.status
    return document


def build_stale_list(control: Control) -> Document | None:
    """The last list for clients of a router that does not answer: every model unloaded, and a mark."""
    listing = control.watcher.listing
    if listing is None:
        return None
    return {"data": [_tell_unloaded(model) for model in listing.models], "object": "list", "stale": True}


def _tell_unloaded(model: Model) -> Document:
    entry = {key: value for key, value in model.raw.items() if key != "meta"}
    status = entry.get("status")
    kept = (
        {key: value for key, value in status.items() if key not in ("failed", "exit_code")}
        if isinstance(status, dict)
        else {}
    )
    return entry | {"status": kept | {"value": "unloaded"}}


def _round(seconds: float) -> float:
    return round(seconds, 3)

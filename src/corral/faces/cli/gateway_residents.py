"""``corral ps`` at a gateway: what is busy and with whom, how long the rest has been idle, what waits at the door."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.gateway import open_gateway
from corral.faces.cli.listing import UNKNOWN, print_table
from corral.faces.cli.residents import show_device
from corral.faces.cli.times import tell_duration
from corral.faces.cli.words import tell_bytes
from corral.ops.measurement import Device, Holder, HostMemory, Process
from corral.ops.room import describe_host
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console

_CLIENTS = 3
"""So many of those who ask a model are named."""


def show_residents(args: Namespace, router: Router, console: Console) -> int:
    """Print what is resident."""
    state = open_gateway(router).get("residents?memory=1")
    residents = [model for model in state["models"] if model["resident"]]
    machine = state.get("machine")
    if args.json:
        document = begin_document(DONE, router.url) | {
            "gateway": router.gateway,
            "router": state["router"] | {"url": state["url"]},
            "models": residents,
            "holds": state["holds"],
            "parked": state["parked"],
            "machine": machine,
        }
        console.line(dumps(document))
        return DONE
    wide = args.output == "wide"
    rows = [_WIDE if wide else _USUAL, *(_build(model, wide=wide) for model in residents)]
    if not wide:
        rows += [_build_absent(model) for model in state["models"] if not model["resident"] and model["parked"]]
    if len(rows) > 1:
        print_table(rows, console)
    _print_machine(machine, console, wide=wide)
    for held in state["holds"]:
        what = "all models" if held["models"] is None else ", ".join(show_name(name, 40) for name in held["models"][:4])
        reason = f": {escape_controls(held['reason'])}" if held["reason"] else ""
        owner = escape_controls(f"{held['user']}@{held['host']}")
        console.say(f"Held for {tell_duration(held['left_s'])} more ({held['id']}, {owner}): {what}{reason}")
    if not residents:
        console.say(f"No resident models on {router.url}.")
    return DONE


_USUAL = ["NAME", "STATE", "MEMORY", "BUSY", "IDLE", "WAITING", "CLIENTS", "MARKS"]
_WIDE = [*_USUAL[:2], "DEVICE", "HOST", "CACHE", *_USUAL[3:7], "PID", "PORT", "ALIASES", "TAGS", "MARKS", "NOTES"]


def _build(model: dict[str, Any], *, wide: bool) -> list[str]:
    work = [_show_busy(model), _show_idle(model), str(model["parked"] or ""), _show_clients(model)]
    begin = [show_name(model["id"]), escape_controls(model["status"])]
    if not wide:
        return [*begin, _show_bytes(model["memory_bytes"]), *work, _show_marks(model)]
    sizes = [_show_bytes(model[name]) for name in ("device_bytes", "host_bytes", "cache_bytes")]
    places = [UNKNOWN if model[name] is None else str(model[name]) for name in ("pid", "port")]
    names = [",".join(map(show_name, model[name])) for name in ("aliases", "tags")]
    notes = escape_controls("; ".join(model["reasons"]))
    return [*begin, *sizes, *work, *places, *names, _show_marks(model), notes]


def _build_absent(model: dict[str, Any]) -> list[str]:
    """Not resident, and yet somebody waits for it."""
    return [
        *(show_name(model["id"]), escape_controls(model["status"]), UNKNOWN, "0", UNKNOWN),
        *(str(model["parked"]), "", _show_marks(model)),
    ]


def _show_busy(model: dict[str, Any]) -> str:
    """What came through the gateway; with what the machine sees besides, of clients that go past it."""
    in_flight = int(model["in_flight"])
    besides = (model["connections"] or 0) - in_flight
    return f"{in_flight}+{besides}" if besides > 0 else str(in_flight)


def _show_idle(model: dict[str, Any]) -> str:
    if model["idle_s"] is None or model["in_flight"]:
        return UNKNOWN
    return tell_duration(model["idle_s"])


def _show_clients(model: dict[str, Any]) -> str:
    names: dict[str, int] = {}
    for one in model["requests"]:
        name = one["key"] or one["client"].rpartition(":")[0] or one["client"]
        name = f"{name} ({one['task']})" if one["task"] else name
        names[name] = names.get(name, 0) + 1
    shown = [f"{escape_controls(name)[:40]}{f' x{number}' if number > 1 else ''}" for name, number in names.items()][
        :_CLIENTS
    ]
    more = len(names) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)


def _show_marks(model: dict[str, Any]) -> str:
    marks = ["DRAINING"] if model["draining"] is not None else []
    marks += ["PINNED"] if model["pinned"] else []
    return ", ".join([*marks, "HELD"] if model["held"] else marks)


def _show_bytes(size: int | None) -> str:
    return UNKNOWN if size is None else tell_bytes(size)


def _print_machine(machine: dict[str, Any] | None, console: Console, *, wide: bool) -> None:
    if machine is None or not machine["visible"]:
        return
    for at, row in enumerate(machine["devices"]):
        console.line(f"GPU {at} {show_device(_read_device(row), wide=wide)}")
    host = machine["host"]
    if host is not None and (wide or not machine["devices"]):
        memory = HostMemory(host["total_bytes"], host["available_bytes"], host["anonymous_bytes"])
        console.line(show_device(describe_host(memory), wide=wide))


def _read_device(row: dict[str, Any]) -> Device:
    holders = None
    if row["holders"] is not None:
        holders = tuple(
            Holder(Process(one["pid"], 0, one["name"]), one["used_bytes"], one["model"]) for one in row["holders"]
        )
    sizes = (row["total_bytes"], row["used_bytes"], row["free_bytes"])
    return Device(row["id"], row["name"], *sizes, holders, row["reason"], row["lent"])

"""Between the ledger's rows and the values of ``corral.ops.promises``."""

from __future__ import annotations

from json import dumps, loads

from corral.ops.measurement import Process
from corral.ops.promises import Actor, Hold, Lease, Moment, Owner, Pin, RouterKey, SavedSet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OF_ROUTER = "(router = ? OR label = ?)"
"""The rows about a router: by its address, or by the name that its user gave it."""


def write_models(models: tuple[str, ...]) -> str:
    """Ids as one JSON list, in ASCII, whatever they hold."""
    return dumps(models)


def read_models(text: str) -> tuple[str, ...]:
    """The ids of a row. Raises ValueError or TypeError for what is no list of ids."""
    found = loads(text)
    if not (isinstance(found, list) and all(isinstance(item, str) for item in found)):
        raise ValueError("no list of ids")
    return tuple(found)


def read_id(text: str) -> str:
    """One id of a row. Raises ValueError or TypeError for what is none."""
    found = loads(text)
    if not isinstance(found, str):
        raise ValueError("no id")
    return found


def write_text(text: str) -> str:
    """Text that a person gave, without what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def read_router(row: Any) -> RouterKey:
    """The router that a row is about."""
    return RouterKey(row["router"], row["label"])


def read_owner(row: Any) -> Owner:
    """Who a row is of."""
    return Owner(row["user"], row["host"])


def read_hold(row: Any) -> Hold:
    """A row of ``holds``."""
    return Hold(
        f"h{row['number']}",
        read_router(row),
        None if row["models"] is None else read_models(row["models"]),
        read_owner(row),
        _read_created(row),
        float(row["duration_s"]),
        row["reason"],
        read_models(row["excepted"]),
        _read_actor(row, "enforcer"),
        row["released_wall"],
        read_models(row["unloaded"]),
    )


def read_pin(row: Any) -> Pin:
    """A row of ``pins``."""
    return Pin(read_router(row), read_id(row["model"]), read_owner(row), row["pinned_wall"])


def read_set(row: Any) -> SavedSet:
    """A row of ``sets``."""
    return SavedSet(row["name"], read_router(row), read_models(row["models"]), read_owner(row), row["saved_wall"])


def read_lease(row: Any) -> Lease:
    """A row of ``leases``."""
    corral = _read_actor(row, "corral")
    assert corral is not None, "the schema says so"
    return Lease(
        f"r{row['number']}",
        read_router(row),
        read_owner(row),
        _read_created(row),
        row["step"],
        read_models(row["models"]),
        corral,
        _read_actor(row, "command"),
        read_models(row["unloaded"]),
        row["hold"],
        bool(row["restores"]),
        row["ended_wall"],
    )


def _read_created(row: Any) -> Moment:
    boot_s = row["created_boot"]
    return Moment(float(row["created_wall"]), None if boot_s is None else float(boot_s), row["boot_id"], row["host"])


def _read_actor(row: Any, name: str) -> Actor | None:
    pid = row[f"{name}_pid"]
    if pid is None:
        return None
    return Actor(Process(pid, row[f"{name}_started"]), row[f"{name}_boot_id"])


def write_actor(actor: Actor | None) -> tuple[int | None, int | None, str | None]:
    """The three columns of a process."""
    return (None, None, None) if actor is None else (actor.process.pid, actor.process.started, actor.boot_id)


def read_number(identifier: str, letter: str) -> int | None:
    """The row's number behind ``h1`` or ``r1``; None when that is no such id."""
    digits = identifier[1:]
    if not identifier.startswith(letter) or not (digits.isascii() and digits.isdigit() and len(digits) < 18):
        return None
    return int(digits)

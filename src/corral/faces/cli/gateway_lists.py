"""Pins and sets at a gateway: it keeps them for its router, and these commands ask for them there."""

from __future__ import annotations

from json import dumps

from corral.client import identify
from corral.client.gateway import Gateway
from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.gateway import open_gateway, sign
from corral.faces.cli.words import count
from corral.ops.promises import Moment, Owner, Pin, RouterKey, SavedSet
from corral.wire import quote_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.faces.cli.marks import Marks


def show_pins(args: Namespace, gateway: Gateway, console: Console) -> int:
    """The pinned models."""
    from corral.faces.cli.pins import describe_pin, show_pin
    from corral.faces.cli.tables import print_table

    router = RouterKey(gateway.url, gateway.url)
    pins = [
        Pin(router, row["id"], Owner(row["user"], row["host"]), row["pinned"]) for row in gateway.get("pins")["pins"]
    ]
    if args.json:
        console.line(dumps(begin_document(DONE, gateway.url) | {"pins": [describe_pin(pin) for pin in pins]}))
    elif console.quiet:
        for pin in pins:
            console.line(quote_name(pin.model))
    else:
        print_table(("NAME", "PINNED", "BY", "ROUTER"), [show_pin(pin) for pin in pins], args, console)
        if not pins:
            console.say(f"No pinned models on {gateway.url}.")
    return DONE


def list_pinned(router: Router) -> tuple[str, ...]:
    """The pinned models at the gateway that answered."""
    return tuple(row["id"] for row in open_gateway(router).get("pins")["pins"])


def unpin(args: Namespace, gateway: Gateway, console: Console) -> int:
    """Take pins away."""
    from corral.faces.cli.unpin import describe, find_ids

    pinned = [row["id"] for row in gateway.get("pins")["pins"]]
    models = pinned if args.all else find_ids(args, args.words, pinned)
    removed = [model for model in models if model in pinned]
    if removed and not args.dry_run:
        removed = gateway.post("unpin", sign() | {"models": removed})["models"]
    show_deeds([describe(model, model in removed) for model in models], "models", gateway.url, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
    else:
        what = f"Unpinned {count(len(removed))}" if removed else "Nothing to unpin"
        console.say(f"{what} on {gateway.url}.")
    return DONE


def list_sets(gateway: Gateway) -> list[SavedSet]:
    """The remembered sets."""
    router = identify(gateway.url)
    return [
        SavedSet(row["name"], router, tuple(row["models"]), Owner(row["user"], row["host"]), row["saved"])
        for row in gateway.get("sets")["sets"]
    ]


def save(router: Router, name: str, models: Sequence[str], *, is_dry: bool) -> SavedSet | None:
    """Remember a set; the one of that name from before, None when there was none."""
    gateway = open_gateway(router)
    before = next((item for item in list_sets(gateway) if item.name == name), None)
    if not is_dry:
        gateway.post("sets", sign() | {"name": name, "models": list(models)})
    return before


def forget(gateway: Gateway, name: str) -> bool:
    """Forget a set; False when there was none."""
    return bool(gateway.delete("sets", sign() | {"name": name})["forgotten"])


def read_marks(router: Router) -> Marks:
    """What is pinned and held there."""
    from corral.faces.cli.marks import Held, Marks
    from corral.ops.promises import Hold

    gateway, key = open_gateway(router), identify(router.url)
    pins = frozenset(row["id"] for row in gateway.get("pins")["pins"])

    def build(row: dict[str, Any]) -> Held:
        models = None if row["models"] is None else tuple(row["models"])
        owner, begun = Owner(row["user"], row["host"]), Moment(row["created"])
        excepted = tuple(row["excepted"])
        hold = Hold(row["id"], key, models, owner, begun, row["duration_s"], row["reason"], excepted)
        return Held(hold, True, row["left_s"])

    holds = sorted(map(build, gateway.get("holds")["holds"]), key=lambda held: -held.left_s)
    return Marks(pins, tuple(holds))


def forget_all(args: Namespace, gateway: Gateway, console: Console) -> int:
    """Forget the sets that were named."""
    from corral.faces.cli.forget import check_sets

    names = list(dict.fromkeys(args.words))
    check_sets(names, [item.name for item in list_sets(gateway)], gateway.url)
    if not args.dry_run:
        names = [name for name in names if forget(gateway, name)]
    show_deeds([Deed(name, "forget", "forgotten") for name in names], "sets", gateway.url, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
    return DONE

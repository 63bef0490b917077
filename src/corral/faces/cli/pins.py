"""``corral pins``: the models that no rule chooses."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import Spec
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger
from corral.faces.cli.tables import LIST_EPILOG, LIST_OPTIONS, print_table
from corral.faces.cli.times import tell_time
from corral.wire import escape_controls, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ops.promises import Pin

SPEC = Spec("[options]", LIST_OPTIONS, epilog=LIST_EPILOG, lists=("pins",))


def run(args: Namespace, console: Console) -> int:
    """Print the pins of this router, or of all."""
    elsewhere = AtGateway(args, lambda gateway: _show_at(gateway, args, console), is_meant=not args.all_routers)
    if (found := elsewhere.first()) is not None:
        return found
    router = find_router(args)
    with look_at_ledger() as ledger:
        pins = ledger.pins.list_pins(None if args.all_routers else router)
    if (found := elsewhere.instead_of(pins)) is not None:
        return found
    if args.json:
        console.line(dumps(begin_document(DONE, router.label) | {"pins": [describe_pin(pin) for pin in pins]}))
        return DONE
    if console.quiet:
        for pin in pins:
            console.line(quote_name(pin.model))
        return DONE
    print_table(("NAME", "PINNED", "BY", "ROUTER"), [show_pin(pin) for pin in pins], args, console)
    if not pins:
        console.say("No pinned models." if args.all_routers else f"No pinned models on {router.label}.")
    return DONE


def _show_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway_lists import show_pins

    return show_pins(args, gateway, console)


def show_pin(pin: Pin) -> tuple[str, ...]:
    """A pin as a row."""
    return show_name(pin.model), tell_time(pin.pinned_wall), escape_controls(pin.owner.label), pin.router.label


def describe_pin(pin: Pin) -> dict[str, Any]:
    """A pin for ``--json``."""
    return {
        "id": pin.model,
        "url": pin.router.label,
        "pinned": round(pin.pinned_wall, 3),
        "user": pin.owner.user,
        "host": pin.owner.host,
    }

"""``corral sets``: the remembered sets."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import Spec
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger
from corral.faces.cli.tables import LIST_EPILOG, LIST_OPTIONS, print_table
from corral.faces.cli.times import tell_time
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ops.promises import SavedSet

SPEC = Spec("[options]", LIST_OPTIONS, epilog=LIST_EPILOG, lists=("sets",))
_NAMED = 4


def run(args: Namespace, console: Console) -> int:
    """Print the sets of this router, or of all."""
    elsewhere = AtGateway(args, lambda gateway: _show_at(gateway, args, console), is_meant=not args.all_routers)
    if (found := elsewhere.first()) is not None:
        return found
    router = find_router(args)
    with look_at_ledger() as ledger:
        sets = ledger.sets.list_sets(None if args.all_routers else router)
    if (found := elsewhere.instead_of(sets)) is not None:
        return found
    return _show(sets, router.label, args, console)


def _show_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway_lists import list_sets

    return _show(list_sets(gateway), gateway.url, args, console)


def _show(sets: Sequence[SavedSet], url: str, args: Namespace, console: Console) -> int:
    if args.json:
        console.line(dumps(begin_document(DONE, url) | {"sets": [_describe(item) for item in sets]}))
        return DONE
    if console.quiet:
        for item in sets:
            console.line(item.name)
        return DONE
    rows = [(item.name, tell_time(item.saved_wall), show_models(item.models), item.router.label) for item in sets]
    print_table(("SET", "SAVED", "MODELS", "ROUTER"), rows, args, console)
    if not sets:
        console.say("No sets." if args.all_routers else f"No sets of {url}; 'corral save SET' makes one.")
    return DONE


def show_models(models: Sequence[str]) -> str:
    """A few of them by name, and how many more."""
    shown = [show_name(model, 40) for model in models[:_NAMED]]
    more = len(models) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown) or "-"


def _describe(item: SavedSet) -> dict[str, Any]:
    return {
        "name": item.name,
        "url": item.router.label,
        "saved": round(item.saved_wall, 3),
        "user": item.owner.user,
        "host": item.owner.host,
        "models": item.models,
    }

"""``corral save``: remember what is resident, in order, to be put back later."""

from __future__ import annotations

import time
from os import environ

from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.records import look_at_ledger, open_ledger, record_deeds
from corral.faces.cli.session import open_router
from corral.faces.cli.times import tell_time
from corral.faces.cli.words import count
from corral.wire import BadArgumentError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops.promises import SavedSet
    from corral.wire import Model

SPEC = Spec(
    "SET [--all | NAME...] [options]",
    (Option(("-a", "--all"), "all residents, as without names"), DRY_RUN, *tell_timeout("60s")),
    "SET",
    "The set holds the residents in the router's order, or the models named, resident or not, in the order given.\n"
    "It takes the place of an older one of that name. 'corral sets' lists all, 'corral forget SET' removes one.",
    offers="residents",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Remember the residents, or what was named."""
    from corral.ledger import check_set_name

    if not args.words:
        raise BadArgumentError("save: the set has no name.", "Give it one, such as 'corral save evening'.")
    name, *names = args.words
    check_set_name(name)
    if names and args.all:
        raise BadArgumentError("Names do not go together with --all.", "Give one or the other.")
    with open_router(args, is_single_call=True) as router:
        models = _choose(router, names)
        url, is_gateway = router.url, router.gateway is not None
        ids = tuple(model.id for model in models)
        if is_gateway:
            from corral.faces.cli.gateway_lists import save

            before = save(router, name, ids, is_dry=args.dry_run)
    if not is_gateway:
        before = _save(args, name, ids, url)
    replaced = None if before is None else before.models
    deeds = [Deed(model.id, "save", "saved", f"it is {escape_controls(model.status)}") for model in models]
    show_deeds(deeds, "models", url, args, console, {"set": name, "replaced": replaced})
    _conclude(name, ids, before, args, console, url)
    if not (args.dry_run or is_gateway):
        record_deeds([Deed(name, "save", "saved", count(len(ids)))], "save", url, console)
    return DONE


def _save(args: Namespace, name: str, ids: tuple[str, ...], url: str) -> SavedSet | None:
    """Remember a set; the one of that name from before, None when there was none."""
    from corral.client import identify
    from corral.ledger import read_owner

    key = identify(url)
    if args.dry_run:
        with look_at_ledger() as ledger:
            return ledger.sets.find(name, key)
    with open_ledger() as ledger:
        return ledger.sets.save(name, key, ids, owner=read_owner(environ), wall=time.time())


def _choose(router: Router, names: list[str]) -> list[Model]:
    from corral.ops import find_models

    listing = router.list_models()
    return find_models(listing, names) if names else [model for model in listing.models if model.is_resident]


def _conclude(
    name: str, ids: tuple[str, ...], before: SavedSet | None, args: Namespace, console: Console, url: str
) -> None:
    if args.dry_run:
        console.say("Nothing was changed.")
        return
    what = f"Saved {count(len(ids))} of {url}" if ids else f"No resident models on {url}: saved an empty set"
    console.say(f"{what} as {name}.")
    if before is not None and before.models != ids:
        console.say(f"It takes the place of that from {tell_time(before.saved_wall)} with {count(len(before.models))}.")

"""``corral pin``: keep models from being chosen by a rule."""

from __future__ import annotations

import time
from os import environ

from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import DRY_RUN, Spec, tell_timeout
from corral.faces.cli.records import look_at_ledger, open_ledger, record_deeds
from corral.faces.cli.session import open_router
from corral.faces.cli.words import count
from corral.wire import BadArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.faces.cli.console import Console

SPEC = Spec(
    "NAME... [options]",
    (DRY_RUN, *tell_timeout("60s")),
    "NAME",
    "Commands of Corral then take these models only when they are named, or with --include-pinned. A pin binds\n"
    "Corral alone: clients and the router's own --models-max still unload them. 'corral pins' lists what is pinned.",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Pin what was named."""
    if not args.words:
        raise BadArgumentError("No model was named.", "Name one or more; 'corral pins' shows what is pinned.")
    from corral.client import identify
    from corral.ledger import read_owner
    from corral.ops import find_models

    with open_router(args, is_single_call=True) as router:
        url = router.url
        models = [model.id for model in find_models(router.list_models(), args.words)]
        if router.gateway is not None:
            from corral.faces.cli.gateway import pin

            return pin(args, router, models, console)
    key = identify(url)
    if args.dry_run:
        with look_at_ledger() as ledger:
            pinned = {pin.model for pin in ledger.pins.list_pins(key)}
        added = [model for model in models if model not in pinned]
    else:
        with open_ledger() as ledger:
            added = ledger.pins.add(key, models, owner=read_owner(environ), wall=time.time())
    deeds = [_describe(model, model in added) for model in models]
    show_deeds(deeds, "models", url, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
        return DONE
    if added:
        console.say(f"Pinned {count(len(added))} on {url}. This binds Corral alone, not the router or its clients.")
    record_deeds(deeds, "pin", url, console)
    return DONE


def _describe(model: str, is_new: bool) -> Deed:
    return Deed(model, "pin", "pinned") if is_new else Deed(model, "leave", "was_pinned", "it is pinned")

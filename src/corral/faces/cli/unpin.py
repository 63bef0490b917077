"""``corral unpin``: let rules choose models again."""

from __future__ import annotations

from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger, open_ledger, record_deeds
from corral.faces.cli.words import count
from corral.wire import BadArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console

SPEC = Spec(
    "NAME... | --all [options]",
    (Option(("-a", "--all"), "every pinned model of this router"), DRY_RUN, *tell_timeout("60s")),
    "NAME",
    "The router is asked only for names that are not the id of a pinned model.",
    offers="pins",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Unpin what was named."""
    if bool(args.words) == args.all:
        message = "Names do not go together with --all." if args.all else "No model was named."
        raise BadArgumentError(message, "Name one or more models, or say --all; 'corral pins' shows what is pinned.")
    elsewhere = AtGateway(args, lambda gateway: _unpin_at(gateway, args, console))
    if (found := elsewhere.first()) is not None:
        return found
    router = find_router(args)
    with look_at_ledger() as ledger:
        pinned = [pin.model for pin in ledger.pins.list_pins(router)]
    if (found := elsewhere.instead_of(pinned)) is not None:
        return found
    models = pinned if args.all else find_ids(args, args.words, pinned)
    if args.dry_run or not pinned:
        removed = [model for model in models if model in pinned]
    else:
        with open_ledger() as ledger:
            removed = ledger.pins.remove(router, models)
    deeds = [describe(model, model in removed) for model in models]
    show_deeds(deeds, "models", router.label, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
        return DONE
    console.say(
        f"Unpinned {count(len(removed))} on {router.label}." if removed else f"Nothing to unpin on {router.label}."
    )
    record_deeds(deeds, "unpin", router.label, console)
    return DONE


def _unpin_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway_lists import unpin

    return unpin(args, gateway, console)


def find_ids(args: Namespace, names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The ids that names mean: those known as they are, the others by asking the router, which knows the aliases.

    Raises UnknownModelError for a name that is no model's.
    """
    found: dict[str, bool] = {name: True for name in names if name in known}
    others = [name for name in names if name not in known]
    if others:
        from corral.faces.cli.session import open_router
        from corral.ops import find_models

        with open_router(args, is_single_call=True) as router:
            found.update((model.id, True) for model in find_models(router.list_models(), others))
    return list(found)


def describe(model: str, was_pinned: bool) -> Deed:
    """What was done, or would be."""
    return (
        Deed(model, "unpin", "unpinned") if was_pinned else Deed(model, "leave", "was_not_pinned", "it is not pinned")
    )

"""``corral forget``: remove sets from the ledger."""

from __future__ import annotations

from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import DRY_RUN, HELP, JSON, QUIET, URL, Spec
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger, open_ledger, record_deeds
from corral.wire import BadArgumentError, CorralError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console

SPEC = Spec(
    "SET... [options]",
    (DRY_RUN, URL, JSON, QUIET, HELP),
    "SET",
    "No model is touched.",
    offers="sets",
    lists=("sets",),
)


def run(args: Namespace, console: Console) -> int:
    """Forget what was named."""
    if not args.words:
        raise BadArgumentError("No set was named.", "Name one or more; 'corral sets' shows them.")
    elsewhere = AtGateway(args, lambda gateway: _forget_at(gateway, args, console))
    if (found := elsewhere.first()) is not None:
        return found
    router = find_router(args)
    with look_at_ledger() as ledger:
        known = [item.name for item in ledger.sets.list_sets(router)]
    names = list(dict.fromkeys(args.words))
    if (found := elsewhere.instead_of([name for name in names if name in known])) is not None:
        return found
    check_sets(names, known, router.label)
    if not args.dry_run:
        with open_ledger() as ledger:
            names = [name for name in names if ledger.sets.forget(name, router)]
    deeds = [Deed(name, "forget", "forgotten") for name in names]
    show_deeds(deeds, "sets", router.label, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
    else:
        record_deeds(deeds, "forget", router.label, console)
    return DONE


def _forget_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway_lists import forget_all

    return forget_all(args, gateway, console)


def check_sets(names: Sequence[str], known: Sequence[str], url: str) -> None:
    """Raise CorralError for names that are no set's, with the nearest ones."""
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    from difflib import get_close_matches

    near = get_close_matches(unknown[0][:100], known, 3)
    hint = f"Did you mean {' or '.join(near)}?" if near else "'corral sets' shows them; -A those of other routers too."
    raise CorralError(f"There is no set {', '.join(map(show_name, unknown))} of {url}.", hint)

"""``corral restore``: load the models of a set again, in order, within the room that the router has."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.forget import check_sets
from corral.faces.cli.options import DRY_RUN, Spec, tell_timeout
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger, record_report
from corral.faces.cli.restoring import conclude, find_held, restore
from corral.faces.cli.session import open_router
from corral.faces.cli.words import describe_report, print_next_steps, print_outcomes
from corral.ops import LoadReport
from corral.wire import BadArgumentError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ops.promises import SavedSet
    from corral.wire import Listing

SPEC = Spec(
    "SET [options]",
    (DRY_RUN, *tell_timeout("10m for each model")),
    "SET",
    "One after another, in the order in which they were saved. What is resident already stays as it is. What the\n"
    "router has no room for is left and reported, so that nobody's model is evicted; so is what is held, and what the\n"
    "router does not list any more. Exit 0 only if all of the set is resident.",
    offers="sets",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Load what the set names, and tell what was seen to happen."""
    if len(args.words) != 1:
        message = "restore: the set has no name." if not args.words else "restore: one set at a time."
        raise BadArgumentError(message, "Name one; 'corral sets' shows them.")
    found = _find_set(args)
    with open_router(args, sees_machine=True) as router:
        if args.dry_run:
            return _show_plan(found, args, router, console)
        if not found.models:
            report = LoadReport((), 0.0)
        else:
            report = restore(router, found.models, console, timeout_s=args.timeout)
        code = console.settle(code_of_report(report))
        if args.json:
            console.line(dumps(describe_report(report, router.url, code) | {"set": found.name}))
        else:
            print_outcomes(report, console)
            if found.models:
                conclude(report, router.url, console)
            else:
                console.say(f"The set {found.name} is empty: there is nothing to restore.")
        print_next_steps(report, console)
        record_report(report, "restore", router.url, console)
        return code


def _find_set(args: Namespace) -> SavedSet:
    router, name = find_router(args), args.words[0]
    sets: list[SavedSet] = []
    elsewhere = AtGateway(args, lambda gateway: _list_at(gateway, sets))
    if elsewhere.first() is None:
        with look_at_ledger() as ledger:
            known = ledger.sets.list_sets(router)
        if elsewhere.instead_of([item for item in known if item.name == name]) is None:
            sets = known
    check_sets([name], [item.name for item in sets], router.label)
    return next(item for item in sets if item.name == name)


def _list_at(gateway: Gateway, sets: list[SavedSet]) -> int:
    from corral.faces.cli.gateway_lists import list_sets

    sets += list_sets(gateway)
    return DONE


def _show_plan(found: SavedSet, args: Namespace, router: Router, console: Console) -> int:
    """What would be done, as far as the room allows: that is counted only when it is done."""
    held, listing = find_held(router.url, found.models), router.list_models()
    plan = [(name, *_plan(name, listing, held)) for name in found.models]
    if args.json:
        rows = [{"id": name, "action": action, "reason": reason} for name, action, reason in plan]
        console.line(dumps(begin_document(DONE, router.url) | {"dry_run": True, "set": found.name, "models": rows}))
    else:
        shown = [(show_name(name), action, reason) for name, action, reason in plan]
        for line in format_rows([("NAME", "ACTION", "REASON"), *shown] if shown else []):
            console.line(line)
    console.say("Nothing was changed. Room is counted before each load.")
    return DONE


def _plan(name: str, listing: Listing, held: dict[str, str]) -> tuple[str, str]:
    model = next((model for model in listing.models if model.answers_to(name)), None)
    if model is None:
        return "leave", "the router does not list it any more"
    if not model.is_resident and name in held:
        return "leave", held[name]
    return "leave" if model.is_resident else "load", f"it is {escape_controls(model.status)}"

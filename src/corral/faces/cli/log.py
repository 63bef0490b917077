"""``corral log``: what was done, by whom, and what was seen to come of it."""

from __future__ import annotations

import time
from json import dumps
from os import environ

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import Option, Spec
from corral.faces.cli.records import AtGateway, find_router
from corral.faces.cli.tables import LIST_EPILOG, LIST_OPTIONS, print_table
from corral.faces.cli.times import tell_time
from corral.faces.cli.words import tell_bytes
from corral.wire import escape_controls, shorten, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ops.promises import LogEntry

SPEC = Spec(
    "[--since DURATION] [--model NAME] [-n N] [options]",
    (
        Option(("--since",), "only what was done within this time, such as 1h", "DURATION"),
        Option(("--model",), "only what was done to the model with this id", "NAME"),
        Option(("-n", "--count"), "the newest N; without it 50, or all with --since", "N"),
        *LIST_OPTIONS,
    ),
    epilog=f"Oldest first, in this machine's time zone.\n{LIST_EPILOG}",
    lists=("entries",),
)
SHOWN = 50
"""So many are shown where nothing says how many."""
_LONGEST_REASON = 100


def run(args: Namespace, console: Console) -> int:
    """Print what the log tells."""
    elsewhere = AtGateway(args, lambda gateway: _show_at(gateway, args, console), is_meant=not args.all_routers)
    if (found := elsewhere.first()) is not None:
        return found
    from corral.ledger import find_folder, read_log

    router = find_router(args)
    limit = args.count if args.count is not None or args.since is not None else SHOWN
    entries, older = read_log(
        find_folder(environ),
        since_wall=None if args.since is None else time.time() - args.since,
        model=args.model,
        router=None if args.all_routers else router,
        limit=limit,
    )
    if (found := elsewhere.instead_of(entries)) is not None:
        return found
    if args.json:
        from corral.ops.documents import describe_entry

        rows = [describe_entry(entry) for entry in entries]
        console.line(dumps(begin_document(DONE, router.label) | {"older": older, "entries": rows}))
        return DONE
    header = ("TIME", "BY", "COMMAND", "NAME", "OUTCOME", "FREED", "ROUTER", "REASON")
    print_table(header, [show_entry(entry) for entry in entries], args, console)
    if older:
        console.say(f"{older} older not shown; -n or --since shows more.")
    if not entries:
        console.say("Nothing was done." if args.all_routers else f"Nothing was done on {router.label}.")
    return DONE


def _show_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway import show_log

    return show_log(args, gateway, console)


def show_entry(entry: LogEntry) -> tuple[str, ...]:
    """An entry as a row."""
    freed = "-" if entry.freed_bytes is None else tell_bytes(entry.freed_bytes)
    outcome = escape_controls(entry.outcome.replace("_", " "))
    who, command = escape_controls(entry.owner.label), escape_controls(entry.command)
    reason = shorten(escape_controls(entry.reason), _LONGEST_REASON)
    label = escape_controls(entry.router.label)
    return tell_time(entry.wall), who, command, show_name(entry.model, 60), outcome, freed, label, reason

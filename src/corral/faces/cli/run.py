"""``corral run``: unload models, keep them away while a command runs, and put them back."""

from __future__ import annotations

from os import environ

from corral.faces.cli.child import check_command
from corral.faces.cli.exits import NEVER_RUN
from corral.faces.cli.options import CONNECTION, DRY_RUN, HELP, JSON, QUIET, TIMEOUT, Option, Spec
from corral.faces.cli.run_plan import check_choice, plan_run, show_plan
from corral.faces.cli.session import find_home, open_router
from corral.wire import BadArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console

_JSON = Option(JSON.flags, "one JSON document as the last line on stderr; on stdout where the command was not started")
SPEC = Spec(
    "[--all | NAME... | --free SIZE] [options] -- COMMAND [ARGS...]",
    (
        Option(("-a", "--all"), "every resident model, as without names; pinned ones stay"),
        Option(("--free",), "only as many idle models as it takes for so much free memory, such as 12GiB", "SIZE"),
        Option(("--device",), "where --free makes room: number or id of a device, or 'host'", "DEVICE"),
        Option(("--except",), "leave this model alone; may be repeated", "NAME", many=True),
        Option(("--include-pinned",), "also what is pinned, which otherwise only its name takes"),
        DRY_RUN,
        Option(("--grace",), "how long requests in flight are waited for (default 30s)", "DURATION", may_be_zero=True),
        Option(("--force",), "when that is over, unload all the same and cut them"),
        Option(("--no-restore",), "load nothing again when the command has ended"),
        Option(("--for",), "when the hold ends at the latest, whatever happens (default 24h)", "DURATION"),
        Option(("--reason",), "why, for whoever looks at 'corral holds'", "TEXT"),
        *CONNECTION,
        Option(
            TIMEOUT.flags, "time to unload, and again to put back (default as for unload and restore)", TIMEOUT.value
        ),
        *(_JSON, QUIET, HELP),
    ),
    "NAME",
    "The command starts only when all was seen unloaded and its memory free. Its exit code becomes that of corral\n"
    "run, and signals reach it. Where it is not started what went comes back, and the code is 6 for models that are\n"
    "still busy, 7 for what came back or is not free, 126 or 127 for a command that cannot be run or is not there,\n"
    "and 125 for all else. stdout is the command's alone. If corral run is killed, 'corral recover' puts the models\n"
    "back.",
    "residents",
    lists=("models", "restored"),
    takes_command=True,
    failure=NEVER_RUN,
)


def run(args: Namespace, console: Console) -> int:
    """Take away, run, and put back."""
    check_choice(args)
    if not args.command:
        raise BadArgumentError(
            "run: no command was given.", "It follows the mark --, as in: corral run --all -- sleep 60"
        )
    if not args.command[0]:
        # What a shell makes of "$PROGRAM" where that is not set.
        raise BadArgumentError("run: the command is empty.", "After the mark -- comes the program's name.")
    # Before any model is touched.
    path = check_command(args.command, environ.get("PATH"))
    with open_router(args, sees_machine=True) as router:
        return run_beside(router, path, args, console)


def run_beside(router: Router, path: str, args: Namespace, console: Console) -> int:
    """Look, choose, and carry it out; ``path`` is the program of the command, and ``router`` has a meter."""
    router.list_models()
    home, gateway = find_home(router), None
    if router.gateway is not None:
        from corral.faces.cli.doorkeeper import Doorkeeper

        gateway = Doorkeeper(router, home)
    plan = plan_run(args, router, home, console)
    if args.dry_run:
        return show_plan(plan, args, router.url, console)
    from corral.faces.cli.records import open_ledger
    from corral.faces.cli.tenure import Tenure

    with open_ledger() as ledger:
        return Tenure(args, plan, router, ledger, console, gateway).carry_out(path)

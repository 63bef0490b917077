"""``corral keep``: unload what has been idle for too long, for as long as it runs. Asks no model, and cuts nothing."""

from __future__ import annotations

from time import monotonic

from corral.config import parse_duration
from corral.faces.cli.exits import DONE, INTERRUPTED, STILL_BUSY
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.session import open_router
from corral.ops.idle import IdleLimits
from corral.ops.keeper import BLIND, Keep, KeepReport
from corral.ops.keeper import INTERRUPTED as WAS_INTERRUPTED
from corral.wire import BadArgumentError, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops.protocol import Input

SPEC = Spec(
    "--idle DURATION [--match GLOB=DURATION] [--never NAME] [options]",
    (
        Option(("--idle",), "unload what has been idle for so long, such as 30m; there is no default", "DURATION"),
        Option(
            ("--match",),
            "another limit for models whose id or alias matches; may be repeated, the first that matches counts",
            "GLOB=DURATION",
            many=True,
        ),
        Option(("--never",), "leave this model alone; may be repeated", "NAME", many=True),
        Option(DRY_RUN.flags, "look once, show what would be done and why, and do nothing"),
        *tell_timeout("none: until Ctrl-C or SIGTERM"),
    ),
    epilog="Runs on the router's own machine. Idle is counted from the end of the last answer, by the connections to\n"
    "a model's process; what was idle before this started counts from its start, a sleeping model by its sleep.\n"
    "Whoever asks a model regularly, such as a scraper, keeps it. Pinned models stay. A router that goes away is\n"
    "waited for. It ends by Ctrl-C (exit 130), SIGTERM (143), --timeout (0), or with 6 where requests in flight\n"
    "can't be seen. --json prints one document a line (NDJSON).",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Watch until there is a reason to stop."""
    limits = _read_limits(args)
    with open_router(args, sees_machine=True) as router:
        return keep(limits, args, router, console)


def keep(limits: IdleLimits, args: Namespace, router: Router, console: Console) -> int:
    """Watch, or with ``--dry-run`` look once; ``router`` has a meter."""
    if args.dry_run:
        from corral.faces.cli.keep_plan import show_plan

        return show_plan(limits, args, router, console)
    from queue import SimpleQueue

    from corral.faces.cli.keep_talk import KeepTalk

    console.is_stream = args.json
    until = None if args.timeout is None else monotonic() + args.timeout
    verb = Keep(limits, never=tuple(args.never), until=until)
    inbox: SimpleQueue[Input] = SimpleQueue()
    talk = KeepTalk(limits, router.url, console, inbox.put, json=args.json)
    report: KeepReport = router.run(verb, talk, inbox)
    code = DONE
    if report.ended == BLIND:
        code = STILL_BUSY
        explain_blindness(report.reason, router, console)
    elif report.ended == WAS_INTERRUPTED:
        code = INTERRUPTED
    talk.end(report, console.settle(code))
    return code


def explain_blindness(reason: str, router: Router, console: Console) -> None:
    """Why nothing is kept here: it would cut answers."""
    if router.gateway is not None:
        console.warn(f"corral: {router.url} is a gateway: the router's processes are not to be seen there.")
        console.warn(
            "The gateway itself unloads what is idle: set idle in the table [serve] of its configuration (and "
            "idle_match, idle_never).\nOr give keep the router's own address."
        )
        return
    console.warn(f"corral: Requests in flight cannot be seen: {escape_controls(reason)}.")
    console.warn("A model would be unloaded in the middle of an answer: run this on the router's own machine.")


def _read_limits(args: Namespace) -> IdleLimits:
    if args.idle is None and not args.match:
        raise BadArgumentError("keep: no limit is given.", "Say it as in: corral keep --idle 30m")
    return IdleLimits(args.idle, tuple(map(_read_match, args.match)))


def _read_match(text: str) -> tuple[str, float]:
    pattern, equals, duration = text.rpartition("=")
    if not (pattern and equals):
        shown = escape_controls(shorten(text, 100))
        raise BadArgumentError(f"--match: no limit is given for {shown}.", "Say it as in: --match 'qwen*=1h'")
    return pattern, parse_duration(duration, f"--match {escape_controls(shorten(pattern, 100))}")

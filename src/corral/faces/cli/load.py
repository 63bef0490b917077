"""``corral load``: load models, one after another, and see each of them up."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.listing import describe_state
from corral.faces.cli.options import COMMON, Option, Spec
from corral.faces.cli.progress import Progress
from corral.faces.cli.session import open_router
from corral.faces.cli.words import count, describe_report, print_next_steps, print_outcomes, tell_seconds
from corral.ops import Load, find_models
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import LoadReport

SPEC = Spec(
    "NAME... [options]",
    (
        Option(("-n", "--dry-run"), "show what would be done, and do nothing"),
        Option(("--no-wait",), "end when the router has accepted the requests"),
        *COMMON,
    ),
    "NAME",
    "Waits up to 10 minutes unless --timeout says otherwise. Exit 0 only if every model was seen loaded.",
)


def run(args: Namespace, console: Console) -> int:
    """Load what was named, and tell what was seen to happen."""
    verb = Load(args.words, wait=not args.no_wait, timeout_s=args.timeout)
    with open_router(args) as router:
        if args.dry_run:
            return _show_plan(args, router, console)
        report: LoadReport = router.run(verb, Progress(console))
        code = code_of_report(report)
        if args.json:
            console.line(dumps(describe_report(report, router.url, code)))
        else:
            print_outcomes(report, console)
            _conclude(report, router.url, console)
        print_next_steps(report, console)
        return code


def _show_plan(args: Namespace, router: Router, console: Console) -> int:
    models = find_models(router.list_models(), args.words)
    actions = ["leave" if model.is_resident and model.status != "loading" else "load" for model in models]
    if args.json:
        planned = [
            {"id": model.id, "status": model.status, "action": action}
            for model, action in zip(models, actions, strict=True)
        ]
        console.line(dumps({"schema_version": 1, "url": router.url, "dry_run": True, "models": planned}))
    else:
        rows = [
            (show_name(model.id), action, f"it is {describe_state(model)}")
            for model, action in zip(models, actions, strict=True)
        ]
        for line in format_rows([("NAME", "ACTION", "REASON"), *rows]):
            console.line(line)
    console.say("Nothing was changed.")
    return DONE


def _conclude(report: LoadReport, url: str, console: Console) -> None:
    for item in report.outcomes:
        for evicted in item.evicted:
            console.say(f"The router unloaded {show_name(evicted)} to make room for {show_name(item.model)}.")
    outcomes = [item.outcome for item in report.outcomes]
    done, asked = outcomes.count("loaded"), outcomes.count("requested")
    already = outcomes.count("already_loaded")
    if report.interrupted:
        untouched = outcomes.count("not_requested")
        console.warn(
            f"Interrupted: {done + already} loaded, {len(outcomes) - done - already - untouched} asked for and still "
            f"under way in the router, {untouched} not asked for."
        )
        return
    first = report.outcomes[0] if report.outcomes else None
    if done == 1 and first is not None and len(outcomes) == 1 and first.seconds is not None:
        console.say(f"Loaded {show_name(first.model)} in {tell_seconds(first.seconds)}.")
    elif done:
        console.say(f"Loaded {count(done)} on {url}.")
    if asked:
        console.say(f"Asked {url} to load {count(asked)}; not waited for.")
    if already and not done:
        console.say(f"Loaded already: {count(already)}.")
    failed = len(outcomes) - done - asked - already
    if failed:
        console.say(f"Not seen loaded: {count(failed)}.")

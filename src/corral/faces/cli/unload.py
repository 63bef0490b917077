"""``corral unload``: unload models and see it done."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.options import COMMON, Option, Spec
from corral.faces.cli.progress import Progress
from corral.faces.cli.session import open_router
from corral.faces.cli.words import count, describe_report, print_next_steps, print_outcomes
from corral.ops import KILLED_WHILE_LOADING, KILLING_WHILE_LOADING, Selection, Unload, check_selection, plan_unload
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import UnloadReport

SPEC = Spec(
    "NAME... | --all [--tag TAG] [--match GLOB] [--except NAME] [options]",
    (
        Option(("-a", "--all"), "every resident model: loaded, sleeping and loading"),
        Option(("--tag",), "of all, those with this tag; may be repeated", "TAG", many=True),
        Option(("--match",), "of all, those whose id or alias matches; may be repeated", "GLOB", many=True),
        Option(("--except",), "leave this model alone; may be repeated", "NAME", many=True),
        Option(("-n", "--dry-run"), "show what would be done, and do nothing"),
        Option(("--now",), "also kill what is still loading, which can hang the router's load queue"),
        Option(("--no-wait",), "end when the router has accepted the requests"),
        *COMMON,
    ),
    "NAME",
    "A model that is loading is let up first and unloaded then. Exit 0 only if every model was seen unloaded.",
)


def run(args: Namespace, console: Console) -> int:
    """Unload what was selected, and tell what was seen to happen."""
    excepted = tuple(getattr(args, "except"))
    selection = Selection(tuple(args.words), args.all, tuple(args.tag), tuple(args.match), excepted)
    check_selection(selection)
    with open_router(args) as router:
        if args.dry_run:
            return _show_plan(args, router, selection, console)
        verb = Unload(selection, at_once=args.now, wait=not args.no_wait, timeout_s=args.timeout)
        report: UnloadReport = router.run(verb, Progress(console))
        code = code_of_report(report)
        if args.json:
            console.line(dumps(describe_report(report, router.url, code)))
        else:
            print_outcomes(report, console)
            _conclude(report, router.url, selection, console)
        print_next_steps(report, console)
        _warn_of_kills(report, console)
        return code


def _show_plan(args: Namespace, router: Router, selection: Selection, console: Console) -> int:
    plan = plan_unload(router.list_models(), selection, at_once=args.now)
    if args.json:
        models = [
            {"id": item.model.id, "status": item.model.status, "action": item.action, "reason": item.reason}
            for item in plan
        ]
        console.line(dumps({"schema_version": 1, "url": router.url, "dry_run": True, "models": models}))
    else:
        rows = [(show_name(item.model.id), item.action.replace("_", " "), item.reason) for item in plan]
        for line in format_rows([("NAME", "ACTION", "REASON"), *rows] if rows else []):
            console.line(line)
    console.say("Nothing was changed." if plan else _nothing(router.url, selection))
    return DONE


def _conclude(report: UnloadReport, url: str, selection: Selection, console: Console) -> None:
    outcomes = [item.outcome for item in report.outcomes]
    if report.interrupted:
        console.warn(_tell_interruption(outcomes))
        return
    if not outcomes:
        console.say(_nothing(url, selection))
        return
    sentences = []
    done, asked = outcomes.count("unloaded"), outcomes.count("requested")
    idle = outcomes.count("already_unloaded")
    failed = len(outcomes) - done - asked - idle
    if done:
        sentences.append(f"Unloaded {count(done)} on {url}.")
    if asked:
        sentences.append(f"Asked {url} to unload {count(asked)}; not waited for.")
    if idle and not (done or asked or failed):
        sentences.append(f"Nothing to unload on {url}.")
    if failed:
        sentences.append(f"Not seen unloaded: {count(failed)}.")
    console.say(" ".join(sentences))


def _tell_interruption(outcomes: list[str]) -> str:
    """What was and was not done, in one line."""
    done = outcomes.count("unloaded") + outcomes.count("already_unloaded")
    untouched = outcomes.count("not_requested") + outcomes.count("still_loading")
    asked = len(outcomes) - done - untouched
    return f"Interrupted: {done} unloaded, {asked} asked for but not seen unloaded, {untouched} not asked for."


def _nothing(url: str, selection: Selection) -> str:
    narrowed = selection.tags or selection.patterns or selection.excepted
    return f"No resident models on {url}{' that match' if narrowed else ''}."


def _warn_of_kills(report: UnloadReport, console: Console) -> None:
    """A kill while loading can hang the router; say so where it was done."""
    killed = [item.model for item in report.outcomes if item.detail == KILLED_WHILE_LOADING]
    if killed:
        console.warn(f"Note: {KILLING_WHILE_LOADING}. Killed here: {', '.join(map(show_name, killed))}.")

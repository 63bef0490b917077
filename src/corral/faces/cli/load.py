"""``corral load``: load models, one after another, and see each of them up."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.listing import describe_state
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.progress import Progress
from corral.faces.cli.session import open_router
from corral.faces.cli.words import count, describe_report, print_next_steps, print_outcomes, tell_seconds
from corral.ops import Load, LoadReport, Outcome, find_models
from corral.ops.outcome import HELD
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from corral.client import Router
    from corral.faces.cli.console import Console

SPEC = Spec(
    "NAME... [options]",
    (
        Option(("-n", "--dry-run"), "show what would be done, and do nothing"),
        Option(("--no-wait",), "end when the router has accepted the requests"),
        *tell_timeout("10m"),
    ),
    "NAME",
    "Exit 0 only if every model was seen loaded. One that somebody holds is left alone (exit 8), and it is said by\n"
    "whom, what for and until when; 'corral release NAME' lets it out of the hold.",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Load what was named, and tell what was seen to happen."""
    verb = Load(args.words, wait=not args.no_wait, timeout_s=args.timeout)
    with open_router(args) as router:
        held = _find_held(args.words, router, console)
        if args.dry_run:
            return _show_plan(args, router, held, console)
        report = _load(args, verb, router, held, console)
        code = console.settle(code_of_report(report))
        if args.json:
            console.line(dumps(describe_report(report, router.url, code)))
        else:
            print_outcomes(report, console)
            _conclude(report, router.url, console)
        print_next_steps(report, console)
        from corral.faces.cli.records import record_report

        record_report(report, "load", router.url, console)
        return code


def _find_held(names: Sequence[str], router: Router, console: Console) -> dict[str, Outcome]:
    """Of the models that are meant and not resident, those that are held, by id; one stat where there is no ledger."""
    from corral.faces.cli.records import may_know

    if not may_know():
        return {}
    from corral.faces.cli.restoring import list_holds, pick_held
    from corral.ledger import LedgerError, read_moment

    now = read_moment()
    try:
        holds = list_holds(router.url, now)
    except LedgerError as error:
        console.say(f"What is held is not known: {error.message} {error.hint}")
        return {}
    if not holds:
        return {}
    away = {model.id: model for model in find_models(router.list_models(), names) if not model.is_resident}
    reasons = pick_held(holds, list(away), now)
    return {name: Outcome(name, HELD, away[name].status, detail=reason) for name, reason in reasons.items()}


def _load(args: Namespace, verb: Load, router: Router, held: dict[str, Outcome], console: Console) -> LoadReport:
    """Load what nobody holds; the report is about all that was named, in its order."""
    if not held:
        report: LoadReport = router.run(verb, Progress(console))
        return report
    named = [model.id for model in find_models(router.list_models(), args.words)]
    free = [name for name in named if name not in held]
    if not free:
        return LoadReport(tuple(held[name] for name in named), 0.0)
    part: LoadReport = router.run(Load(free, wait=not args.no_wait, timeout_s=args.timeout), Progress(console))
    outcomes = held | {item.model: item for item in part.outcomes}
    return LoadReport(
        tuple(outcomes[name] for name in named if name in outcomes), part.seconds, part.interrupted, part.error
    )


def _show_plan(args: Namespace, router: Router, held: dict[str, Outcome], console: Console) -> int:
    models = find_models(router.list_models(), args.words)
    actions = [
        "leave" if model.id in held or (model.is_resident and model.status != "loading") else "load" for model in models
    ]
    if args.json:
        planned = [
            {"id": model.id, "status": model.status, "action": action, "held": model.id in held}
            for model, action in zip(models, actions, strict=True)
        ]
        console.line(dumps(begin_document(DONE, router.url) | {"dry_run": True, "models": planned}))
    else:
        rows = [
            (
                show_name(model.id),
                action,
                held[model.id].detail if model.id in held else f"it is {describe_state(model)}",
            )
            for model, action in zip(models, actions, strict=True)
        ]
        for line in format_rows([("NAME", "ACTION", "REASON"), *rows]):
            console.line(line)
    console.say("Nothing was changed.")
    return DONE


def _conclude(report: LoadReport, url: str, console: Console) -> None:
    for item in report.outcomes:
        for evicted in item.evicted:
            newcomer = show_name(item.model)
            console.say(
                f"While {newcomer} was loaded, {show_name(evicted)} went: the router makes room at its maximum, "
                "unless somebody unloaded it."
            )
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

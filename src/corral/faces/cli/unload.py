"""``corral unload``: unload models and see it done."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import BLOCKED, DONE, code_of_report
from corral.faces.cli.matching import Witness, find_unmatched, warn_of_unmatched
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.progress import Progress
from corral.faces.cli.session import open_router
from corral.faces.cli.words import (
    count,
    describe_report,
    print_next_steps,
    print_outcomes,
    tell_bytes,
    tell_interruption,
)
from corral.ops import (
    BY_STATUS,
    DEFAULT_GRACE_S,
    KILLED_WHILE_LOADING,
    KILLING_WHILE_LOADING,
    Selection,
    Unload,
    check_selection,
    plan_spared,
    plan_unload,
)
from corral.wire import BadArgumentError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import UnloadReport
    from corral.ops.protocol import Verb

    Names = tuple[str, ...]

SPEC = Spec(
    "NAME... | --all [--tag TAG] [--match GLOB] [--except NAME] [options]",
    (
        Option(("-a", "--all"), "every resident model: loaded, sleeping and loading"),
        Option(("--tag",), "of all, those with this tag; may be repeated", "TAG", many=True),
        Option(("--match",), "of all, those whose id or alias matches; may be repeated", "GLOB", many=True),
        Option(("--except",), "leave this model alone; may be repeated", "NAME", many=True),
        Option(("-n", "--dry-run"), "show what would be done, and do nothing"),
        Option(
            ("--grace",),
            "how long requests in flight are waited for (default 30s; 0s with --no-wait)",
            "DURATION",
            may_be_zero=True,
        ),
        Option(("--force",), "when that is over, unload all the same and cut them"),
        Option(("--include-pinned",), "also what is pinned, which otherwise only its name unloads"),
        Option(("--now",), "--grace 0s --force, and kill what is still loading, which can hang the router's queue"),
        Option(("--no-wait",), "end when the router has accepted the requests"),
        *tell_timeout("--grace, longest stop-timeout of the models and 20s"),
    ),
    "NAME",
    "A model that is loading is let up first, one that answers requests is let finish, and both are unloaded then.\n"
    "Exit 0 only if every model was seen unloaded, and its memory free where this machine shows it.",
    "residents",
    lists=("models",),
)


def run(args: Namespace, console: Console) -> int:
    """Unload what was selected, and tell what was seen to happen."""
    excepted = tuple(getattr(args, "except"))
    selection = Selection(tuple(args.words), args.all, tuple(args.tag), tuple(args.match), excepted)
    check_selection(selection)
    if args.now and args.grace is not None:
        raise BadArgumentError("--grace does not go together with --now, which waits for nothing.", "Give one of them.")
    _check_force(args)
    with open_router(args, sees_machine=True) as router:
        if not (selection.names or args.include_pinned):
            selection = _spare_pinned(selection, router.url, console)
        if args.dry_run:
            return _show_plan(args, router, selection, console)
        verb = Unload(
            selection,
            grace_s=args.grace,
            force=args.force,
            at_once=args.now,
            wait=not args.no_wait,
            timeout_s=args.timeout,
        )
        report, spared, unmatched = _run(verb, selection, router, console)
        if report is None:
            # Nothing was asked yet: the gateway knows what is in flight, and does it itself.
            from corral.faces.cli.gateway import unload

            report, spared = unload(args, router, console)
        is_blocked = bool(spared) and not report.outcomes and report.error is None and not report.interrupted
        code = BLOCKED if is_blocked else console.settle(code_of_report(report))
        if args.json:
            console.line(dumps(describe_report(report, router.url, code) | {"pinned": spared, "unmatched": unmatched}))
        else:
            print_outcomes(report, console)
            if not is_blocked:
                _conclude(report, router.url, selection, console)
        warn_of_unmatched(unmatched, selection, router.url, console)
        _tell_spared(spared, is_blocked, console)
        print_next_steps(report, console)
        _warn_of_kills(report, console)
        if router.gateway is None:
            from corral.faces.cli.records import record_report

            record_report(report, "unload", router.url, console)
        return code


def _check_force(args: Namespace) -> None:
    """Force comes when the grace is over: a time that is up by then would leave all as it is, against what was said."""
    grace_s = args.grace if args.grace is not None else DEFAULT_GRACE_S
    if args.force and not (args.now or args.no_wait) and args.timeout is not None and args.timeout <= grace_s:
        raise BadArgumentError(
            f"--force cuts when the grace period of {grace_s:g} s is over, and --timeout ends before.",
            "Give less --grace, such as --grace 0s, or more --timeout.",
        )


def _spare_pinned(selection: Selection, url: str, console: Console) -> Selection:
    """The selection without what is pinned on this router."""
    from corral.faces.cli.records import find_pinned

    pinned = find_pinned(url, console)
    return Selection((), selection.all, selection.tags, selection.patterns, selection.excepted, pinned)


def _run(
    verb: Verb, selection: Selection, router: Router, console: Console
) -> tuple[UnloadReport | None, Names, Names]:
    """The report, the pinned models that were left alone, and the tags and patterns that no model has.

    The report is None where a gateway answers; nothing was asked of it then.
    """
    witness = Witness(verb, lambda: router.gateway is not None)
    if not selection.pinned:
        return router.run(witness, Progress(console)), (), find_unmatched(witness.listing, selection)
    from corral.ops.sparing import Sparing

    sparing = Sparing(witness, selection)
    report: UnloadReport | None = router.run(sparing, Progress(console))
    return report, sparing.spared, find_unmatched(witness.listing, selection)


def _tell_spared(spared: tuple[str, ...], is_blocked: bool, console: Console) -> None:
    if not spared:
        return
    names = ", ".join(map(show_name, spared))
    if is_blocked:
        console.warn(f"corral: Nothing was unloaded: what is resident is pinned: {names}.")
        console.warn("Name what is to go, or say --include-pinned.")
    else:
        console.say(f"Left alone, because pinned: {names}.")


def _show_plan(args: Namespace, router: Router, selection: Selection, console: Console) -> int:
    listing = router.list_models()
    if router.gateway is not None and not (selection.names or args.include_pinned):
        # What is pinned there lies in the gateway's ledger.
        from corral.faces.cli.gateway_lists import list_pinned

        kept = (selection.tags, selection.patterns, selection.excepted)
        selection = Selection((), selection.all, *kept, list_pinned(router))
    unmatched = find_unmatched(listing, selection)
    plan = plan_unload(listing, selection, at_once=args.now) + plan_spared(listing, selection)
    if args.json:
        models = [
            {"id": item.model.id, "status": item.model.status, "action": item.action, "reason": item.reason}
            for item in plan
        ]
        console.line(
            dumps(begin_document(DONE, router.url) | {"dry_run": True, "models": models, "unmatched": unmatched})
        )
    else:
        rows = [(show_name(item.model.id), item.action.replace("_", " "), item.reason) for item in plan]
        for line in format_rows([("NAME", "ACTION", "REASON"), *rows] if rows else []):
            console.line(line)
    console.say("Nothing was changed." if plan else _nothing(router.url, selection))
    warn_of_unmatched(unmatched, selection, router.url, console)
    return DONE


def _conclude(report: UnloadReport, url: str, selection: Selection, console: Console) -> None:
    outcomes = [item.outcome for item in report.outcomes]
    if report.interrupted:
        console.warn(tell_interruption(outcomes))
        return
    if not outcomes:
        console.say(_nothing(url, selection))
        return
    sentences = []
    done, asked = outcomes.count("unloaded"), outcomes.count("requested")
    idle = outcomes.count("already_unloaded")
    failed = len(outcomes) - done - asked - idle
    if done:
        sentences.append(f"Unloaded {count(done)} on {url}{_tell_proof(report)}.")
    if asked:
        sentences.append(f"Asked {url} to unload {count(asked)}; not waited for.")
    if idle and not (done or asked or failed):
        sentences.append(f"Nothing to unload on {url}.")
    if failed:
        sentences.append(f"Not seen unloaded: {count(failed)}.")
    console.say(" ".join(sentences))


def _tell_proof(report: UnloadReport) -> str:
    """How it was verified: by the memory that came back, or why by the status only."""
    freed = "" if report.freed_bytes is None else f"; {tell_bytes(report.freed_bytes)} freed"
    if report.verified != BY_STATUS:
        return freed
    reason = f": {report.unseen_reason}" if report.unseen_reason else ""
    return f"{freed} (verified: {BY_STATUS}{reason})"


def _nothing(url: str, selection: Selection) -> str:
    if selection.names:
        return f"Nothing to unload on {url}: whatever is named is excepted as well."
    narrowed = selection.tags or selection.patterns or selection.excepted
    return f"No resident models on {url}{' that match' if narrowed else ''}."


def _warn_of_kills(report: UnloadReport, console: Console) -> None:
    """A kill while loading can hang the router; say so where it was done."""
    killed = [item.model for item in report.outcomes if item.detail == KILLED_WHILE_LOADING]
    if killed:
        console.warn(f"Note: {KILLING_WHILE_LOADING}. Killed here: {', '.join(map(show_name, killed))}.")

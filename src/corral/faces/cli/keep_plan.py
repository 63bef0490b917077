"""What a keeper would do now, from one look: which model is due, when the others would be, and why some never are."""

from __future__ import annotations

from json import dumps
from time import monotonic

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, STILL_BUSY
from corral.faces.cli.listing import UNKNOWN
from corral.faces.cli.matching import find_unmatched, warn_of_unmatched
from corral.faces.cli.records import find_pinned
from corral.faces.cli.times import tell_duration
from corral.ops import Selection, find_models
from corral.ops.idle import BUSY, LOADING, NEVER, NO_LIMIT, NOT_VISIBLE, NOT_YET, PINNED, IdleTimes, judge
from corral.ops.keeper import find_blindness
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops.idle import IdleLimits, Verdict


def show_plan(limits: IdleLimits, args: Namespace, router: Router, console: Console) -> int:
    """Look once and print the verdicts."""
    pinned = find_pinned(router.url, console, may_skip=False)
    listing = router.list_models()
    never = [model.id for model in find_models(listing, args.never)]
    assert router.meter is not None, "it was asked for"
    measured = router.meter.measure(listing.models, memory=False, recent=True)
    reason = find_blindness(measured)
    times = IdleTimes()
    times.take(listing, measured, now := monotonic())
    verdicts = judge(times.tell(now), limits, never=never, pinned=pinned)
    code = STILL_BUSY if reason else DONE
    if args.json:
        rows = [_describe(verdict) for verdict in verdicts]
        console.line(dumps(begin_document(code, router.url) | {"dry_run": True, "reason": reason, "models": rows}))
    if reason:
        from corral.faces.cli.keep import explain_blindness

        explain_blindness(reason, router, console)
        return code
    if not args.json:
        _print(verdicts, console)
    console.say("Nothing was changed." if verdicts else f"No resident models on {router.url}.")
    selection = Selection((), True, (), tuple(glob for glob, _ in limits.matches))
    warn_of_unmatched(find_unmatched(listing, selection), selection, router.url, console)
    return code


def _print(verdicts: list[Verdict], console: Console) -> None:
    rows = [
        (
            show_name(verdict.model),
            escape_controls(verdict.status),
            UNKNOWN if verdict.idle_s is None else tell_duration(verdict.idle_s),
            UNKNOWN if verdict.limit_s is None else tell_duration(verdict.limit_s),
            "unload" if verdict.is_due else "leave",
            explain(verdict),
        )
        for verdict in verdicts
    ]
    for line in format_rows([("NAME", "STATE", "IDLE", "LIMIT", "ACTION", "REASON"), *rows] if rows else []):
        console.line(line)


def explain(verdict: Verdict) -> str:
    """Why a model goes or stays, in a few words."""
    if verdict.is_due:
        return "it has been idle for too long"
    if verdict.stays == NOT_YET:
        return f"at the earliest in {tell_duration(verdict.left_s or 0.0)}"
    return f"{_WORDS[verdict.stays]}{f': {escape_controls(verdict.note)}' if verdict.note else ''}"


_WORDS = {
    NEVER: "it is never to go",
    PINNED: "it is pinned",
    NO_LIMIT: "no limit is given for it",
    LOADING: "it is loading",
    BUSY: "it answers requests",
    NOT_VISIBLE: "for how long it has been idle cannot be seen",
}


def _describe(verdict: Verdict) -> dict[str, Any]:
    return {
        "id": verdict.model,
        "status": verdict.status,
        "action": "unload" if verdict.is_due else "leave",
        "stays": verdict.stays or None,
        "reason": explain(verdict),
        "idle_s": None if verdict.idle_s is None else round(verdict.idle_s, 1),
        "limit_s": verdict.limit_s,
        "pattern": verdict.pattern or None,
        "due_in_s": None if verdict.left_s is None else round(verdict.left_s, 1),
    }

"""What a report says to a person and to a program: outcome words, next steps, rows, sentences, JSON."""

from __future__ import annotations

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import NOT_ASKED, went_well
from corral.ops import UnloadReport
from corral.wire import CorralError, RefusedError, escape_controls, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops import LoadReport, Outcome

_WORDS = {
    "already_unloaded": "was not resident",
    "vanished": "not listed any more",
    "denied": "not allowed",
    "unreachable": "no answer",
    "not_requested": "not asked for",
    "already_loaded": "was resident",
    "load_failed": "failed",
}
"""Where the outcome's own name does not read well."""

NEXT_STEPS = {
    "still_busy": "Give it more --grace within its --timeout, or --force: that cuts what is still being answered.",
    "work_unseen": "On the router's own machine Corral sees connections; --force unloads without, and may cut answers.",
    "not_seen_free": "Look at the processes named; memory of one that has ended is the driver's to clear.",
    "came_back": "A client asked for it again: stop that client, or start the router with --no-models-autoload.",
    "still_loading": "Give it more --timeout; --now kills it while it loads, and says what that can do.",
    "not_seen_unloaded": "'corral wait NAME --for unloaded' goes on waiting; the router's log says what it waits for.",
    "gone_again": (
        "At its --models-max the router makes room: load fewer, or start it with more. Else somebody unloaded it:"
        " 'corral log' may tell."
    ),
    "not_seen_loaded": "The router goes on loading: 'corral wait NAME --for loaded' goes on waiting.",
    "vanished": "'corral ls' shows what the router lists now.",
    "load_failed": "The router's log says why; 'corral ls' shows the exit code.",
    "no_room": "Unload what is not needed, or start the router with more --models-max.",
    "held": "'corral holds' shows by whom; 'corral release' ends a hold.",
    "not_requested": "Nothing was asked of the router for it: give it more --timeout.",
    "refused": "The router's log says more; 'corral doctor' looks for what is wrong.",
    "denied": "Set CORRAL_API_KEY or give --api-key-file.",
    "interrupted": "'corral ps' shows what is resident now; the same command again does what is left.",
    "unreachable": "'corral ps' shows whether the router answers again, and what is resident.",
}
"""For a person: what to try after an outcome that was not wanted. An error's own hint goes before it."""


def print_outcomes(report: UnloadReport | LoadReport, console: Console) -> None:
    """A row a model; when quiet, the ids of those that went well, and the others as failures."""
    if console.quiet:
        for item in report.outcomes:
            if went_well(item, report):
                console.line(quote_name(item.model))
        warn_of_failures(report, console)
        return
    for line in format_rows([(show_name(item.model), _name(item), _explain(item)) for item in report.outcomes]):
        console.line(line)


def warn_of_failures(report: UnloadReport | LoadReport, console: Console) -> None:
    """What did not go well, on stderr, a line for each model."""
    for item in report.outcomes:
        if not went_well(item, report):
            console.warn(f"corral: {show_name(item.model)}: {_explain(item) or _name(item)}.")


def print_next_steps(report: UnloadReport | LoadReport, console: Console) -> None:
    """For each kind of failure, once, what to try next."""
    steps = {}
    for item in report.outcomes:
        if report.interrupted:
            steps = {NEXT_STEPS["interrupted"]: True}
        elif not went_well(item, report):
            hint = item.error.hint if item.error is not None else ""
            steps[hint or NEXT_STEPS.get(item.outcome, "")] = True
    if report.error is not None:
        console.warn(f"corral: {report.error.message}")
        steps = {report.error.hint or NEXT_STEPS["unreachable"]: True}
    for step in steps:
        if step:
            console.warn(step)


def describe_report(report: UnloadReport | LoadReport, url: str, code: int) -> dict[str, Any]:
    """A report for ``--json``."""
    document = begin_document(code, url) | {
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "models": [_describe_outcome(item, report) for item in report.outcomes],
    }
    if isinstance(report, UnloadReport):
        document["verified"] = report.verified
        document["freed_bytes"] = report.freed_bytes
    if report.error is not None:
        document["error"] = describe_error(report.error)
    return document


def describe_error(error: CorralError) -> dict[str, Any]:
    """An error for ``--json``."""
    document: dict[str, Any] = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    if isinstance(error, RefusedError):
        document["status"] = error.status
    return document


def count(number: int) -> str:
    """``1 model``, ``2 models``."""
    return f"{number} model" if number == 1 else f"{number} models"


def tell_interruption(outcomes: list[str]) -> str:
    """What an unload that was cut short did and did not do, in one line."""
    done = outcomes.count("unloaded") + outcomes.count("already_unloaded")
    untouched = sum(outcome in NOT_ASKED for outcome in outcomes)
    asked = len(outcomes) - done - untouched
    return f"Interrupted: {done} unloaded, {asked} asked for but not seen unloaded, {untouched} not asked for."


def tell_seconds(seconds: float) -> str:
    """A duration that was measured, to a tenth of a second; a shorter one to a hundredth."""
    if seconds < 0.005:
        return "under 0.01 s"
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds:.2f} s"


def tell_bytes(size: int) -> str:
    """A size in binary units: ``5.1 GiB``, ``38.4 MiB``, ``512 B``."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"


def _name(item: Outcome) -> str:
    name = _WORDS.get(item.outcome, item.outcome.replace("_", " "))
    return f"{name} (exit {item.exit_code})" if item.outcome == "load_failed" and item.exit_code is not None else name


def _explain(item: Outcome) -> str:
    took = f"in {tell_seconds(item.seconds)}" if item.seconds is not None else ""
    freed = f"{tell_bytes(item.freed_bytes)} freed" if item.freed_bytes is not None else ""
    return "; ".join(part for part in (took, freed, escape_controls(item.detail)) if part)


def _describe_outcome(item: Outcome, report: UnloadReport | LoadReport) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": item.model,
        "outcome": item.outcome,
        "ok": went_well(item, report),
        "status": item.status,
        "seconds": None if item.seconds is None else round(item.seconds, 3),
        "exit_code": item.exit_code,
        "detail": item.detail,
        "in_flight": item.in_flight,
        "cut": item.cut,
        "freed_bytes": item.freed_bytes,
    }
    if item.evicted:
        document["evicted"] = item.evicted
    if item.error is not None:
        document["error"] = describe_error(item.error)
    return document

"""What a report says to a person and to a program: outcome words, next steps, rows, sentences, JSON."""

from __future__ import annotations

from corral.faces.cli.columns import format_rows
from corral.faces.cli.exits import SUCCESS
from corral.wire import CorralError, RefusedError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops import LoadReport, Outcome, UnloadReport

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
    "came_back": "A client asked for it again: stop that client, or start the router with --no-models-autoload.",
    "still_loading": "Give it more --timeout; --now kills it while it loads, and says what that can do.",
    "not_seen_unloaded": "'corral wait NAME --for unloaded' goes on waiting; the router's log says what it waits for.",
    "not_seen_loaded": "The router goes on loading: 'corral wait NAME --for loaded' goes on waiting.",
    "vanished": "'corral ls' shows what the router lists now.",
    "load_failed": "The router's log says why; 'corral ls' shows the exit code.",
    "unreachable": "'corral ps' shows whether the router answers again, and what is resident.",
}
"""For a person: what to try after an outcome that was not wanted. An error's own hint goes before it."""


def print_outcomes(report: UnloadReport | LoadReport, console: Console) -> None:
    """A row a model; when quiet, the ids of those that went well, and the others as failures."""
    if console.quiet:
        for item in report.outcomes:
            if item.outcome in SUCCESS:
                console.line(escape_controls(item.model))
            else:
                console.warn(f"corral: {show_name(item.model)}: {_explain(item) or _name(item)}.")
        return
    for line in format_rows([(show_name(item.model), _name(item), _explain(item)) for item in report.outcomes]):
        console.line(line)


def print_next_steps(report: UnloadReport | LoadReport, console: Console) -> None:
    """For each kind of failure, once, what to try next."""
    steps = {}
    for item in report.outcomes:
        if item.outcome not in SUCCESS:
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
    document: dict[str, Any] = {
        "schema_version": 1,
        "url": url,
        "ok": report.ok,
        "exit_code": code,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "models": [_describe_outcome(item) for item in report.outcomes],
    }
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


def tell_seconds(seconds: float) -> str:
    """A duration that was measured, to a tenth of a second; a shorter one to a hundredth."""
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds:.2f} s"


def _name(item: Outcome) -> str:
    name = _WORDS.get(item.outcome, item.outcome.replace("_", " "))
    return f"{name} (exit {item.exit_code})" if item.outcome == "load_failed" and item.exit_code is not None else name


def _explain(item: Outcome) -> str:
    took = f"in {tell_seconds(item.seconds)}" if item.seconds is not None else ""
    return "; ".join(part for part in (took, escape_controls(item.detail)) if part)


def _describe_outcome(item: Outcome) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": item.model,
        "outcome": item.outcome,
        "ok": item.outcome in SUCCESS,
        "status": item.status,
        "seconds": None if item.seconds is None else round(item.seconds, 3),
        "exit_code": item.exit_code,
        "detail": item.detail,
    }
    if item.evicted:
        document["evicted"] = item.evicted
    if item.error is not None:
        document["error"] = describe_error(item.error)
    return document

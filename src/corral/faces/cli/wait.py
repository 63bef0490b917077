"""``corral wait``: end when models have reached a state, asking nothing of the router but its list."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import code_of_wait
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.progress import Progress
from corral.faces.cli.session import open_router
from corral.faces.cli.words import NEXT_STEPS, count, describe_error
from corral.ops import STATES, WaitFor
from corral.wire import BadArgumentError, escape_controls, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops import WaitReport

SPEC = Spec(
    "NAME... --for STATE [options]",
    (Option(("--for",), f"what to wait for: {', '.join(STATES)}", "STATE", choices=STATES), *tell_timeout("10m")),
    "NAME",
    "Exit 1 when the time was up.",
    lists=("reached", "missing"),
)


def run(args: Namespace, console: Console) -> int:
    """Wait, and tell which models came."""
    state = getattr(args, "for")
    if state is None:
        raise BadArgumentError("wait: --for is missing.", f"Say what to wait for: --for {'|'.join(STATES)}.")
    verb = WaitFor(args.words, state, timeout_s=args.timeout)
    with open_router(args) as router:
        report: WaitReport = router.run(verb, Progress(console))
        code = console.settle(code_of_wait(report))
        if args.json:
            console.line(dumps(_describe(report, router.url, code)))
        else:
            _print_rows(report, console)
        _conclude(report, console)
        return code


def _print_rows(report: WaitReport, console: Console) -> None:
    if console.quiet:
        for model in report.reached:
            console.line(quote_name(model))
        return
    rows = [(show_name(model), report.state) for model in report.reached]
    rows += [(show_name(model), f"still {_show_status(status)}") for model, status in report.missing]
    for line in format_rows(rows):
        console.line(line)


def _show_status(status: str | None) -> str:
    return "not in the list" if status is None else escape_controls(status)


def _conclude(report: WaitReport, console: Console) -> None:
    waited = f"{report.seconds:.1f} s"
    missing = f"{count(len(report.missing))} not seen {report.state}"
    if report.interrupted:
        console.warn(f"Interrupted after {waited}: {missing}.")
    elif report.error is not None:
        console.warn(f"corral: {report.error.message}\n{report.error.hint or NEXT_STEPS['unreachable']}")
    elif report.missing:
        console.warn(f"corral: The time was up after {waited}: {missing}.\nGive it more --timeout, or see 'corral ls'.")


def _describe(report: WaitReport, url: str, code: int) -> dict[str, Any]:
    document = begin_document(code, url) | {
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "state": report.state,
        "reached": report.reached,
        "missing": [{"id": model, "status": status} for model, status in report.missing],
    }
    if report.error is not None:
        document["error"] = describe_error(report.error)
    return document

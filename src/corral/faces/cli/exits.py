"""Exit codes: what each error and each report is worth. Pure; the table in the README is this one.

====== ==================================================================================
0      done, and seen to be done
1      an error not listed below
2      usage
3      unreachable, or not a router
4      unknown model
5      several kinds of outcome, success included; one kind alone has its own code
6      still busy when the time was up, or work in flight can't be seen; nothing was cut
7      unloaded, but came back, or its memory was not seen to be free
8      blocked: held, or all that is resident is pinned
9      the API key is missing or wrong
125    ``corral run``: failed before its command was started; 126, 127: that cannot be run, or is not there
129    the terminal was closed (SIGHUP)
130    interrupted (Ctrl-C, SIGINT)
141    whatever reads stdout has closed it; all was done that was asked for
143    terminated (SIGTERM)
====== ==================================================================================
"""

from __future__ import annotations

from corral.wire import AuthError, BadArgumentError, CorralError, NotARouterError, UnknownModelError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops import LoadReport, Outcome, UnloadReport, WaitReport

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
UNKNOWN_MODEL = 4
MIXED = 5
STILL_BUSY = 6
CAME_BACK = 7
BLOCKED = 8
DENIED = 9
NEVER_RUN = 125
"""``corral run`` failed before its command was started, as with env, nohup and timeout."""
INTERRUPTED = 130
"""Of a report that was cut short; ``Signals.settle`` makes it 129 or 143 where another signal did that."""

SUCCESS = frozenset({"unloaded", "already_unloaded", "requested", "loaded", "already_loaded"})
"""Outcomes that are what was asked for; see ``went_well``."""

NOT_ASKED = frozenset({"not_requested", "still_loading", "still_busy", "work_unseen"})
"""Outcomes of models for which nothing was asked of the router."""

_OUTCOME_CODES = {
    "held": BLOCKED,
    "came_back": CAME_BACK,
    "not_seen_free": CAME_BACK,
    "still_loading": STILL_BUSY,
    "still_busy": STILL_BUSY,
    "work_unseen": STILL_BUSY,
    "denied": DENIED,
    "unreachable": UNREACHABLE,
}
_OPEN = frozenset({"not_seen_unloaded", "not_seen_loaded", *NOT_ASKED})
"""Outcomes that a router which went away leaves open: its absence is what they have in common."""


class ExitError(CorralError):
    """An error with an exit code of its own."""

    def __init__(self, message: str, hint: str, code: int) -> None:
        super().__init__(message, hint)
        self.code = code


def code_of_error(error: CorralError) -> int:
    """The exit code of an error that ended a command."""
    if isinstance(error, ExitError):
        return error.code
    if isinstance(error, UnknownModelError):
        return UNKNOWN_MODEL
    if isinstance(error, BadArgumentError):
        return USAGE
    if isinstance(error, UnreachableError | NotARouterError):
        return UNREACHABLE
    return DENIED if isinstance(error, AuthError) else FAILED


def went_well(item: Outcome, report: UnloadReport | LoadReport) -> bool:
    """Whether this is what was asked for: a mere request is that without waiting, but not where the wait was cut."""
    return item.outcome in SUCCESS and not (report.interrupted and item.outcome == "requested")


def code_of_report(report: UnloadReport | LoadReport) -> int:
    """The exit code of what happened to several models."""
    if report.interrupted:
        return INTERRUPTED
    kinds: dict[str, int] = {}
    for item in report.outcomes:
        if item.outcome in SUCCESS:
            kinds["success"] = DONE
        elif report.error is not None and item.outcome in _OPEN:
            kinds["lost"] = code_of_error(report.error)
        else:
            kinds[item.outcome] = _OUTCOME_CODES.get(item.outcome, FAILED)
    if len(kinds) > 1:
        return MIXED
    if kinds.get("success", DONE) == DONE and report.error is not None and "lost" not in kinds:
        return code_of_error(report.error)
    return next(iter(kinds.values()), DONE)


def code_of_wait(report: WaitReport) -> int:
    """The exit code of a wait: a model that did not come is an error like any other."""
    if report.interrupted:
        return INTERRUPTED
    if report.error is not None:
        return code_of_error(report.error)
    return FAILED if report.missing else DONE

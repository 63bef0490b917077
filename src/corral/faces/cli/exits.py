"""Exit codes: what each error and each report is worth. Pure; the table in the README is this one.

====== ==================================================================================
0      done, and seen to be done
1      an error not listed below
2      usage
3      unreachable, or not a router
4      unknown model
5      several kinds of outcome, success included; one kind alone has its own code
6      still busy when the time was up; nothing was cut
7      unloaded, but came back
9      the API key is missing or wrong
130    interrupted
143    terminated
====== ==================================================================================
"""

from __future__ import annotations

from corral.wire import AuthError, BadArgumentError, CorralError, NotARouterError, UnknownModelError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops import LoadReport, UnloadReport, WaitReport

DONE = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
UNKNOWN_MODEL = 4
MIXED = 5
STILL_BUSY = 6
CAME_BACK = 7
DENIED = 9
INTERRUPTED = 130
TERMINATED = 143

SUCCESS = frozenset({"unloaded", "already_unloaded", "requested", "loaded", "already_loaded"})
"""Outcomes that are what was asked for."""

_OUTCOME_CODES = {"came_back": CAME_BACK, "still_loading": STILL_BUSY, "denied": DENIED, "unreachable": UNREACHABLE}
_OPEN = frozenset({"not_seen_unloaded", "not_seen_loaded", "not_requested", "still_loading"})
"""Outcomes that a router which went away leaves open: its absence is what they have in common."""


def code_of_error(error: CorralError) -> int:
    """The exit code of an error that ended a command."""
    if isinstance(error, UnknownModelError):
        return UNKNOWN_MODEL
    if isinstance(error, BadArgumentError):
        return USAGE
    if isinstance(error, UnreachableError | NotARouterError):
        return UNREACHABLE
    return DENIED if isinstance(error, AuthError) else FAILED


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

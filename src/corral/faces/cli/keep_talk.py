"""What a keeper says while it runs: a line for each model that went, and what stands in its way; and its pins.

The verb asks who is protected each time that it has looked (``Looked``), and is told before it decides.
"""

from __future__ import annotations

import time
from json import dumps

from corral.faces.cli.exits import went_well
from corral.faces.cli.matching import find_unmatched, warn_of_unmatched
from corral.faces.cli.progress import Progress
from corral.faces.cli.records import find_pinned, record_report
from corral.faces.cli.times import tell_duration
from corral.faces.cli.words import NEXT_STEPS, count, describe_report, tell_bytes
from corral.ledger import LedgerError
from corral.ops import Protected, Selection
from corral.ops.guard_facts import RouterBack, RouterLost
from corral.ops.keeper import Evicted, Looked, SightBack, SightLost, Watching
from corral.wire import escape_controls, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops import Outcome
    from corral.ops.idle import IdleLimits, Verdict
    from corral.ops.keeper import KeepReport
    from corral.ops.protocol import Input

_ASIDE = {
    "still_busy": "was asked for at that moment: it stays",
    "came_back": "was unloaded, and asked for again at once",
    "already_unloaded": "was unloaded by somebody else",
}
"""What is nobody's mistake: a client or another operator was a moment sooner, or later."""


class KeepTalk:
    """Takes the facts of one run, and answers with the pins."""

    def __init__(
        self, limits: IdleLimits, url: str, console: Console, put: Callable[[Input], None], *, json: bool
    ) -> None:
        self._limits, self._url, self._console, self._put, self._json = limits, url, console, put, json
        self._progress = Progress(console)
        self._is_watching = False
        self._has_told_ledger = False

    def __call__(self, fact: object) -> None:
        """Tell whoever listens."""
        if isinstance(fact, Looked):
            self._put(Protected(self._find_protected(fact)))
        elif isinstance(fact, Watching):
            self._begin(fact)
        elif isinstance(fact, Evicted):
            self._conclude(fact)
        elif isinstance(fact, RouterLost):
            self._warn("router_lost", f"{fact.error.message} Waiting until it answers.", fact.error.hint)
        elif isinstance(fact, RouterBack):
            self._tell("router_back", f"{self._url} answers again." if self._is_watching else "")
        elif isinstance(fact, SightLost):
            reason = escape_controls(fact.reason)
            self._warn("sight_lost", f"Requests in flight cannot be seen any more: {reason}.", "Nothing is unloaded.")
        elif isinstance(fact, SightBack):
            self._tell("sight_back", "Requests in flight can be seen again.")
        else:
            self._progress(fact)

    def end(self, report: KeepReport, code: int) -> None:
        """The last word."""
        plural = "s" if report.unloaded > 1 else ""
        done = f"{report.unloaded} unload{plural}" if report.unloaded else "nothing was unloaded"
        self._tell(
            "ended",
            f"Ended after {tell_duration(report.seconds)}: {done}." if self._is_watching else "",
            exit_code=code,
            ok=code == 0,
            unloaded=report.unloaded,
            reason=report.reason,
        )

    def _find_protected(self, looked: Looked) -> tuple[str, ...]:
        """The pinned models; all of them where the ledger cannot be read, since any may be pinned."""
        if not self._is_watching:
            # At the start such a ledger is an error, to be seen by whoever starts it.
            return find_pinned(self._url, self._console, may_skip=False)
        try:
            pinned = find_pinned(self._url, self._console, may_skip=False)
        except LedgerError as error:
            if not self._has_told_ledger:
                self._has_told_ledger = True
                self._warn("pins_unknown", f"{error.message} Nothing is unloaded until it can be read.", "")
            return looked.models
        self._has_told_ledger = False
        return pinned

    def _begin(self, fact: Watching) -> None:
        self._is_watching = True
        usual_s, others = self._limits.usual_s, self._limits.matches
        usual = "for long enough" if usual_s is None else f"for {tell_duration(usual_s)}"
        own = ", ".join(f"{show_name(glob)}: {tell_duration(limit_s)}" for glob, limit_s in others)
        now = f"{count(len(fact.verdicts))} resident now"
        self._tell(
            "watching",
            f"Watching {self._url}: what is idle {usual}{f' ({own})' if own else ''} is unloaded; {now}.",
            url=self._url,
            resident=[verdict.model for verdict in fact.verdicts],
        )
        selection = Selection((), True, (), tuple(glob for glob, _ in self._limits.matches))
        warn_of_unmatched(find_unmatched(fact.listing, selection), selection, self._url, self._console)

    def _conclude(self, fact: Evicted) -> None:
        verdicts = {verdict.model: verdict for verdict in fact.verdicts}
        reasons = {name: explain_verdict(verdict) for name, verdict in verdicts.items()}
        rows = describe_report(fact.report, self._url, 0)["models"]
        for item, row in zip(fact.report.outcomes, rows, strict=True):
            if self._json:
                idle_s, limit_s = verdicts[item.model].idle_s, verdicts[item.model].limit_s
                more = {"idle_s": None if idle_s is None else round(idle_s, 1), "limit_s": limit_s}
                self._print("evicted", row | more | {"reason": reasons[item.model]})
            elif item.outcome in _ASIDE:
                self._console.say(f"{show_name(item.model)} {_ASIDE[item.outcome]}.")
            elif went_well(item, fact.report):
                self._print_row(item, reasons[item.model])
            else:
                self._explain(item)
        record_report(fact.report, "keep", self._url, self._console, reasons)

    def _print_row(self, item: Outcome, reason: str) -> None:
        if self._console.quiet:
            self._console.line(quote_name(item.model))
        else:
            freed = "" if item.freed_bytes is None else f"; {tell_bytes(item.freed_bytes)} freed"
            detail = f"; {escape_controls(item.detail)}" if item.detail else ""
            what = item.outcome.replace("_", " ")
            now = time.strftime("%H:%M:%S")
            self._console.line(f"{now}  {show_name(item.model)}  {what}  {reason}{freed}{detail}")
        self._console.flush()

    def _explain(self, item: Outcome) -> None:
        name = show_name(item.model)
        what = item.outcome.replace("_", " ")
        detail = f" ({escape_controls(item.detail)})" if item.detail else ""
        hint = item.error.hint if item.error is not None else ""
        self._console.warn(f"corral: {name}: {what}{detail}. {hint or NEXT_STEPS.get(item.outcome, '')}".rstrip())

    def _tell(self, event: str, text: str, **fields: Any) -> None:
        if self._json:
            self._print(event, fields)
        if text:
            self._console.say(text)

    def _warn(self, event: str, text: str, hint: str) -> None:
        if self._json:
            self._print(event, {"message": text, "hint": hint})
        self._console.warn(f"corral: {text}" + (f"\n{hint}" if hint else ""))

    def _print(self, event: str, fields: dict[str, Any]) -> None:
        document = {"schema_version": 1, "time": round(time.time(), 3), "event": event}
        self._console.line(dumps(document | fields))
        self._console.flush()


def explain_verdict(verdict: Verdict) -> str:
    """Why a model went: for how long it was idle, and the limit, with where that comes from."""
    idle = tell_duration(verdict.idle_s or 0.0)
    where = f" for {show_name(verdict.pattern)}" if verdict.pattern else ""
    return f"idle for {idle}, the limit{where} is {tell_duration(verdict.limit_s or 0.0)}"

"""One ``corral run`` from its first step to its last: hold, drain, proof, command, release, restore."""

from __future__ import annotations

import time
from json import dumps
from os.path import basename

from corral.faces.cli.child import Child, SignalsHeld
from corral.faces.cli.deeds import Deed
from corral.faces.cli.enforcer import find_elders
from corral.faces.cli.exits import CAME_BACK, DONE, INTERRUPTED, NEVER_RUN, STILL_BUSY, SUCCESS, ExitError
from corral.faces.cli.guarding import GuardThread
from corral.faces.cli.lease import OpenLease
from corral.faces.cli.progress import Progress
from corral.faces.cli.records import record_deeds, record_report
from corral.faces.cli.restoring import conclude, tell_rest
from corral.faces.cli.run_plan import measure_missing
from corral.faces.cli.session import open_router
from corral.faces.cli.times import tell_duration
from corral.faces.cli.words import (
    NEXT_STEPS,
    count,
    describe_error,
    describe_report,
    print_next_steps,
    tell_bytes,
    warn_of_failures,
)
from corral.ops import LoadReport, Requested, Unload, UnloadReport
from corral.wire import CorralError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.faces.cli.doorkeeper import Doorkeeper
    from corral.faces.cli.lease import Settled
    from corral.faces.cli.run_plan import RunPlan
    from corral.ledger import Ledger
    from corral.ops.promises import Hold

DEFAULT_HOLD_S = 86400.0
_TRIES = 5
"""So often models that a client brings back during the drain are unloaded again."""
_SETTLE_S = 1.0
"""How long the free figure of a device may take to show what has ended."""
_STEP_S = 0.05
_BUSY = frozenset({"still_busy", "work_unseen", "still_loading", "not_seen_unloaded"})
_BACK = frozenset({"came_back", "not_seen_free"})


def judge_drain(report: UnloadReport) -> int:
    """0 when all is seen to be free, else the exit code of a run whose command is not started."""
    if report.interrupted:
        return INTERRUPTED
    unwanted = {item.outcome for item in report.outcomes} - SUCCESS
    if unwanted & _BUSY:
        return STILL_BUSY
    if unwanted & _BACK:
        return CAME_BACK
    return NEVER_RUN if unwanted or report.error is not None else DONE


class Tenure:
    """Carries out one run. Whatever ends it, what was taken away is put back, or said to be owed."""

    _lease: OpenLease

    def __init__(
        self,
        args: Namespace,
        plan: RunPlan,
        router: Router,
        ledger: Ledger,
        console: Console,
        gateway: Doorkeeper | None = None,
    ) -> None:
        self._args, self._plan, self._router, self._ledger, self._console = args, plan, router, ledger, console
        self._gateway = gateway
        """Whoever stands in front of the router; None for the router itself."""
        self._home = router.url if gateway is None else gateway.home
        """The address on which what is promised about the router hangs."""
        self._progress = Progress(console)
        self._drained: UnloadReport | None = None
        self._settled: Settled | None = None
        self._error: CorralError | None = None
        """Why the command was not started."""
        self._has_begun = self._is_run = self._is_watched = False
        self._others: list[Hold] = []
        """All holds on the router."""
        self._stopping: tuple[str, ...] = ()
        """Models that the guard had asked to unload when it was stopped."""
        self._hold_s = getattr(args, "for") or DEFAULT_HOLD_S

    def carry_out(self, path: str) -> int:
        """Returns the exit code: the command's where it was started."""
        from corral.client import identify

        key, restores = identify(self._home), not self._args.no_restore
        try:
            with SignalsHeld():
                self._lease = OpenLease.begin(self._ledger, key, self._plan.models, restores=restores)
                self._has_begun = True
            code = self._take_away() or self._run_command(path)
        except KeyboardInterrupt:
            code = INTERRUPTED
        except CorralError as error:
            if not self._has_begun:
                # Nothing was written down, and nothing was touched.
                raise
            self._error = error
            code = error.code if isinstance(error, ExitError) else NEVER_RUN
            self._console.warn(f"corral: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        if not self._is_run:
            self._console.warn("The command was not started." if code != INTERRUPTED else "Interrupted; not started.")
        self._put_back()
        code = code if self._is_run else self._console.settle(code)
        self._finish(code)
        return code

    def _take_away(self) -> int:
        """Hold, drain and see it free; 0 when the command may start."""
        reason = self._args.reason or f"corral run {basename(self._args.command[0])}"
        hold = self._lease.begin_hold(self._plan.cover, self._hold_s, f"{reason} ({self._lease.id})")
        if self._gateway is not None:
            self._gateway.see_hold(hold.id)
        report = self._drained = self._drain()
        if report is None:
            self._say_drained()
            return DONE
        code = judge_drain(report)
        if code == DONE:
            self._check_room()
            self._say_drained()
            return DONE
        if not report.interrupted:
            warn_of_failures(report, self._console)
            print_next_steps(report, self._console)
        return code

    def _drain(self) -> UnloadReport | None:
        """Unload what has to go, and again what clients bring back meanwhile."""
        if self._plan.selection is None:
            return None
        if self._gateway is not None and self._plan.models:
            for model in self._plan.models:
                self._lease.ask(model)
            return self._gateway.drain(self._plan.models, self._args)
        reports: list[UnloadReport] = []
        while True:
            verb = Unload(
                self._plan.selection, grace_s=self._args.grace, force=self._args.force, timeout_s=self._args.timeout
            )
            report: UnloadReport = self._router.run(verb, self._hear)
            record_report(report, "run", self._home, self._console)
            reports.append(report)
            unwanted = {item.outcome for item in report.outcomes} - SUCCESS
            if unwanted != {"came_back"} or report.error or report.interrupted or len(reports) == _TRIES:
                return _merge(reports)
            self._console.say("A client has brought models back; they are unloaded again.")

    def _hear(self, fact: object) -> None:
        """Each request to unload is written down before it goes out."""
        if isinstance(fact, Requested):
            self._lease.ask(fact.model, is_owed=fact.model in self._plan.listed)
        self._progress(fact)

    def _check_room(self) -> None:
        """With --free, measure that so much is free now; raises ExitError otherwise."""
        deadline = time.monotonic() + _SETTLE_S
        while (missing := measure_missing(self._plan, self._router)) and time.monotonic() < deadline:
            time.sleep(_STEP_S)
        if missing:
            raise ExitError(
                f"The models went, and {tell_bytes(missing)} of what was wanted are still not free.",
                "'corral ps' shows who uses the device.",
                CAME_BACK,
            )

    def _say_drained(self) -> None:
        report, gone = self._drained, self._find_gone()
        freed = "" if report is None or report.freed_bytes is None else f"; {tell_bytes(report.freed_bytes)} freed"
        hold = "" if self._lease.hold is None else f" Held as {self._lease.hold.id} while the command runs."
        what = f"Unloaded {count(len(gone))} on {self._router.url}{freed}." if gone else "No models had to be unloaded."
        self._console.say(what + hold)
        if self._plan.spared:
            self._console.say(f"Left alone, because pinned: {', '.join(map(show_name, self._plan.spared))}.")

    def _find_gone(self) -> tuple[str, ...]:
        outcomes = self._drained.outcomes if self._drained is not None else ()
        return tuple(item.model for item in outcomes if item.outcome in ("unloaded", "not_seen_free"))

    def _run_command(self, path: str) -> int:
        """The command's exit code; from here on its end is waited for, whatever signal comes."""
        self._lease.free(self._find_gone())
        guard = GuardThread(
            lambda: open_router(self._args, sees_machine=True),
            self._plan.cover,
            self._hold_s,
            grace_s=self._args.grace,
            force=self._args.force,
        )
        self._console.flush()
        with SignalsHeld():
            child = Child(path, self._args.command)
            try:
                self._lease.run(child.process)
                # Older holds are known from the start: two that send away the same model may kill its next load.
                self._watch(guard)
                # It inherits that signals are not for it.
                guard.start()
            except BaseException:
                child.cancel()
                raise
            self._is_run, began = True, time.monotonic()
            child.start()
            self._note("started", show_name(basename(self._args.command[0]), 40))
            code = child.wait(lambda: self._watch(guard))
            guard.stop()
        self._stopping = tuple(guard.stopping)
        self._tell_loads(guard)
        came = "; clients loaded " + _tell_times(guard.loads) if guard.loads else ""
        self._note("ended", f"exit {code} after {tell_duration(time.monotonic() - began)}{came}")
        return code

    def _note(self, outcome: str, what: str) -> None:
        """Write into the log what becomes of the command; never its arguments."""
        record_deeds([Deed(self._lease.id, "run", outcome, what)], "run", self._home, self._console)

    def _watch(self, guard: GuardThread) -> None:
        """Obey whoever releases the hold, or models from it, and its expiry, while the command runs."""
        try:
            # The first time whatever was changed before counts too.
            is_due = self._lease.is_changed() or self._lease.is_expired() or not self._is_watched
            hold = self._lease.read_hold() if is_due else self._lease.hold
            self._others = self._lease.read_others() if is_due else self._others
            self._is_watched = True
        except CorralError:
            # The hold goes on as it was; the end will tell what is wrong with the ledger.
            self._is_watched = False
            return
        if hold is None:
            guard.stop()
        else:
            guard.leave_to(find_elders(hold, self._others))
            if is_due:
                guard.let_out(hold.excepted)

    def _tell_loads(self, guard: GuardThread) -> None:
        loads = {model: times for model, times in guard.loads.items() if model not in guard.unseen}
        if loads:
            told = _tell_times(loads)
            self._console.say(f"Meanwhile clients loaded what was held, and it was unloaded again: {told}.")
        if guard.unseen:
            stayed = ", ".join(map(show_name, sorted(guard.unseen)))
            self._console.warn(
                f"Meanwhile clients loaded {stayed}, and whether they answer cannot be seen: they stayed."
            )
            self._console.warn(NEXT_STEPS["work_unseen"])

    def _put_back(self) -> None:
        """Settle the lease, or say what is owed and who puts it back."""
        cure = f"'corral recover {self._lease.id}' puts back what is still owed, and ends the hold."
        try:
            settled = self._settled = self._lease.settle(
                self._router, self._console, timeout_s=self._args.timeout, stopping=self._stopping
            )
        except KeyboardInterrupt:
            self._console.warn(f"corral: Interrupted before all was put back: {cure}")
            return
        except CorralError as error:
            self._console.warn(f"corral: Not all was put back: {error.message}\n{error.hint or cure}")
            if error.hint:
                self._console.warn(cure)
            return
        self._tell_settled(settled, cure)
        record_report(settled.report, "run", self._home, self._console)

    def _tell_settled(self, settled: Settled, cure: str) -> None:
        for model, lease in settled.handed.items():
            self._console.say(f"{show_name(model)} is held by another run, which puts it back in the end ({lease}).")
        if settled.report.outcomes:
            warn_of_failures(settled.report, self._console)
            conclude(settled.report, self._router.url, self._console)
            print_next_steps(settled.report, self._console)
            if settled.is_over:
                tell_rest(settled.report, self._console)
        hidden = tuple(model for model in self._find_gone() if model not in self._plan.listed)
        left = self._find_gone() if self._args.no_restore else hidden
        if left:
            why = "" if self._args.no_restore else ", because the router's list hides them"
            self._console.say(f"Left unloaded{why}: {', '.join(map(show_name, left))}.")
        if settled.unwritten is not None:
            self._console.warn(f"corral: {settled.unwritten.message} {settled.unwritten.hint}".rstrip())
        if not settled.is_over:
            self._console.warn(cure)

    def _finish(self, code: int) -> None:
        if not self._args.json:
            return
        document = dumps(self._describe(code))
        if self._is_run:
            self._console.warn(document)
        else:
            self._console.line(document)

    def _describe(self, code: int) -> dict[str, Any]:
        url, settled = self._router.url, self._settled
        drained = self._drained or UnloadReport((), 0.0)
        restored = describe_report(settled.report if settled is not None else LoadReport((), 0.0), url, code)
        document = describe_report(drained, url, code) | {
            "lease": self._lease.id,
            "hold": None if self._lease.hold is None else self._lease.hold.id,
            "started": self._is_run,
            "pinned": self._plan.spared,
            "restored": restored["models"],
            "handed_over": {} if settled is None else settled.handed,
            "owed": settled is None or not settled.is_over,
        }
        if self._error is not None:
            document["error"] = describe_error(self._error)
        return document


def _tell_times(loads: dict[str, int]) -> str:
    return ", ".join(f"{show_name(model)} ({times})" for model, times in loads.items())


def _merge(reports: list[UnloadReport]) -> UnloadReport:
    """Several drains as one: of each model the newest outcome, but what was seen unloaded before stays so."""
    newest: dict[str, Any] = {}
    for report in reports:
        for item in report.outcomes:
            before = newest.get(item.model)
            if before is None or before.outcome == "came_back" or item.outcome != "already_unloaded":
                newest[item.model] = item
    last = reports[-1]
    seconds = sum(report.seconds for report in reports)
    return UnloadReport(
        tuple(newest.values()), seconds, last.interrupted, last.error, last.verified, last.unseen_reason
    )

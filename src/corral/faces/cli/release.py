"""``corral release``: end holds, or let single models out of them. Nothing is loaded unless --restore says so."""

from __future__ import annotations

import time

from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.holds import show_held
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.records import (
    AtGateway,
    find_router,
    look_at_ledger,
    open_ledger,
    record_deeds,
    record_report,
)
from corral.faces.cli.sets import show_models
from corral.faces.cli.unpin import find_ids
from corral.wire import BadArgumentError, CorralError, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ledger import Ledger
    from corral.ops.promises import Hold, Moment, RouterKey

SPEC = Spec(
    "HOLD... | MODEL... | --all [options]",
    (
        Option(("-a", "--all"), "every hold on this router"),
        Option(("--restore",), "then load again, in order, what 'hold --unload' unloaded for it"),
        DRY_RUN,
        *tell_timeout("60s, and with --restore 10m for each model"),
    ),
    "HOLD",
    "A hold ends as a whole by its id; a model leaves the holds that cover it, which end with their last one.\n"
    "Clients may load what is released; Corral loads nothing by this alone. --restore loads no more than the router\n"
    "has room for, and nothing that another hold covers; its exit code is that of 'corral restore'.",
    offers="holds",
    lists=("released",),
)
_HEARD_S = 5.0
"""So long a guard is waited for that was told that its hold has ended; it hears of that within a second."""
_STEP_S = 0.05


def run(args: Namespace, console: Console) -> int:
    """Release what was named."""
    if bool(args.words) == args.all:
        message = "Names do not go together with --all." if args.all else "No hold was named."
        raise BadArgumentError(message, "Name holds or models, or say --all; 'corral holds' shows what is held.")
    elsewhere = AtGateway(args, lambda gateway: _release_at(gateway, args, console))
    if (found := elsewhere.first()) is not None:
        return found
    from corral.ledger import read_moment

    router, now = find_router(args), read_moment()
    with look_at_ledger() as ledger:
        everywhere = ledger.holds.list_in_force(now)
    holds = [hold for hold in everywhere if hold.router.matches(router)]
    plan = plan_release(holds, [], holds) if args.all else _plan_named(args, holds, everywhere)
    if (found := elsewhere.instead_of([step for step in plan if step.holds])) is not None:
        return found
    restoring = Restoring(plan, everywhere, router) if args.restore else None
    if restoring is not None:
        restoring.check(args)
    if args.dry_run:
        extra = {} if restoring is None else {"restore": restoring.models}
        show_deeds([step.describe(is_done=True) for step in plan], "released", router.label, args, console, extra)
        if restoring is not None:
            console.say(f"Would load again: {show_models(restoring.models) or 'nothing'}.")
        console.say("Nothing was changed.")
        return DONE
    deeds = [step.describe(is_done=True) for step in plan] if not everywhere else _carry_out(plan, now)
    if restoring is None or not args.json:
        show_deeds(deeds, "released", router.label, args, console)
    if not any(deed.is_change for deed in deeds):
        console.say(f"Nothing to release on {router.label}.")
    record_deeds(deeds, "release", router.label, console)
    return DONE if restoring is None else restoring.run(args, deeds, console)


def _release_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway import release

    return release(args, gateway, console)


def _carry_out(plan: Sequence[Step], now: Moment) -> list[Deed]:
    with open_ledger() as ledger:
        return [step.describe(is_done=carry_out(ledger, step, now)) for step in plan]


def _plan_named(args: Namespace, holds: Sequence[Hold], everywhere: Sequence[Hold]) -> list[Step]:
    """Holds that were named, on whatever router, and models of this one, by their ids."""
    words = list(dict.fromkeys(args.words))
    by_id = {hold.id: hold for hold in everywhere}
    named = [model for hold in holds for model in hold.models or ()]
    over = [word for word in words if word not in by_id and word not in named and _is_hold_id(word)]
    models = [word for word in words if word not in by_id and word not in over]
    plan = plan_release([by_id[word] for word in words if word in by_id], find_ids(args, models, named), holds)
    return plan + [Step(word, (), True, "no such hold is in force") for word in over]


def _is_hold_id(word: str) -> bool:
    return word[:1] == "h" and word[1:].isascii() and word[1:].isdigit()


class Step(Record):
    """One hold that is to end, or one model that is to leave holds."""

    name: str
    holds: tuple[str, ...]
    """The ids of the holds; empty when there is nothing to release."""
    is_whole: bool
    reason: str

    def describe(self, *, is_done: bool) -> Deed:
        """The step as a row, done or in vain."""
        if not self.holds:
            return Deed(self.name, "leave", "was_not_held", self.reason)
        if not is_done:
            return Deed(self.name, "leave", "was_released", "it had ended")
        return Deed(self.name, "release", "released", self.reason)


def plan_release(whole: Sequence[Hold], models: Sequence[str], holds: Sequence[Hold]) -> list[Step]:
    """What is to be released: holds as a whole, and models from those that cover them."""
    steps = [Step(hold.id, (hold.id,), True, f"held {show_held(hold)}") for hold in whole]
    for model in models:
        covering = tuple(hold.id for hold in holds if hold.covers(model))
        steps.append(Step(model, covering, False, f"from {', '.join(covering)}" if covering else "no hold covers it"))
    return steps


def carry_out(ledger: Ledger, step: Step, now: Moment) -> bool:
    """Do what was planned; False when the hold had ended in the meantime."""
    if step.is_whole:
        return ledger.holds.release(step.name, now)
    left = [ledger.holds.release_models(hold_id, [step.name], now) for hold_id in step.holds]
    return any(hold is not None for hold in left)


class Restoring:
    """What is to be loaded again after a release: what was unloaded when the holds began, in that order."""

    def __init__(self, plan: Sequence[Step], holds: Sequence[Hold], router: RouterKey) -> None:
        self._router = router
        by_id = {hold.id: hold for hold in holds}
        self._ending = [by_id[hold_id] for step in plan if step.is_whole for hold_id in step.holds]
        self._let_out = [
            step.name
            for step in plan
            if not step.is_whole and any(step.name in by_id[hold_id].unloaded for hold_id in step.holds)
        ]
        self.models = self._list_owed()

    def _list_owed(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*(model for hold in self._ending for model in hold.unloaded), *self._let_out]))

    def check(self, args: Namespace) -> None:
        """Before anything is released: the holds must be of a router that answers."""
        for hold in self._ending:
            if not hold.router.matches(self._router):
                raise BadArgumentError(
                    f"{hold.id} is a hold on {hold.router.label}, not on {self._router.label}.",
                    f"Say --url {hold.router.label} with --restore.",
                )
        if self.models or self._ending:
            from corral.faces.cli.session import open_router

            with open_router(args) as router:
                router.list_models()

    def run(self, args: Namespace, deeds: Sequence[Deed], console: Console) -> int:
        """Load them, and tell what was seen to happen; returns the exit code."""
        if self._ending or self._let_out:
            self._wait_for_guards()
        return put_back(self.models, deeds, self._router.label, args, console)

    def _wait_for_guards(self) -> None:
        """Whoever saw to a hold must have heard of its end: it would see off what comes up, and may have been at its
        unload until then.
        """
        from corral.ledger import read_moment
        from corral.machine import read_process
        from corral.ops.promises import is_enforced

        until, now = time.monotonic() + _HEARD_S, read_moment()
        with look_at_ledger() as ledger:
            while time.monotonic() < until:
                found = [hold for hold in (ledger.holds.find(hold.id) for hold in self._ending) if hold is not None]
                self._ending, self.models = found or self._ending, self._list_owed()
                seen = [read_process(hold.enforcer.process.pid) for hold in found if hold.enforcer is not None]
                living = [process for process in seen if process is not None]
                if not any(is_enforced(hold, now, living) for hold in found):
                    return
                time.sleep(_STEP_S)


def put_back(models: Sequence[str], deeds: Sequence[Deed], url: str, args: Namespace, console: Console) -> int:
    """Load what was unloaded for holds that are released now; with ``--json`` the deeds are told here as well."""
    from corral.faces.cli.restoring import conclude, restore, tell_rest
    from corral.faces.cli.session import open_router
    from corral.faces.cli.words import describe_report, print_next_steps, print_outcomes
    from corral.ops import LoadReport, Outcome
    from corral.ops.outcome import NOT_REQUESTED

    report = LoadReport((), 0.0)
    if models:
        with open_router(args, sees_machine=True) as router:
            try:
                report = restore(router, models, console, timeout_s=args.timeout)
            except CorralError as error:
                # The holds have ended, and with them what is remembered of these.
                report = LoadReport(tuple(Outcome(model, NOT_REQUESTED, None) for model in models), 0.0, error=error)
    code = console.settle(code_of_report(report))
    if args.json:
        restored = describe_report(report, url, code)
        extra: dict[str, Any] = {key: restored[key] for key in ("interrupted", "models", "error") if key in restored}
        show_deeds(deeds, "released", url, args, console, extra, code)
    else:
        print_outcomes(report, console)
        if models:
            conclude(report, url, console)
        else:
            console.say("Nothing to load again: nothing was unloaded for it.")
    print_next_steps(report, console)
    tell_rest(report, console)
    record_report(report, "release", url, console)
    return code

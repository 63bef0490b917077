"""``corral recover``: put back what a ``corral run`` that did not live to its end has left unloaded."""

from __future__ import annotations

from argparse import Namespace
from json import dumps

from corral.client import identify
from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import BLOCKED, DONE, FAILED, MIXED, code_of_error, code_of_report
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger, open_ledger, record_report
from corral.faces.cli.restoring import conclude, tell_rest
from corral.faces.cli.sets import show_models
from corral.faces.cli.words import describe_error, describe_report, print_next_steps, print_outcomes
from corral.ops.recovery import RECOVER, REFUSE, list_actors, plan_recovery
from corral.wire import CorralError, Record, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.faces.cli.lease import Settled
    from corral.ledger import Ledger
    from corral.ops.promises import Lease
    from corral.ops.recovery import Recovery

SPEC = Spec(
    "[LEASE...] [options]",
    (
        Option(("--force",), "also where the command of the run still lives and uses the memory"),
        DRY_RUN,
        *tell_timeout("10m for each model"),
    ),
    "LEASE",
    "Without names: all that were left behind, on the router of --url or behind the gateway there; where that is not\n"
    "given, on each its own. The hold of the run ends, and its models come back in order, as far as the router has\n"
    "room. Exit 8 where its command still lives. What was taken on another machine is only reported.",
    offers="leases",
    lists=("leases",),
)


class Result(Record):
    """What was done about one lease."""

    recovery: Recovery
    outcome: str
    """``recovered``, ``not_all_recovered``, ``failed``, ``refused``, ``left`` or, when it was over, ``was_over``."""
    code: int
    settled: Settled | None = None
    error: CorralError | None = None


def run(args: Namespace, console: Console) -> int:
    """Recover what was named, or all."""
    plan = _plan(args)
    if args.dry_run:
        return _show_plan(plan, args, console)
    results = []
    for recovery in plan:
        results.append(_act(recovery, args, console))
        if not args.json:
            _tell(results[-1], console)
    code = console.settle(_judge(results))
    if args.json:
        leases = [_describe(result) for result in results]
        console.line(dumps(begin_document(code, find_router(args).label) | {"leases": leases}))
    if not any(result.settled for result in results) and code == DONE:
        console.say("Nothing to recover.")
    return code


def _plan(args: Namespace) -> list[Recovery]:
    from corral.ledger import read_moment
    from corral.machine import find_living

    with look_at_ledger() as ledger:
        if args.words:
            leases = [_find(ledger, name) for name in dict.fromkeys(args.words)]
        elif args.url:
            leases = _list_of_router(ledger, args)
        else:
            leases = ledger.leases.list_open()
    living = find_living(list_actors(leases))
    return plan_recovery(leases, read_moment(), living, is_named=bool(args.words), force=args.force)


def _list_of_router(ledger: Ledger, args: Namespace) -> list[Lease]:
    """Those of one router; a run through a gateway hangs on the router behind it."""
    leases = ledger.leases.list_open(find_router(args))

    def list_behind(gateway: Gateway) -> int:
        leases.extend(ledger.leases.list_open(identify(gateway.get("holds")["url"])))
        return DONE

    if ledger.leases.list_open():
        AtGateway(args, list_behind).instead_of(leases)
    return leases


def _find(ledger: Ledger, name: str) -> Lease:
    lease = ledger.leases.find(name)
    if lease is None:
        known = ", ".join(lease.id for lease in ledger.leases.list_open()) or "none"
        raise CorralError(f"There is no lease {show_name(name)}.", f"Open leases: {known}.")
    return lease


def _act(recovery: Recovery, args: Namespace, console: Console) -> Result:
    if recovery.action == REFUSE:
        return Result(recovery, "refused", BLOCKED)
    if recovery.action != RECOVER:
        return Result(recovery, "left", DONE)
    try:
        return _recover(recovery, args, console)
    except CorralError as error:
        return Result(recovery, "failed", code_of_error(error), error=error)


def _recover(recovery: Recovery, args: Namespace, console: Console) -> Result:
    """Claim the lease, so that of two recoveries one acts, and settle it on its own router."""
    from corral.faces.cli.lease import LeaseOverError, OpenLease, name_self
    from corral.faces.cli.session import open_router

    with open_ledger() as ledger:
        lease = ledger.leases.claim(recovery.lease, name_self())
        if lease is None:
            return Result(recovery, "was_over", DONE)
        own = Namespace(**{**vars(args), "url": lease.router.label})
        with open_router(own, sees_machine=True) as router:
            try:
                settled = OpenLease(ledger, lease).settle(router, console, timeout_s=args.timeout)
            except LeaseOverError:
                return Result(recovery, "was_over", DONE)
            record_report(settled.report, "recover", router.url, console)
    code = code_of_report(settled.report)
    if not settled.is_over:
        code = code or FAILED
    return Result(recovery, "recovered" if code == DONE else "not_all_recovered", code, settled)


def _judge(results: Sequence[Result]) -> int:
    """One kind of code alone is the exit code; several are 5."""
    codes = {result.code for result in results if result.outcome not in ("left", "was_over")}
    return MIXED if len(codes) > 1 else next(iter(codes), DONE)


def _tell(result: Result, console: Console) -> None:
    lease, settled = result.recovery.lease, result.settled
    if result.error is not None:
        console.warn(f"corral: {lease.id} was not recovered: {result.error.message}")
        console.warn(result.error.hint or "Say it again when that is mended.")
    elif result.outcome == "was_over":
        console.say(f"{lease.id} was recovered by somebody else.")
    elif result.outcome == "refused":
        console.warn(f"corral: {lease.id} was not recovered: {result.recovery.reason}.")
        console.warn(_REFUSED[result.recovery.verdict])
    elif settled is None:
        console.say(f"{lease.id} was left alone: {escape_controls(result.recovery.reason)}.")
    else:
        print_outcomes(settled.report, console)
        for model, other in settled.handed.items():
            console.say(f"{show_name(model)} is held by another run, which puts it back in the end ({other}).")
        if settled.report.outcomes:
            conclude(settled.report, lease.router.label, console)
        print_next_steps(settled.report, console)
        if settled.is_over:
            tell_rest(settled.report, console)
        if settled.unwritten is not None:
            console.warn(f"corral: {settled.unwritten.message} {settled.unwritten.hint}".rstrip())
        console.say(f"{lease.id} is over." if settled.is_over else f"{lease.id} stays open: say it again.")


_REFUSED = {
    "command_lives": "Wait until it has ended, or say --force: the models then take memory that it may need.",
    "at_work": "It will put the models back by itself.",
    "elsewhere": "Say it there.",
}


def _describe(result: Result) -> dict[str, Any]:
    lease, settled = result.recovery.lease, result.settled
    document: dict[str, Any] = _describe_plan(result.recovery) | {"outcome": result.outcome}
    if settled is not None:
        document["models"] = describe_report(settled.report, lease.router.label, result.code)["models"]
        document["handed_over"] = settled.handed
    if result.error is not None:
        document["error"] = describe_error(result.error)
    return document


def _describe_plan(recovery: Recovery) -> dict[str, Any]:
    lease = recovery.lease
    return {
        "id": lease.id,
        "url": lease.router.label,
        "step": lease.step,
        "verdict": recovery.verdict,
        "reason": recovery.reason,
        "command_pid": None if lease.command is None else lease.command.process.pid,
        "set": lease.models,
    }


def _show_plan(plan: Sequence[Recovery], args: Namespace, console: Console) -> int:
    code = BLOCKED if any(recovery.action == REFUSE for recovery in plan) else DONE
    if args.json:
        rows = [_describe_plan(recovery) | {"action": recovery.action} for recovery in plan]
        console.line(dumps(begin_document(code, find_router(args).label) | {"dry_run": True, "leases": rows}))
    else:
        table = [
            (
                one.lease.id,
                one.action,
                show_models(one.lease.models),
                one.lease.router.label,
                escape_controls(one.reason),
            )
            for one in plan
        ]
        for line in format_rows([("LEASE", "ACTION", "MODELS", "ROUTER", "REASON"), *table] if table else []):
            console.line(line)
    console.say("Nothing was changed." if plan else "Nothing to recover.")
    return code

"""``corral hold``: keep models from coming up for a while, as far as that can be done from beside the router."""

from __future__ import annotations

import time
from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, INTERRUPTED
from corral.faces.cli.listing import describe_state
from corral.faces.cli.options import COMMON, DRY_RUN, TIMEOUT, Option, Spec
from corral.faces.cli.session import open_router
from corral.faces.cli.times import tell_duration, tell_time
from corral.faces.cli.words import count, describe_report, print_next_steps, print_outcomes
from corral.ops import LetOut, Outranked, Requested, Selection, Unload, check_selection, select
from corral.ops.guard import Guard
from corral.ops.guard_facts import INTERRUPTED as STOPPED
from corral.ops.guard_facts import GuardReport
from corral.wire import BadArgumentError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.faces.cli.enforcer import Enforcer
    from corral.faces.cli.hold_talk import HoldTalk
    from corral.ops import UnloadReport
    from corral.wire import Listing, Model

DEFAULT_S = 7200.0
_TIMEOUT = Option(TIMEOUT.flags, "time for --unload (default --grace, longest stop-timeout and 20s)", TIMEOUT.value)

SPEC = Spec(
    "NAME... | --all [--except NAME] [--for DURATION] [--reason TEXT] [--unload] [options]",
    (
        Option(("-a", "--all"), "every model, and those that are added later"),
        Option(("--except",), "leave this model out of it; may be repeated", "NAME", many=True),
        Option(("--for",), "how long (default 2h); then it ends, whatever happens to Corral or the clock", "DURATION"),
        Option(("--reason",), "what for; shown to whoever meets the hold", "TEXT"),
        Option(("--unload",), "first unload what is resident of them, as 'corral unload' does"),
        Option(("--include-pinned",), "with --unload --all: also what is pinned"),
        Option(
            ("--grace",),
            "with --unload or --force: how long requests in flight are waited for (default 30s)",
            "DURATION",
        ),
        Option(("--force",), "when that is over, unload all the same and cut them; also where they can't be seen"),
        DRY_RUN,
        *(_TIMEOUT if option is TIMEOUT else option for option in COMMON),
    ),
    "NAME",
    "Runs until the time is up, 'corral release', or Ctrl-C. What is resident when it begins stays and serves, unless\n"
    "--unload is given. It stands beside the router, so a client's request still brings a model up: that is let load,\n"
    "its requests are answered, and it is unloaded again. To keep it away, let clients go through 'corral serve'.\n"
    "--json prints one document a line (NDJSON): begun, unloaded, came_up, evicted, went_again, let_out, not_moved,\n"
    "work_unseen, lost, back, ended.",
    lists=("models",),
)
_GRACE_S = 30.0


def run(args: Namespace, console: Console) -> int:
    """Hold what was named until there is a reason to end."""
    console.is_stream = args.json and not args.dry_run
    selection = Selection(tuple(args.words), args.all, excepted=tuple(getattr(args, "except")))
    check_selection(selection)
    if args.include_pinned and not args.unload:
        raise BadArgumentError("--include-pinned belongs to --unload: a hold covers pinned models.", "Leave it out.")
    with open_router(args, sees_machine=True) as router:
        scope = _find_scope(args, router, selection, console)
        if args.dry_run:
            return _show_plan(args, router.url, scope, console)
        if selection.names and not scope.models:
            console.say(f"Nothing to hold on {router.url}: whatever is named is excepted as well.")
            return DONE
        if router.gateway is not None:
            from corral.faces.cli.gateway import hold

            return hold(args, router, _read_duration(args), console)
        return _hold(args, router, scope, console)


class _Scope:
    """What the hold is about, on the list as it is now."""

    def __init__(self, listing: Listing, selection: Selection, pinned: tuple[str, ...]) -> None:
        self.listing = listing
        self.models: list[Model] = select(listing, selection)
        self.is_all = selection.all
        chosen = {model.id for model in self.models}
        self.excepted = () if selection.names else tuple(m.id for m in listing.models if m.id not in chosen)
        self.spared = tuple(model.id for model in self.models if model.id in pinned and model.is_resident)
        """Pinned models that --unload leaves alone."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The models that are covered now."""
        return tuple(model.id for model in self.models)

    def build_selection(self, pinned: tuple[str, ...] = ()) -> Selection:
        """It again, by ids."""
        return Selection((), True, excepted=self.excepted, pinned=pinned) if self.is_all else Selection(self.ids)


def _find_scope(args: Namespace, router: Router, selection: Selection, console: Console) -> _Scope:
    pinned: tuple[str, ...] = ()
    spares = args.unload and selection.all and not args.include_pinned
    if spares:
        from corral.faces.cli.records import find_pinned

        pinned = find_pinned(router.url, console)
    listing = router.list_models()
    if spares and router.gateway is not None:
        # What is pinned there lies in the gateway's ledger.
        from corral.faces.cli.gateway_lists import list_pinned

        pinned = list_pinned(router)
    return _Scope(listing, selection, pinned)


def _show_plan(args: Namespace, url: str, scope: _Scope, console: Console) -> int:
    rows = [(model.id, *_plan(model, scope, unloads=args.unload)) for model in scope.models]
    if args.json:
        models = [{"id": name, "action": action, "reason": reason} for name, action, reason in rows]
        fields = {"dry_run": True, "for_s": _read_duration(args), "all": scope.is_all, "models": models}
        console.line(dumps(begin_document(DONE, url) | fields))
    else:
        shown = [(show_name(name), action.replace("_", " "), reason) for name, action, reason in rows]
        for line in format_rows([("NAME", "ACTION", "REASON"), *shown] if shown else []):
            console.line(line)
    later = " What is added later would be held too." if scope.is_all else ""
    console.say(f"Would hold for {tell_duration(_read_duration(args))}.{later} Nothing was changed.")
    return DONE


def _plan(model: Model, scope: _Scope, *, unloads: bool) -> tuple[str, str]:
    state = f"it is {describe_state(model)}"
    if not model.is_resident:
        return "hold", state
    if unloads and model.id not in scope.spared:
        return "unload_and_hold", state
    return "hold", f"{state}, and stays until something unloads it" + (
        "; it is pinned" if model.id in scope.spared else ""
    )


def _read_duration(args: Namespace) -> float:
    duration_s: float | None = getattr(args, "for")
    return DEFAULT_S if duration_s is None else duration_s


def _hold(args: Namespace, router: Router, scope: _Scope, console: Console) -> int:
    from corral.faces.cli.enforcer import begin

    models, excepted = (None, scope.excepted) if scope.is_all else (scope.ids, ())
    enforcer = begin(router.url, models, excepted, _read_duration(args), args.reason or "")
    enforcer.break_off = router.break_off
    talk, began = _make_talk(args, router, enforcer, console), time.monotonic()
    try:
        _announce(router.url, scope, enforcer, talk, console, unloads=args.unload)
        report = _keep(args, router, scope, enforcer, talk, console)
    except KeyboardInterrupt:
        # It came while no verb was there to take it.
        report = GuardReport(STOPPED, time.monotonic() - began, (), ())
    finally:
        was_open = enforcer.close()
        if was_open:
            console.say(f"Released {enforcer.name}.")
        elif enforcer.trouble is not None and enforcer.is_recorded:
            console.warn(f"corral: {enforcer.trouble.message} {enforcer.trouble.hint}".rstrip())
    code = console.settle(INTERRUPTED if report.ended == STOPPED else DONE)
    _conclude(report, router.url, code, talk, console)
    _note(enforcer, f"{report.ended}; {_tell_loads(report)}", "ended", router.url, console)
    return code


def _make_talk(args: Namespace, router: Router, enforcer: Enforcer, console: Console) -> HoldTalk:
    from corral.faces.cli.hold_talk import HoldTalk
    from corral.machine import Machine

    find_peers = router.meter.find_peers if isinstance(router.meter, Machine) else lambda: None
    return HoldTalk(console, enforcer.name, find_peers, as_json=args.json)


def _announce(url: str, scope: _Scope, enforcer: Enforcer, talk: HoldTalk, console: Console, *, unloads: bool) -> None:
    """Say what is held and how it ends, and what a hold of this kind can't do."""
    hold, left_s = enforcer.hold, enforcer.count_left()
    if enforcer.trouble is not None:
        console.warn(f"corral: The hold is kept, but not written down: {enforcer.trouble.message}")
        console.warn("Other commands do not know of it, and only a signal to this process ends it early.")
    ends = f"'corral release {enforcer.name}' or Ctrl-C ends it" if enforcer.is_recorded else "Ctrl-C ends it"
    what = ("all models" if not scope.excepted else "all models but some") if scope.is_all else count(len(scope.ids))
    console.say(
        f"Holding {what} of {url} for {tell_duration(left_s)}, until {tell_time(time.time() + left_s)}; {ends}."
    )
    resident = tuple(model.id for model in scope.models if model.is_resident)
    if resident and not unloads:
        staying = ", ".join(show_name(name, 40) for name in resident[:4]) + (", ..." if len(resident) > 4 else "")
        console.say(f"Resident, and staying until something unloads it: {staying}. --unload sends it off first.")
    console.say(
        "A client's request still brings a model up: it is let load and answer, and goes again. "
        "To keep it away, let clients go through the gateway ('corral serve')."
    )
    fields: dict[str, Any] = {
        "url": url,
        "models": hold.models,
        "excepted": hold.excepted,
        "for_s": hold.duration_s,
        "until": round(time.time() + left_s, 3),
        "reason": hold.reason,
        "recorded": enforcer.is_recorded,
        "resident": resident,
    }
    why = f": {escape_controls(hold.reason)}" if hold.reason else ""
    _note(enforcer, f"{what} for {tell_duration(left_s)}{why}", "begun", url, console)
    talk.begin(fields)


def _keep(
    args: Namespace, router: Router, scope: _Scope, enforcer: Enforcer, talk: HoldTalk, console: Console
) -> GuardReport:
    """See to the hold until it is over."""
    began = time.monotonic()
    if args.unload:
        report = _unload(args, router, scope, enforcer, talk, console)
        if report.interrupted:
            seconds = time.monotonic() - began
            return GuardReport(enforcer.ended or STOPPED, seconds, (), ())
        let_out = tuple(model for model in enforcer.hold.excepted if model not in scope.excepted)
        if let_out:
            # The unload had no use for it.
            enforcer.inbox.put(LetOut(let_out))
    enforcer.inbox.put(Outranked(enforcer.elders))
    guard = Guard(
        scope.build_selection(),
        until=time.monotonic() + enforcer.count_left(),
        takes_residents=args.unload,
        spared=scope.spared,
        grace_s=_GRACE_S if args.grace is None else args.grace,
        force=args.force,
        known=scope.listing,
    )
    kept: GuardReport = router.run(guard, talk, enforcer.inbox)
    return kept


def _unload(
    args: Namespace, router: Router, scope: _Scope, enforcer: Enforcer, talk: HoldTalk, console: Console
) -> UnloadReport:
    """Unload what is resident, and remember for the release what was asked to go, before it is."""
    from corral.faces.cli.progress import Progress
    from corral.faces.cli.records import record_report

    progress, asked = Progress(console), set[str]()

    def hear(fact: object) -> None:
        if isinstance(fact, Requested):
            asked.add(fact.model)
            enforcer.remember([model.id for model in scope.models if model.is_resident and model.id in asked])
        progress(fact)

    verb = Unload(scope.build_selection(scope.spared), grace_s=args.grace, force=args.force, timeout_s=args.timeout)
    report: UnloadReport = router.run(verb, hear, enforcer.inbox)
    if enforcer.is_recorded and enforcer.trouble is not None:
        console.warn(f"corral: 'release --restore' will not know what went: {enforcer.trouble.message}")
    document = describe_report(report, router.url, DONE)
    talk.tell("unloaded", "", {key: document[key] for key in ("models", "verified", "freed_bytes", "interrupted")})
    if not args.json and report.outcomes:
        print_outcomes(report, console)
    if scope.spared:
        console.say(f"Left alone, because pinned: {', '.join(map(show_name, scope.spared))}.")
    if not enforcer.ended:
        print_next_steps(report, console)
    record_report(report, "hold", router.url, console)
    return report


def _conclude(report: GuardReport, url: str, code: int, talk: HoldTalk, console: Console) -> None:
    from corral.faces.cli.hold_talk import tell_cut

    talk.tell(
        "ended",
        "",
        {
            "ok": code == DONE,
            "exit_code": code,
            "url": url,
            "reason": report.ended,
            "seconds": round(report.seconds, 3),
            "loads": dict(report.loads),
            "resident": report.resident,
            "stopping": [{"model": model, "cut": cut} for model, cut in report.stopping],
        },
    )
    console.say(f"The hold has ended ({report.ended}) after {tell_duration(report.seconds)}: {_tell_loads(report)}.")
    for model, cut in report.stopping:
        console.say(f"{show_name(model)} was just being unloaded{tell_cut(cut)}; the router finishes that.")
    if report.loads:
        console.say("A gateway ('corral serve') would have kept them away.")


def _tell_loads(report: GuardReport) -> str:
    if not report.loads:
        return "no held model came up"
    busiest = sorted(report.loads, key=lambda pair: -pair[1])
    shown = ", ".join(f"{show_name(model)} {number}x" for model, number in busiest[:4])
    return f"held models came up {sum(number for _, number in report.loads)}x ({shown})"


def _note(enforcer: Enforcer, what: str, outcome: str, url: str, console: Console) -> None:
    """Write it to the log, where the hold itself could be written."""
    if not enforcer.is_recorded:
        return
    from corral.faces.cli.deeds import Deed
    from corral.faces.cli.records import record_deeds

    record_deeds([Deed(enforcer.name, "hold", outcome, what)], "hold", url, console)

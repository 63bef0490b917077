"""``corral free``: so much memory free on a device, by unloading as few idle models as that takes."""

from __future__ import annotations

from json import dumps
from time import monotonic, sleep

from corral.config import parse_size
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import BLOCKED, CAME_BACK, DONE, FAILED, STILL_BUSY, code_of_report
from corral.faces.cli.options import DRY_RUN, Option, Spec, tell_timeout
from corral.faces.cli.progress import Progress
from corral.faces.cli.records import find_pinned, record_report
from corral.faces.cli.residents import show_others
from corral.faces.cli.room_plan import describe_plan, print_plan, tell_shortage
from corral.faces.cli.session import find_home, open_router
from corral.faces.cli.words import describe_report, print_next_steps, print_outcomes, tell_bytes, tell_interruption
from corral.ops import Selection, Unload
from corral.ops.room import BUSY, PINNED, choose, pick_device
from corral.wire import BadArgumentError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import UnloadReport
    from corral.ops.measurement import Device
    from corral.ops.room import RoomPlan

SPEC = Spec(
    "SIZE [--device N] [--except NAME] [options]",
    (
        Option(("--device",), "its number or id in 'corral ps', or host; without it, where the models are", "N|ID"),
        Option(("--except",), "leave this model alone; may be repeated", "NAME", many=True),
        Option(("--best-effort",), "unload what may go even if that is not enough"),
        Option(("--include-pinned",), "also what is pinned"),
        DRY_RUN,
        Option(
            ("--grace",),
            "how long requests that come in meanwhile are waited for (default 30s)",
            "DURATION",
            may_be_zero=True,
        ),
        *tell_timeout("--grace, longest stop-timeout of the models and 20s"),
    ),
    "SIZE",
    "Idle models go, as few as possible; of as few, those that have been idle for longest. Pinned models stay.\n"
    "Exit 0 only if so much was measured free afterwards. Where it can't be, nothing is unloaded: exit 6 if models\n"
    "that are busy or loading stand in the way, 8 if pinned ones do, else 1; --dry-run exits as the run would.",
    lists=("models",),
)
SETTLE_S = 3.0
"""How long the free figure may take to show what has ended: a virtual machine may take seconds."""
_STEP_S = 0.05


def run(args: Namespace, console: Console) -> int:
    """Make room, and tell how much there is."""
    wanted_bytes = _read_wanted(args)
    with open_router(args, sees_machine=True) as router:
        return make_room(wanted_bytes, args, router, console)


def make_room(
    wanted_bytes: int, args: Namespace, router: Router, console: Console, *, settle_s: float = SETTLE_S
) -> int:
    """Choose, unload, look again for ``settle_s`` at most; ``router`` has a meter."""
    plan = _plan(wanted_bytes, args, router, console)
    if args.dry_run or not (plan.unload and _goes_ahead(plan, args)):
        return _show_plan(plan, args, router.url, console)
    verb = Unload(Selection(plan.names), grace_s=args.grace, timeout_s=args.timeout)
    report: UnloadReport = router.run(verb, Progress(console))
    after = None if report.interrupted else _look_again(plan, router, settle_s)
    code = console.settle(_judge(plan, report, after))
    if args.json:
        console.line(dumps(_describe(plan, report, after, router.url, code)))
    else:
        print_outcomes(report, console)
    _conclude(plan, report, after, console)
    print_next_steps(report, console)
    why = f"{tell_bytes(wanted_bytes)} were wanted on {escape_controls(plan.device.name)}"
    record_report(report, "free", find_home(router), console, dict.fromkeys(plan.names, why))
    return code


def _goes_ahead(plan: RoomPlan, args: Namespace) -> bool:
    """Whether what may go is unloaded: where it is enough, or all the same."""
    return plan.is_reachable or bool(args.best_effort)


def _read_wanted(args: Namespace) -> int:
    if len(args.words) != 1:
        message = "free: one size is needed." if args.words else "free: how much is to be free?"
        raise BadArgumentError(message, "Say it as in: corral free 12GiB")
    return parse_size(args.words[0], "SIZE")


def _plan(wanted_bytes: int, args: Namespace, router: Router, console: Console) -> RoomPlan:
    """Look once, and choose."""
    listing = router.list_models()
    home = find_home(router)
    pinned = () if args.include_pinned else find_pinned(home, console)
    assert router.meter is not None, "it was asked for"
    measured = router.meter.measure(listing.models, memory=True, recent=True)
    excepted = tuple(getattr(args, "except"))
    return choose(wanted_bytes, listing, measured, device=args.device, pinned=pinned, excepted=excepted)


def _look_again(plan: RoomPlan, router: Router, settle_s: float) -> Device | None:
    """The device as it is now, given a moment to show what has ended; None when it cannot be seen any more."""
    assert router.meter is not None, "it was asked for"
    deadline = monotonic() + settle_s
    while True:
        measured = router.meter.measure((), memory=True)
        if measured.reason:
            return None
        known = {device.id for device in measured.devices}
        if plan.device.id not in known and plan.device.id != "host":
            return None
        device = pick_device(measured, plan.device.id)
        if (device.free_bytes or 0) >= plan.wanted_bytes or monotonic() >= deadline:
            return device
        sleep(_STEP_S)


def _judge(plan: RoomPlan, report: UnloadReport, after: Device | None) -> int:
    """The exit code: of what happened to the models, else of what is free."""
    code = code_of_report(report)
    if code != DONE or (after is not None and (after.free_bytes or 0) >= plan.wanted_bytes):
        return code
    return CAME_BACK if plan.is_reachable else _code_of_plan(plan)


def _code_of_plan(plan: RoomPlan) -> int:
    return DONE if plan.is_reachable else {BUSY: STILL_BUSY, PINNED: BLOCKED}.get(plan.obstacle, FAILED)


def _show_plan(plan: RoomPlan, args: Namespace, url: str, console: Console) -> int:
    """What would be done, or why nothing is."""
    code, goes_ahead = console.settle(_code_of_plan(plan)), _goes_ahead(plan, args)
    if args.json:
        planned = describe_plan(plan, goes_ahead=goes_ahead)
        console.line(dumps(begin_document(code, url) | {"dry_run": args.dry_run} | planned))
    elif not console.quiet and (args.dry_run or code != DONE):
        print_plan(plan, console, goes_ahead=goes_ahead)
    name = escape_controls(plan.device.name)
    if not plan.missing_bytes:
        free, wanted = tell_bytes(plan.free_bytes), tell_bytes(plan.wanted_bytes)
        console.say(f"{free} are free on {name}, and {wanted} were wanted: nothing to unload.")
    elif code != DONE:
        console.warn(f"corral: {tell_shortage(plan)} Nothing was unloaded.\n{_tell_way_out(plan)}")
    else:
        console.say("Nothing was changed.")
    return code


def _tell_way_out(plan: RoomPlan) -> str:
    """What would help where not enough can be freed."""
    more = " --best-effort unloads what may go all the same." if plan.unload else ""
    if plan.obstacle == BUSY:
        return f"Models that are busy or loading would make room: try again when they are idle.{more}"
    if plan.obstacle == PINNED:
        return f"Pinned models would make room: --include-pinned takes them too.{more}"
    others = show_others(plan.device)
    used = f" Also in use there: {others}." if others else ""
    return f"Not even all models together would make so much room.{used}{more}"


def _conclude(plan: RoomPlan, report: UnloadReport, after: Device | None, console: Console) -> None:
    if report.interrupted:
        console.warn(tell_interruption([item.outcome for item in report.outcomes]))
        return
    name = escape_controls(plan.device.name)
    if after is None or after.free_bytes is None:
        console.warn(f"corral: How much is free on {name} cannot be seen any more.")
        return
    free, wanted = tell_bytes(after.free_bytes), tell_bytes(plan.wanted_bytes)
    if after.free_bytes >= plan.wanted_bytes:
        console.say(f"{free} are free on {name} now; {wanted} were wanted.")
        return
    short = tell_bytes(plan.wanted_bytes - after.free_bytes)
    console.warn(f"corral: Only {free} are free on {name} now, {short} less than the {wanted} that were wanted.")
    others = show_others(after)
    if others:
        console.warn(f"In use there besides the models: {others}.")
    if plan.is_reachable and report.ok:
        console.warn("Something took memory meanwhile: the same command again goes on from here.")


def _describe(plan: RoomPlan, report: UnloadReport, after: Device | None, url: str, code: int) -> dict[str, Any]:
    """The plan, with what came of it."""
    document = describe_report(report, url, code)
    seen = {row.pop("id"): row for row in document.pop("models")}
    planned = describe_plan(plan, goes_ahead=True)
    for row in planned["models"]:
        row |= seen.get(row["id"], {})
    return document | {"dry_run": False} | planned | {"free_after_bytes": None if after is None else after.free_bytes}

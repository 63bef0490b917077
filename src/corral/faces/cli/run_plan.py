"""What ``corral run`` takes away: which residents go, and what is kept from coming up meanwhile."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.lease import Cover
from corral.ops import Selection, check_selection, find_models, select
from corral.ops.selection import find_spared
from corral.wire import BadArgumentError, CorralError, Record, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops.measurement import Measurement
    from corral.ops.room import RoomPlan
    from corral.wire import Listing


class RunPlan(Record):
    """What is to go before the command starts."""

    models: tuple[str, ...]
    """The residents that are to be unloaded and come back, in the router's order."""
    selection: Selection | None
    """For the unload; None when nothing has to go."""
    cover: Cover
    """What is held meanwhile."""
    spared: tuple[str, ...] = ()
    """Residents that stay because they are pinned."""
    wanted_bytes: int | None = None
    """What must be free on the device before the command starts; None where only models are named."""
    device: str | None = None
    listed: frozenset[str] = frozenset()
    """All that the router lists; what it hides cannot be seen loaded again."""


def plan_run(args: Namespace, router: Router, home: str, console: Console) -> RunPlan:
    """Look, and choose; ``home`` is the address on which the router's pins hang.

    Raises what the look raises, and CorralError where enough memory cannot be made free.
    """
    from corral.faces.cli.records import find_pinned

    excepted = tuple(getattr(args, "except"))
    check_choice(args)
    pinned = () if args.words or args.include_pinned else find_pinned(home, console, may_skip=False)
    listing = router.list_models()
    if args.free is not None:
        return _plan_room(args, router, listing, pinned, excepted)
    selection = Selection(tuple(args.words), not args.words, excepted=excepted, pinned=pinned)
    check_selection(selection)
    chosen = select(listing, selection)
    residents = tuple(model.id for model in chosen if model.is_resident)
    listed = frozenset(model.id for model in listing.models)
    if args.words:
        ids = tuple(model.id for model in chosen)
        return RunPlan(residents, Selection(residents) if residents else None, Cover(ids), listed=listed)
    covered = {model.id for model in chosen}
    cover = Cover(None, tuple(model.id for model in listing.models if model.id not in covered))
    spared = tuple(model.id for model in find_spared(listing, selection))
    # Without a resident there may still be one that the list hides.
    return RunPlan(residents, selection, cover, spared, listed=listed)


def check_choice(args: Namespace) -> None:
    """Raise BadArgumentError for more than one way to say what is to go."""
    ways = [bool(args.words), args.all, args.free is not None]
    if sum(ways) > 1:
        raise BadArgumentError("run: names, --all and --free do not go together.", "Give one of them.")
    if args.device is not None and args.free is None:
        raise BadArgumentError("run: --device says where --free makes room.", "Give both, or neither.")


def measure_missing(plan: RunPlan, router: Router) -> int:
    """How many bytes of what is wanted are not free now."""
    if plan.wanted_bytes is None:
        return 0
    from corral.ops.room import choose

    listing = router.list_models()
    return choose(plan.wanted_bytes, listing, _measure(router, listing), device=plan.device).missing_bytes


def show_plan(plan: RunPlan, args: Namespace, url: str, console: Console) -> int:
    """What would be done, in a table or a document."""
    rows = [(model, "unload, restore" if not args.no_restore else "unload", "it is resident") for model in plan.models]
    rows += [(model, "leave", "it is pinned") for model in plan.spared]
    if args.json:
        models = [{"id": name, "action": action, "reason": reason} for name, action, reason in rows]
        held = None if plan.cover.models is None else plan.cover.models
        document = {"dry_run": True, "models": models, "held": held, "excepted": plan.cover.excepted}
        console.line(dumps(begin_document(DONE, url) | document))
    else:
        shown = [(show_name(name), action, reason) for name, action, reason in rows]
        for line in format_rows([("NAME", "ACTION", "REASON"), *shown] if shown else []):
            console.line(line)
    console.say("Nothing was changed, and the command was not run.")
    return DONE


def _plan_room(
    args: Namespace, router: Router, listing: Listing, pinned: tuple[str, ...], excepted: tuple[str, ...]
) -> RunPlan:
    """The fewest idle models whose end makes so much free; what comes up meanwhile would take it again, so all else
    is held.
    """
    from corral.ops.room import choose

    room = choose(args.free, listing, _measure(router, listing), device=args.device, pinned=pinned, excepted=excepted)
    if not room.is_reachable:
        raise _explain_shortage(room)
    protected = {model.id for model in find_models(listing, excepted)} | set(pinned)
    stays = [model.id for model in listing.models if model.is_resident and model.id not in room.names]
    cover = Cover(None, tuple(dict.fromkeys([*stays, *(m.id for m in listing.models if m.id in protected)])))
    selection = Selection(room.names) if room.names else None
    return RunPlan(room.names, selection, cover, (), args.free, args.device, frozenset(m.id for m in listing.models))


def _measure(router: Router, listing: Listing) -> Measurement:
    assert router.meter is not None, "it was asked for"
    return router.meter.measure(listing.models, memory=True, recent=True)


def _explain_shortage(room: RoomPlan) -> CorralError:
    from corral.faces.cli.words import tell_bytes

    where, short = escape_controls(room.device.name), tell_bytes(room.short_bytes)
    return CorralError(
        f"{tell_bytes(room.wanted_bytes)} cannot be made free on {where}: {short} would still be missing.",
        "Nothing was unloaded, and the command was not run; 'corral free SIZE --dry-run' shows the arithmetic.",
    )

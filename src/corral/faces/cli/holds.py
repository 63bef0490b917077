"""``corral holds``: what is kept from coming up, by whom and until when."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.faces.cli.options import Spec
from corral.faces.cli.records import AtGateway, find_router, look_at_ledger
from corral.faces.cli.sets import show_models
from corral.faces.cli.tables import LIST_EPILOG, LIST_OPTIONS, print_table
from corral.faces.cli.times import tell_duration
from corral.ops.promises import count_left, is_enforced
from corral.wire import escape_controls, shorten, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.ops.promises import Hold, Moment

SPEC = Spec("[options]", LIST_OPTIONS, epilog=LIST_EPILOG, lists=("holds",))
_STATES = {True: "HELD", False: "HELD (not enforced)", None: "HELD (elsewhere)"}


def run(args: Namespace, console: Console) -> int:
    """Print the holds in force on this router, or on all."""
    elsewhere = AtGateway(args, lambda gateway: _show_at(gateway, args, console), is_meant=not args.all_routers)
    if (found := elsewhere.first()) is not None:
        return found
    from corral.ledger import read_moment
    from corral.machine import read_process

    router, now = find_router(args), read_moment()
    with look_at_ledger() as ledger:
        holds = ledger.holds.list_in_force(now, None if args.all_routers else router)
    if (found := elsewhere.instead_of(holds)) is not None:
        return found
    seen = [read_process(hold.enforcer.process.pid) for hold in holds if hold.enforcer is not None]
    living = [process for process in seen if process is not None]
    enforced = [is_enforced(hold, now, living) for hold in holds]
    if args.json:
        rows = [_describe(hold, now, state) for hold, state in zip(holds, enforced, strict=True)]
        console.line(dumps(begin_document(DONE, router.label) | {"holds": rows}))
        return DONE
    if console.quiet:
        for hold in holds:
            console.line(hold.id)
        return DONE
    table = [_show(hold, now, state) for hold, state in zip(holds, enforced, strict=True)]
    print_table(("HOLD", "MODELS", "STATE", "LEFT", "BY", "ROUTER", "REASON"), table, args, console)
    if not holds:
        console.say("No holds." if args.all_routers else f"No holds on {router.label}.")
    return DONE


def _show_at(gateway: Gateway, args: Namespace, console: Console) -> int:
    from corral.faces.cli.gateway import show_holds

    return show_holds(args, gateway, console)


def show_held(hold: Hold) -> str:
    """What a hold is about, in a few words."""
    if hold.models is not None:
        return show_models([model for model in hold.models if hold.covers(model)])
    return "all" if not hold.excepted else f"all but {', '.join(show_name(model, 40) for model in hold.excepted[:4])}"


def _show(hold: Hold, now: Moment, enforced: bool | None) -> tuple[str, ...]:
    state, left = _STATES[enforced], tell_duration(count_left(hold, now))
    who, why = escape_controls(hold.owner.label), shorten(escape_controls(hold.reason), 80)
    return hold.id, show_held(hold), state, left, who, hold.router.label, why


def _describe(hold: Hold, now: Moment, enforced: bool | None) -> dict[str, Any]:
    left_s = count_left(hold, now)
    return {
        "id": hold.id,
        "url": hold.router.label,
        "models": None if hold.models is None else [model for model in hold.models if hold.covers(model)],
        "excepted": hold.excepted,
        "enforced": enforced,
        "created": round(hold.created.wall, 3),
        "left_s": round(left_s, 3),
        "user": hold.owner.user,
        "host": hold.owner.host,
        "reason": hold.reason,
        "pid": None if hold.enforcer is None else hold.enforcer.process.pid,
    }

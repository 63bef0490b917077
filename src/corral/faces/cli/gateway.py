"""Commands whose URL is a gateway's: they ask its own API, and the gateway does, enforces and remembers.

Imported only where a gateway answers, or where there is a token of one.
"""

from __future__ import annotations

from json import dumps
from os import environ
from urllib.parse import quote

from corral.client import DEFAULT_URL, Router, Timeouts
from corral.client.gateway import HOST_HEADER, TOKEN_HEADER, USER_HEADER, Gateway
from corral.config import Flags, load_config, read_key_file
from corral.faces.cli.deeds import Deed, show_deeds
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, code_of_report
from corral.faces.cli.times import tell_duration, tell_time
from corral.faces.cli.words import count, describe_report, print_next_steps, print_outcomes
from corral.ledger import LedgerError, find_folder, read_owner
from corral.ops import BY_MEMORY, BY_STATUS, Outcome, UnloadReport
from corral.wire import BadArgumentError, CorralError, RefusedError, UnreachableError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any

    from corral.faces.cli.console import Console

_GONE = frozenset({"unloaded", "not_seen_free"})


def read_token() -> str | None:
    """The token of the gateway that this user runs, or the one that ``CORRAL_TOKEN_FILE`` names; None without one."""
    named = environ.get("CORRAL_TOKEN_FILE")
    if named:
        return read_key_file(named, "CORRAL_TOKEN_FILE")
    try:
        return read_key_file(f"{find_folder(environ)}/token", "the state folder")
    except (BadArgumentError, LedgerError):
        return None


def open_gateway(router: Router) -> Gateway:
    """The API of the gateway that answered."""
    return Gateway(router, read_token())


def try_gateway(args: Namespace, work: Callable[[Gateway], int], limits: Timeouts) -> int | None:
    """Do this at the gateway, if one answers at the URL; None when none does, and nothing was done."""
    config = load_config(Flags(args.url, getattr(args, "api_key_file", None)), environ)
    with Router(
        config.url or DEFAULT_URL,
        api_key=config.api_key,
        ca_file=config.ca_file,
        timeouts=limits,
        key_elsewhere=config.key_elsewhere,
    ) as router:
        try:
            router.list_models()
        except CorralError:
            if router.gateway is None:
                return None
        return None if router.gateway is None else work(open_gateway(router))


def sign() -> dict[str, Any]:
    """Who asks, for the gateway's log."""
    owner = read_owner(environ)
    return {"user": owner.user, "host": owner.host}


def sign_change() -> tuple[tuple[str, str], ...]:
    """Who asks, as the headers of a change that a router knows too; nothing without the token."""
    try:
        token = read_token()
    except CorralError:
        # It is asked for as any client would.
        token = None
    owner = read_owner(environ)
    named = ((USER_HEADER, quote(owner.user)), (HOST_HEADER, quote(owner.host)))
    return () if token is None else ((TOKEN_HEADER, token), *named)


# Unload.


def unload(args: Namespace, router: Router, console: Console) -> tuple[UnloadReport, tuple[str, ...]]:
    """Have the gateway drain and unload; the report, and the pinned models that were left alone."""
    gateway = open_gateway(router)
    asked = sign() | {
        "models": list(args.words),
        "all": bool(args.all or args.tag or args.match),
        "tags": list(args.tag),
        "match": list(args.match),
        "except": list(getattr(args, "except")),
        "include_pinned": args.include_pinned,
        "force": args.force or args.now,
    }
    grace_s = 0.0 if args.now else args.grace
    if args.timeout is not None:
        # The rest of it is for the router's stop-timeout.
        grace_s = args.timeout if grace_s is None else min(grace_s, args.timeout)
    if grace_s is not None:
        asked["grace_s"] = grace_s
    state = gateway.get("residents")
    spared = () if args.words or args.include_pinned else _find_pinned(state)
    if args.no_wait:
        begun = gateway.post("drain", asked)
        return UnloadReport(tuple(Outcome(name, "requested", None) for name in begun["draining"]), 0.0), spared
    console.status("The gateway drains and unloads.")
    try:
        document = gateway.post("unload", asked)
    except KeyboardInterrupt:
        console.warn("corral: Interrupted; the gateway goes on. 'corral ps' shows how far it is.")
        raise
    return read_report(document), spared


def _find_pinned(state: dict[str, Any]) -> tuple[str, ...]:
    return tuple(model["id"] for model in state["models"] if model["pinned"] and model["resident"])


def read_report(document: dict[str, Any]) -> UnloadReport:
    """The gateway's report as one of our own."""
    outcomes = tuple(map(_read_outcome, document["models"]))
    gone = [item for item in outcomes if item.outcome in _GONE]
    seen = all(item.freed_bytes is not None for item in gone)
    verified = None if not gone else BY_MEMORY if seen else BY_STATUS
    reason = "" if seen else "the gateway does not see the router's processes"
    return UnloadReport(outcomes, document["seconds"], verified=verified, unseen_reason=reason)


def _read_outcome(row: dict[str, Any]) -> Outcome:
    error: CorralError | None = None
    told = row.get("error")
    if told is not None and row["outcome"] == "unreachable":
        error = UnreachableError(told["message"], told["hint"])
    elif told is not None:
        error = RefusedError(told["message"], told["hint"], status=told.get("status") or 0)
    return Outcome(
        row["id"],
        row["outcome"],
        row["status"],
        row["seconds"],
        row["exit_code"],
        row["detail"],
        error,
        in_flight=row["in_flight"],
        cut=row["cut"],
        freed_bytes=row["freed_bytes"],
    )


# Holds.


def hold(args: Namespace, router: Router, duration_s: float, console: Console) -> int:
    """Hold at the gateway: it is in force when this returns, and needs nobody here to see to it."""
    gateway = open_gateway(router)
    asked = sign() | {
        "models": list(args.words),
        "all": args.all,
        "except": list(getattr(args, "except")),
        "duration_s": duration_s,
        "reason": args.reason or "",
        "unload": args.unload,
        "force": args.force,
        "include_pinned": args.include_pinned,
    }
    if args.grace is not None:
        asked["grace_s"] = args.grace
    try:
        document = gateway.post("hold", asked)
    except KeyboardInterrupt:
        console.warn(
            "corral: Interrupted; the gateway goes on. 'corral holds' shows the hold, 'corral release' ends it."
        )
        raise
    held = document["hold"]
    report = read_report(document["report"]) if "report" in document else None
    code = DONE if report is None else console.settle(code_of_report(report))
    if args.json:
        fields = {"event": "begun", "hold": held, "resident": document["resident"], "unsettled": document["unsettled"]}
        models = [] if report is None else describe_report(report, router.url, code)["models"]
        console.line(dumps(begin_document(code, router.url) | fields | {"models": models}))
        return code
    if report is not None:
        print_outcomes(report, console)
        print_next_steps(report, console)
    if console.quiet:
        console.line(held["id"])
    what = "all models" if held["models"] is None else count(len(held["models"]))
    console.say(
        f"Holding {what} of {router.url} for {tell_duration(held['left_s'])}, until {tell_time(held['ends'])}: "
        f"{held['id']}. The gateway sees to it; 'corral release {held['id']}' ends it."
    )
    if document["resident"] and not args.unload:
        names = ", ".join(show_name(name, 40) for name in document["resident"][:4])
        console.say(f"Resident, and staying until something unloads it: {names}. --unload sends it off first.")
    if document["unsettled"]:
        names = ", ".join(show_name(name, 40) for name in document["unsettled"][:4])
        console.warn(f"Still coming up for requests from before: {names}.")
    return code


def release(args: Namespace, gateway: Gateway, console: Console) -> int:
    """Release at the gateway what was named."""
    holds = gateway.get("holds")["holds"]
    ids = [held["id"] for held in holds]
    words = ids if args.all else list(dict.fromkeys(args.words))
    models = [word for word in words if word not in ids and not _is_hold_id(word)]
    named = [word for word in words if word in ids]
    if args.dry_run:
        deeds = [Deed(word, "release", "released") for word in (*named, *models)]
    else:
        deeds = _release(gateway, named, models)
    deeds += [
        Deed(word, "leave", "was_not_held", "no such hold is in force")
        for word in words
        if word not in named and word not in models
    ]
    let_out = [deed.name for deed in deeds if deed.is_change and deed.name not in named]
    owed = _list_owed(holds, named, let_out) if args.restore else None
    if owed is None or args.dry_run or not args.json:
        extra = {} if owed is None or not args.dry_run else {"restore": owed}
        show_deeds(deeds, "released", gateway.url, args, console, extra)
    if args.dry_run:
        if owed is not None:
            console.say(f"Would load again: {', '.join(map(show_name, owed)) or 'nothing'}.")
        console.say("Nothing was changed.")
        return DONE
    if not any(deed.is_change for deed in deeds):
        console.say(f"Nothing to release on {gateway.url}.")
    if owed is None:
        return DONE
    from corral.faces.cli.release import put_back

    return put_back(owed, deeds, gateway.url, args, console)


def _list_owed(holds: list[dict[str, Any]], named: list[str], models: list[str]) -> list[str]:
    """What was unloaded when the holds began that end now, in order, and of others what is let out of them."""
    ending = [model for held in holds if held["id"] in named for model in held["unloaded"]]
    others = {model for held in holds if held["id"] not in named for model in held["unloaded"]}
    return list(dict.fromkeys([*ending, *(model for model in models if model in others)]))


def _release(gateway: Gateway, named: list[str], models: list[str]) -> list[Deed]:
    if not (named or models):
        return []
    document = gateway.post("release", sign() | {"holds": named, "models": models})
    deeds = [Deed(hold_id, "release", "released") for hold_id in document["holds"]]
    deeds += [Deed(word, "leave", "was_released", "it had ended") for word in named if word not in document["holds"]]
    for row in document["models"]:
        found = ", ".join(row["holds"])
        if found:
            deeds.append(Deed(row["id"], "release", "released", f"from {found}"))
        else:
            deeds.append(Deed(row["id"], "leave", "was_not_held", "no hold covers it"))
    return deeds


def _is_hold_id(word: str) -> bool:
    return word[:1] == "h" and word[1:].isascii() and word[1:].isdigit()


def show_holds(args: Namespace, gateway: Gateway, console: Console) -> int:
    """The holds that the gateway enforces."""
    holds = gateway.get("holds")["holds"]
    if args.json:
        rows = [held | {"url": gateway.url, "enforced": True} for held in holds]
        console.line(dumps(begin_document(DONE, gateway.url) | {"holds": rows}))
        return DONE
    if console.quiet:
        for held in holds:
            console.line(held["id"])
        return DONE
    from corral.faces.cli.sets import show_models
    from corral.faces.cli.tables import print_table

    table = [
        (
            held["id"],
            "all" if held["models"] is None else show_models(held["models"]),
            "HELD",
            tell_duration(held["left_s"]),
            escape_controls(f"{held['user']}@{held['host']}"),
            gateway.url,
            escape_controls(held["reason"])[:80],
        )
        for held in holds
    ]
    print_table(("HOLD", "MODELS", "STATE", "LEFT", "BY", "ROUTER", "REASON"), table, args, console)
    if not holds:
        console.say(f"No holds on {gateway.url}.")
    return DONE


# Pins and the log.


def pin(args: Namespace, router: Router, models: list[str], console: Console) -> int:
    """Pin at the gateway, which then lets the router evict none of them for a request."""
    gateway = open_gateway(router)
    if args.dry_run:
        pinned = {row["id"] for row in gateway.get("pins")["pins"]}
        added = [model for model in models if model not in pinned]
    else:
        added = gateway.post("pin", sign() | {"models": models})["models"]
    deeds = [
        Deed(model, "pin", "pinned") if model in added else Deed(model, "leave", "was_pinned", "it is pinned")
        for model in models
    ]
    show_deeds(deeds, "models", router.url, args, console)
    if args.dry_run:
        console.say("Nothing was changed.")
    elif added:
        console.say(f"Pinned {count(len(added))} on {router.url}. No client's request pushes them out, either.")
    return DONE


def show_log(args: Namespace, gateway: Gateway, console: Console) -> int:
    """What the gateway's log tells."""
    from urllib.parse import urlencode

    from corral.faces.cli.log import SHOWN, show_entry
    from corral.faces.cli.tables import print_table
    from corral.ops.documents import describe_entry
    from corral.ops.promises import LogEntry, Owner, RouterKey

    limit = args.count if args.count is not None else 100_000 if args.since is not None else SHOWN
    query: dict[str, Any] = {"limit": limit}
    if args.since is not None:
        query["since_s"] = args.since
    if args.model is not None:
        query["model"] = args.model
    document = gateway.get(f"log?{urlencode(query)}")
    router = RouterKey(gateway.url, gateway.url)
    entries = [
        LogEntry(
            row["id"],
            row["time"],
            router,
            Owner(row["user"], row["host"]),
            row["command"],
            row["verb"],
            row["name"],
            row["outcome"],
            row["freed_bytes"],
            row["reason"],
        )
        for row in document["entries"]
    ]
    if args.json:
        rows = [describe_entry(entry) for entry in entries]
        console.line(dumps(begin_document(DONE, gateway.url) | {"older": document["older"], "entries": rows}))
        return DONE
    header = ("TIME", "BY", "COMMAND", "NAME", "OUTCOME", "FREED", "ROUTER", "REASON")
    print_table(header, [show_entry(entry) for entry in entries], args, console)
    if document["older"]:
        console.say(f"{document['older']} older not shown; -n or --since shows more.")
    if not entries:
        console.say(f"Nothing was done on {gateway.url}.")
    return DONE

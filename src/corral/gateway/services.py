"""What each endpoint of Corral's own API does: fields in, a document out."""

from __future__ import annotations

import asyncio
from time import monotonic, time

from aiohttp import web

from corral.gateway import documents
from corral.gateway.asking import Fields
from corral.gateway.changes import follow_changes
from corral.gateway.control import Control
from corral.gateway.documents import Document
from corral.gateway.drains import Order
from corral.gateway.logs import log
from corral.ledger import LedgerError
from corral.ops import Selection, check_selection
from corral.ops import outcome as words
from corral.ops.documents import describe_entry
from corral.ops.promises import Owner
from corral.wire import BadArgumentError, UnreachableError

LONGEST_REASON = 1000
_FRESH_S = 2.0
_LOG_ENTRIES = 200
_MOST = 1e12


# Looking.


async def show_state(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """What is resident, busy, parked, held; ``memory`` adds what the machine shows."""
    wants_memory = fields.text("memory") in ("1", "true")
    fields.finish()
    try:
        async with asyncio.timeout(_FRESH_S):
            listing = await control.watcher.refresh()
    except TimeoutError:
        raise UnreachableError(
            f"The router {control.router.url} does not answer.", "Is it running? The gateway goes on asking."
        ) from None
    meter = control.router.meter
    measured = None
    if wants_memory and meter is not None:
        measured = await asyncio.to_thread(meter.measure, listing.models, memory=True, recent=True)
    return documents.describe_state(control, measured)


async def show_events(control: Control, fields: Fields, owner: Owner, request: web.Request) -> web.StreamResponse:
    """Everything as it changes."""
    fields.finish()
    return await follow_changes(control, request)


async def show_holds(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """The holds in force, also those that somebody else wrote to the ledger a moment ago."""
    fields.finish()
    await control.promises.catch_up()
    return documents.begin(control) | {"holds": [documents.describe_hold(held) for held in control.promises.holds]}


async def show_pins(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """The pinned models, also those that somebody else has pinned a moment ago."""
    fields.finish()
    await control.promises.catch_up()
    return documents.begin(control) | {"pins": [documents.describe_pin(pin) for pin in control.promises.pins]}


async def show_sets(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """The remembered sets."""
    fields.finish()
    saved = await control.promises.list_sets()
    return documents.begin(control) | {"sets": [documents.describe_set(one) for one in saved]}


async def show_log(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """What was done."""
    since_s, limit = _read_number(fields.text("since_s"), "since_s"), _read_number(fields.text("limit"), "limit")
    model = fields.text("model") or None
    fields.finish()
    since = None if since_s is None else time() - since_s
    count = _LOG_ENTRIES if limit is None else round(limit)
    entries, older = await control.promises.read_log(since, model, count)
    return documents.begin(control) | {
        "older": older,
        "entries": [describe_entry(entry) for entry in entries],
    }


# Models.


async def _read_order(control: Control, fields: Fields, owner: Owner, command: str) -> tuple[Selection, Order]:
    await control.promises.catch_up()
    selection = fields.selection(control.gate.door.pinned)
    grace_s = fields.seconds("grace_s")
    order = Order(
        fields.owner(owner),
        command,
        control.rules.grace_s if grace_s is None else grace_s,
        force=fields.flag("force"),
        parks=not fields.flag("refuse"),
    )
    check_selection(selection)
    return selection, order


async def unload(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Drain, unload, and tell what became of each."""
    begun = monotonic()
    selection, order = await _read_order(control, fields, owner, "unload")
    fields.finish()
    outcomes = await control.operator.unload(selection, order)
    return documents.describe_report(control, outcomes, monotonic() - begun)


async def drain(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Begin to drain and unload, and come back at once; or call off what was begun."""
    if fields.flag("cancel"):
        names = fields.names("models")
        fields.finish()
        _, models = await control.operator.find(Selection(names))
        cancelled = [model.id for model in models if control.operator.drains.cancel(model.id)]
        return documents.begin(control) | {"draining": [], "cancelled": cancelled}
    selection, order = await _read_order(control, fields, owner, "drain")
    fields.finish()
    drains, _ = await control.operator.begin_unload(selection, order)
    return documents.begin(control) | {"draining": [one.model for one in drains], "cancelled": []}


async def load(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Load models one after another and see them up."""
    begun = monotonic()
    names, who = fields.names("models"), fields.owner(owner)
    fields.finish()
    if not names:
        raise BadArgumentError("No model was named.", 'Send {"models": ["NAME"]}.')
    outcomes = await control.operator.load(names, who, "load")
    return documents.describe_report(control, outcomes, monotonic() - begun)


# Promises.


async def hold(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Keep models from coming up; with ``unload`` also drain those that are up."""
    selection, order = await _read_order(control, fields, owner, "hold")
    duration_s, reason, unloads = fields.seconds("duration_s"), fields.text("reason"), fields.flag("unload")
    fields.finish()
    if len(reason) > LONGEST_REASON:
        raise BadArgumentError(f"The reason is longer than {LONGEST_REASON} characters.", "Every refusal repeats it.")
    if duration_s is None or duration_s <= 0:
        raise BadArgumentError("A hold needs duration_s, a number of seconds.", "Say how long, at most a year.")
    everything = Selection(selection.names, selection.all, selection.tags, selection.patterns, selection.excepted)
    listing, models = await control.operator.find(everything)
    is_whole = selection.all and not (selection.tags or selection.patterns)
    if not (models or is_whole):
        raise BadArgumentError("No model is meant by that.", "A hold needs at least one.")
    chosen = tuple(model.id for model in models)
    # One on all is also about models that are added later.
    named = None if is_whole else chosen
    excepted = tuple(model.id for model in listing.models if model.id not in chosen) if is_whole else ()
    held = await control.hold(named, excepted, order.owner, duration_s, reason)
    document = documents.begin(control) | {
        "hold": documents.describe_hold(held),
        "resident": [model.id for model in models if model.is_resident],
        "unsettled": list(control.gate.door.list_unsettled(monotonic())),
    }
    if unloads:
        begun = monotonic()
        outcomes = await control.operator.unload(selection, order)
        gone = [item.model for item in outcomes if item.outcome in (words.UNLOADED, words.NOT_SEEN_FREE)]
        try:
            await control.promises.remember_unloaded(held.hold.id, gone)
        except LedgerError as error:
            # What was done is told all the same.
            log.warning("what was unloaded for %s was not written down: %s", held.hold.id, error.message)
        document["report"] = documents.describe_report(control, outcomes, monotonic() - begun)
    return document


async def release(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """End holds, or let models out of them."""
    ids, names, is_all, who = fields.names("holds"), fields.names("models"), fields.flag("all"), fields.owner(owner)
    fields.finish()
    if not (ids or names or is_all):
        raise BadArgumentError("Nothing was named.", "Name holds or models, or say all.")
    # Also what somebody else has promised a moment ago.
    await control.promises.catch_up()
    if is_all:
        ids = tuple(held.hold.id for held in control.promises.holds)
    released = [hold_id for hold_id in ids if await control.promises.release(hold_id)]
    models = [await control.find_held(name) for name in names]
    let_out = {model: await control.promises.release_model(model) for model in models}
    rows = [(name, "released", None, "") for name in (*released, *(model for model in models if let_out[model]))]
    await control.promises.record(who, "release", rows)
    return documents.begin(control) | {
        "holds": released,
        "models": [{"id": model, "holds": list(found)} for model, found in let_out.items()],
    }


async def pin(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Let no rule choose these models, and the router evict none of them for a request."""
    names, who = fields.names("models"), fields.owner(owner)
    fields.finish()
    _, models = await control.operator.find(Selection(names))
    added = await control.promises.pin([model.id for model in models], who)
    await control.promises.record(who, "pin", [(model, "pinned", None, "") for model in added])
    return documents.begin(control) | {"models": added}


async def unpin(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Let rules choose these models again."""
    names, who = fields.names("models"), fields.owner(owner)
    fields.finish()
    if not names:
        raise BadArgumentError("No model was named.", 'Send {"models": ["NAME"]}.')
    ids = [control.gate.resolve(name) or name for name in names]
    removed = await control.promises.unpin(ids)
    await control.promises.record(who, "unpin", [(model, "unpinned", None, "") for model in removed])
    return documents.begin(control) | {"models": removed}


async def save(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Remember models, or what is resident, as a set."""
    name, names, who = fields.text("name"), fields.names("models"), fields.owner(owner)
    fields.finish()
    _, models = await control.operator.find(Selection(names) if names else Selection((), True))
    chosen = tuple(model.id for model in models if names or model.is_resident)
    before = await control.promises.save_set(name, chosen, who)
    await control.promises.record(who, "save", [(name, "saved", None, "")])
    replaced = None if before is None else list(before.models)
    return documents.begin(control) | {"name": name, "models": list(chosen), "replaced": replaced}


async def forget(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """Forget a set."""
    name, who = fields.text("name"), fields.owner(owner)
    fields.finish()
    if not name:
        raise BadArgumentError("No set was named.", 'Send {"name": "NAME"}.')
    found = await control.promises.forget_set(name)
    await control.promises.record(who, "forget", [(name, "forgotten", None, "")] if found else [])
    return documents.begin(control) | {"forgotten": found}


def _read_number(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MOST:
        raise BadArgumentError(f"{name} must be a number from 0 on.")
    return value

"""Corral's own API below ``/corral/v1/``: each endpoint once, with what it takes, what it answers and what it does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from corral.gateway import services
from corral.gateway.asking import Fields
from corral.gateway.control import Control
from corral.gateway.documents import Document
from corral.gateway.openapi import (
    ALL,
    FLAG,
    HOLD,
    MODELS,
    NAMES,
    REPORT,
    SPAN,
    STATE,
    TEXT,
    TIME,
    Schema,
    a_list,
    an_answer,
    an_object,
    build_document,
)
from corral.ops.promises import Owner
from corral.wire import Record

Work = Callable[[Control, Fields, Owner, web.Request], Coroutine[Any, Any, Document | web.StreamResponse]]


class Endpoint(Record):
    """One route of Corral's own."""

    method: str
    path: str
    """Below the mount."""
    summary: str
    takes: Schema
    """Of the body; of the query for GET."""
    gives: Schema
    work: Work
    is_whole: bool
    """Whether it is done to its end, also when whoever asked for it goes away."""


async def show_openapi(control: Control, fields: Fields, owner: Owner, request: web.Request) -> Document:
    """All of this, for programs."""
    fields.finish()
    return build_document(ENDPOINTS)


_SELECTED = ALL | {
    "grace_s": SPAN | {"description": "how long requests in flight are waited for"},
    "force": FLAG | {"description": "unload all the same when that is over, and cut them"},
    "refuse": FLAG | {"description": "refuse new requests at once instead of keeping them waiting"},
}
_NOTHING = an_object({})
_NAMED = an_object({"models": NAMES}, "models")
_HELD = _SELECTED | {
    "duration_s": SPAN | {"exclusiveMinimum": 0},
    "reason": TEXT | {"maxLength": services.LONGEST_REASON},
    "unload": FLAG | {"description": "drain what is up"},
}
_RELEASED = {"holds": NAMES, "models": NAMES, "all": FLAG}
_LOGGED = {"since_s": {"type": "number", "minimum": 0}, "model": TEXT, "limit": {"type": "integer", "minimum": 0}}
_PIN = an_object({"id": TEXT, "user": TEXT, "host": TEXT, "pinned": TIME}, "id", "user", "host", "pinned")
_SET = an_object({"name": TEXT, "models": MODELS, "saved": TIME}, "name", "models", "saved")
_ENTRY = an_object({"time": TIME, "user": TEXT, "command": TEXT, "name": TEXT, "outcome": TEXT}, "time", "outcome")
_SET_NAME: Schema = TEXT | {"minLength": 1}
_LET_OUT = a_list(an_object({"id": TEXT, "holds": MODELS}, "id", "holds"))
_COUNT: Schema = {"type": "integer"}

_TABLE: tuple[tuple[str, str, str, Schema, Schema, Work], ...] = (
    (
        *("GET", "residents", "The models: busy, idle, parked, held, and by whom"),
        *(an_object({"memory": TEXT | {"description": "1 adds what the machine shows"}}), STATE, services.show_state),
    ),
    (
        *("GET", "events", "A snapshot, then every change, as server-sent events"),
        *(_NOTHING, TEXT, services.show_events),
    ),
    ("POST", "unload", "Drain and unload; answers when it is over", an_object(_SELECTED), REPORT, services.unload),
    (
        *("POST", "drain", "Begin that and answer at once, or call it off"),
        *(an_object(_SELECTED | {"cancel": FLAG}), an_answer(draining=MODELS, cancelled=MODELS), services.drain),
    ),
    ("POST", "load", "Load and see it up", _NAMED, REPORT, services.load),
    ("GET", "holds", "The holds in force", _NOTHING, an_answer(holds=a_list(HOLD)), services.show_holds),
    (
        *("POST", "hold", "Keep models from coming up", an_object(_HELD, "duration_s")),
        *(an_answer(hold=HOLD, resident=MODELS, unsettled=MODELS), services.hold),
    ),
    (
        *("POST", "release", "End holds, or let models out of them", an_object(_RELEASED)),
        *(an_answer(holds=MODELS, models=_LET_OUT), services.release),
    ),
    ("GET", "pins", "The pinned models", _NOTHING, an_answer(pins=a_list(_PIN)), services.show_pins),
    ("POST", "pin", "Pin models", _NAMED, an_answer(models=MODELS), services.pin),
    ("POST", "unpin", "Unpin models", _NAMED, an_answer(models=MODELS), services.unpin),
    ("GET", "sets", "The remembered sets", _NOTHING, an_answer(sets=a_list(_SET)), services.show_sets),
    (
        *("POST", "sets", "Remember a set", an_object({"name": _SET_NAME, "models": NAMES}, "name")),
        *(an_answer(name=TEXT, models=MODELS, replaced={}), services.save),
    ),
    (
        *("DELETE", "sets", "Forget a set", an_object({"name": _SET_NAME}, "name")),
        *(an_answer(forgotten=FLAG), services.forget),
    ),
    (
        *("GET", "log", "What was done, by whom, and what came of it", an_object(_LOGGED)),
        *(an_answer(older=_COUNT, entries=a_list(_ENTRY)), services.show_log),
    ),
    ("GET", "openapi.json", "This document", _NOTHING, {"type": "object"}, show_openapi),
)

_WHOLE = frozenset({"hold", "release", "pin", "unpin", "sets"})
"""What is promised is written down and put in force, or neither."""

ENDPOINTS = tuple(
    Endpoint(method, f"/corral/v1/{name}", summary, takes, gives, work, method != "GET" and name in _WHOLE)
    for method, name, summary, takes, gives, work in _TABLE
)

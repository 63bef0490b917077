"""``GET /corral/v1/events``: a snapshot, then what changes, as server-sent events with a heartbeat."""

from __future__ import annotations

import asyncio
import json

from aiohttp import web

from corral import __version__
from corral.gateway import documents
from corral.gateway.control import Control
from corral.gateway.documents import Document
from corral.gateway.replies import GATEWAY_HEADER, HOLDS_HEADER, SERVER, name_holds

HEARTBEAT_S = 15.0
_PAUSE_S = 0.05
"""Changes that come closer together are told together."""
_MOVING = frozenset({"idle_s", "requests"})
"""Fields that change by themselves."""


class Changes:
    """What one listener has been told, and what is new since."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._told: dict[str, Document] = {}
        self._rest: Document = {}

    def begin(self) -> Document:
        """The snapshot."""
        state = documents.describe_state(self._control)
        self._told = {model["id"]: _still(model) for model in state["models"]}
        self._rest = _strip(state)
        return state

    def next(self) -> list[tuple[str, Document]]:
        """Event names and documents, for what has changed."""
        state = documents.describe_state(self._control)
        news: list[tuple[str, Document]] = []
        known = {model["id"]: model for model in state["models"]}
        for name, model in known.items():
            if self._told.get(name) != _still(model):
                news.append(("model", model))
        news += [("gone", {"id": name}) for name in self._told if name not in known]
        self._told = {name: _still(model) for name, model in known.items()}
        rest = _strip(state)
        if rest != self._rest:
            self._rest = rest
            news.append(("state", {key: value for key, value in state.items() if key != "models"}))
        return news


async def follow_changes(control: Control, request: web.Request) -> web.StreamResponse:
    """Tell one listener everything until it leaves."""
    own = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "Server": SERVER}
    response = web.StreamResponse(headers=own | {GATEWAY_HEADER: __version__})
    if holds := control.gate.list_holds():
        response.headers[HOLDS_HEADER] = name_holds(holds)
    changed = asyncio.Event()
    control.subscribe(changed.set)
    try:
        await response.prepare(request)
        changes = Changes(control)
        await response.write(_encode("snapshot", changes.begin()))
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await changed.wait()
            except TimeoutError:
                await response.write(b": heartbeat\n\n")
                continue
            changed.clear()
            for name, document in changes.next():
                await response.write(_encode(name, document))
            await asyncio.sleep(_PAUSE_S)
    finally:
        control.unsubscribe(changed.set)


def _encode(name: str, document: Document) -> bytes:
    return f"event: {name}\ndata: {json.dumps(document)}\n\n".encode()


def _still(model: Document) -> Document:
    """Without what moves by itself; who asks counts, for how long does not."""
    clients = [(one["client"], one["path"]) for one in model["requests"]]
    return {key: value for key, value in model.items() if key not in _MOVING} | {"clients": clients}


def _strip(state: Document) -> Document:
    holds = [{key: value for key, value in hold.items() if key not in ("left_s", "ends")} for hold in state["holds"]]
    router = {key: value for key, value in state["router"].items() if key != "listed"}
    return {key: value for key, value in state.items() if key != "models"} | {"holds": holds, "router": router}

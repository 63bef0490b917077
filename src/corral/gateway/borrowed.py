"""Changes of a router whose key the gateway does not have: done with the key that the client shows, as at the router.

Such a gateway sees neither list nor events, so it drains and holds nothing at the door; the router decides who may.
"""

from __future__ import annotations

from time import monotonic

from aiohttp import web

from corral.client.aio import AsyncRouter
from corral.gateway.asking import Fields
from corral.gateway.control import Control
from corral.gateway.documents import describe_report
from corral.gateway.replies import answer
from corral.ops import Selection, Unload, UnloadReport
from corral.wire import load_model, unload_model


def open_router(control: Control, request: web.Request) -> AsyncRouter:
    """The router, with the key of this client. Raises BadArgumentError for one that no header can carry."""
    shown = request.headers.get("Authorization", "") or request.headers.get("X-Api-Key", "")
    key = shown.removeprefix("Bearer ") or None
    return AsyncRouter(control.router.url, api_key=key, ca_file=control.ca_file, meter=control.router.meter)


async def unload(control: Control, request: web.Request, fields: Fields) -> web.StreamResponse:
    """As the router does it. Raises CorralError."""
    async with open_router(control, request) as router:
        await router.send(unload_model(fields.text("model")))
    return answer({"success": True})


async def load(control: Control, request: web.Request, fields: Fields) -> web.StreamResponse:
    """As the router does it. Raises CorralError."""
    async with open_router(control, request) as router:
        await router.list_models()
        await router.send_apart(load_model(fields.text("model")))
    return answer({"success": True})


async def unload_all(control: Control, request: web.Request, fields: Fields) -> web.StreamResponse:
    """As ``corral unload --all`` does it beside the router. Raises CorralError."""
    begun = monotonic()
    selection = Selection((), True, fields.names("tag"), (), fields.names("except"))
    verb = Unload(selection, grace_s=fields.seconds("grace_s"), force=fields.flag("force"))
    fields.finish()
    async with open_router(control, request) as router:
        report: UnloadReport = await router.run(verb)
    return answer(describe_report(control, report.outcomes, monotonic() - begun))

"""What the gateway answers itself: the router's own changes with patience, unload-all, and ``/corral/v1/``.

``build_routes`` gives them below a mount's base, to be matched before what is passed on. Every route of Corral's own
stands in one table (``ENDPOINTS``), from which the OpenAPI document is built too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from aiohttp import web

from corral.gateway import borrowed
from corral.gateway.admission import Refusal
from corral.gateway.asking import Fields, name_client, parse_fields, read_signature
from corral.gateway.bodies import Bodies, BodyError, build_own_bodies
from corral.gateway.control import Control
from corral.gateway.documents import describe_report
from corral.gateway.drains import CANCELLED, Drain, Order, explain_busy
from corral.gateway.endpoints import ENDPOINTS, Endpoint
from corral.gateway.replies import answer, refuse
from corral.gateway.security import Guard
from corral.gateway.settings import Settings
from corral.ops import Outcome, Selection
from corral.ops import outcome as words
from corral.ops.promises import Owner
from corral.wire import (
    AuthError,
    BadArgumentError,
    CorralError,
    NotARouterError,
    RefusedError,
    UnknownModelError,
    UnreachableError,
    load_model,
    says_not_running,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Work = Callable[[web.Request, Fields], Awaitable[web.StreamResponse]]
BorrowedWork = Callable[[Control, web.Request, Fields], Awaitable[web.StreamResponse]]
_GONE = frozenset({words.UNLOADED, words.ALREADY_UNLOADED, words.NOT_SEEN_FREE})


def build_routes(control: Control, settings: Settings, guard: Guard) -> list[web.RouteDef]:
    """The routes of one router, as paths below its mount."""
    bodies = build_own_bodies(settings.limits)
    own = RouterRoutes(control, settings, guard, bodies)
    routes = [
        web.post("/models/unload", own.let_in(own.unload, borrowed.unload)),
        web.post("/models/unload-all", own.let_in(own.unload_all, borrowed.unload_all, is_tolerant=False)),
        web.post("/models/load", own.let_in(own.load, borrowed.load)),
    ]
    own_api = [
        web.route(endpoint.method, endpoint.path, _open(endpoint, control, settings, guard, bodies))
        for endpoint in ENDPOINTS
    ]
    return routes + own_api


def _open(endpoint: Endpoint, control: Control, settings: Settings, guard: Guard, bodies: Bodies) -> Handler:
    """One route of Corral's own: for whoever has the token."""

    async def handle(request: web.Request) -> web.StreamResponse:
        refused = guard.check_token(request)
        if refused is not None:
            return refused
        try:
            body = await bodies.take(request) if request.method != "GET" else b""
            fields = parse_fields(body) if body else Fields(dict(request.query))
            work = endpoint.work(control, fields, name_client(request, settings), request)
            found = await (control.see_through(work) if endpoint.is_whole else work)
        except BodyError as error:
            return error.answer()
        except CorralError as error:
            return refuse(explain(error))
        return found if isinstance(found, web.StreamResponse) else answer(found)

    return handle


class RouterRoutes:
    """The routes that the router has too, and the one that everybody expects it to have."""

    def __init__(self, control: Control, settings: Settings, guard: Guard, bodies: Bodies) -> None:
        self._control, self._settings, self._guard, self._bodies = control, settings, guard, bodies

    def let_in(self, work: Work, without_key: BorrowedWork, *, is_tolerant: bool = True) -> Handler:
        """Let in who may change what is resident: by the router's own rule, and by where the request comes from.

        ``without_key`` is done where the router wants a key and the gateway has none. ``is_tolerant`` of fields that
        nobody knows, as the router is.
        """

        async def handle(request: web.Request) -> web.StreamResponse:
            refused = self._guard.check_change(request)
            if refused is not None:
                return refused
            try:
                fields = parse_fields(await self._bodies.take(request), tolerant=is_tolerant)
                if not is_tolerant and request.query_string:
                    raise BadArgumentError("Parameters in the URL do nothing here.", "Send them as JSON in the body.")
                if self._control.lacks_key:
                    return await without_key(self._control, request, fields)
                return await work(request, fields)
            except BodyError as error:
                return error.answer()
            except CorralError as error:
                return refuse(explain(error))

        return handle

    async def unload(self, request: web.Request, fields: Fields) -> web.StreamResponse:
        """An Eject with patience: drain, unload, and say so when it is gone; else that it is busy, and go on."""
        control = self._control
        name = fields.text("model")
        order = Order(self._name(request), "unload", control.rules.eject_grace_s)
        try:
            drains, _ = await control.operator.begin_unload(Selection((name,)), order)
        except UnknownModelError:
            return refuse(_refuse_request(400, "model is not found", "unknown_model"))
        if not drains:
            # Already gone: that is what was wanted.
            return answer({"success": True})
        drain = drains[0]
        await asyncio.wait([drain.result], timeout=control.rules.eject_s)
        if not drain.result.done():
            return refuse(_refuse_busy(drain, control.gate.door.count_in_flight(drain.model)))
        return _answer_unload(drain, drain.result.result())

    async def unload_all(self, request: web.Request, fields: Fields) -> web.StreamResponse:
        """Drain and unload every resident model that is not pinned, and tell what became of each."""
        control = self._control
        begun = monotonic()
        grace_s = fields.seconds("grace_s")
        # A model that somebody has pinned a moment ago stays as well.
        await control.promises.catch_up()
        door = control.gate.door
        selection = Selection((), True, fields.names("tag"), (), fields.names("except"), tuple(door.pinned))
        order = Order(
            self._name(request),
            "unload-all",
            control.rules.grace_s if grace_s is None else grace_s,
            force=fields.flag("force"),
        )
        fields.finish()
        outcomes = await control.operator.unload(selection, order)
        return answer(describe_report(control, outcomes, monotonic() - begun))

    async def load(self, request: web.Request, fields: Fields) -> web.StreamResponse:
        """Load a model, unless it is held; while nothing is promised exactly as the router does it."""
        control = self._control
        name = fields.text("model")
        # Whoever has just written the end of a hold loads next.
        await control.promises.catch_up()
        try:
            _, models = await control.operator.find(Selection((name,)))
        except UnknownModelError:
            return refuse(_refuse_request(404, "model is not found", "unknown_model", "not_found_error"))
        model = models[0]
        owner = self._name(request)
        if not control.gate.door.is_careful:
            with control.gate.loading(model.id):
                await control.router.send_apart(load_model(model.id))
                control.gate.hear(model.id, "loading", monotonic())
            control.watcher.hurry()
            await control.promises.record(owner, "load", [(model.id, words.REQUESTED, None, "")])
            return answer({"success": True})
        if model.is_resident:
            return refuse(_refuse_request(400, "model is already running", "already_running"))
        outcome = (await control.operator.load([model.id], owner, "load"))[0]
        if outcome.outcome in (words.LOADED, words.ALREADY_LOADED):
            return answer({"success": True})
        return refuse(_refuse_load(outcome))

    def _name(self, request: web.Request) -> Owner:
        """Who asks, for the log: by the connection, or as who has the token says."""
        found = name_client(request, self._settings)
        return read_signature(request, found) if self._guard.has_token(request) else found


def _answer_unload(drain: Drain, outcome: Outcome) -> web.StreamResponse:
    if outcome.outcome in _GONE:
        return answer({"success": True})
    if outcome.outcome in (words.STILL_BUSY, CANCELLED):
        return refuse(_refuse_busy(drain, outcome.in_flight or 0))
    error = outcome.error
    if isinstance(error, RefusedError) and says_not_running(error):
        return answer({"success": True})
    if error is not None:
        return refuse(explain(error))
    detail = outcome.detail or outcome.outcome.replace("_", " ")
    return refuse(Refusal(409, detail, outcome.outcome, 1.0, True, "invalid_request_error"))


def _refuse_busy(drain: Drain, in_flight: int) -> Refusal:
    return Refusal(409, explain_busy(drain, in_flight), "still_busy", 5.0, True, "invalid_request_error")


def _refuse_load(outcome: Outcome) -> Refusal:
    """A held model is locked; anything else has its own status."""
    error = outcome.error
    status = error.status if isinstance(error, RefusedError) else 500
    code = error.kind if isinstance(error, RefusedError) else outcome.outcome
    if code == "model_held":
        return Refusal(423, outcome.detail, code, None, False, "invalid_request_error")
    return Refusal(status, outcome.detail, code, None, status == 503, "server_error")


def _refuse_request(status: int, message: str, code: str, kind: str = "invalid_request_error") -> Refusal:
    return Refusal(status, message, code, should_retry=False, kind=kind)


def explain(error: CorralError) -> Refusal:
    """An error as an HTTP answer; what the router said keeps its status and words."""
    said = f"{error.message} {error.hint}".strip()
    if isinstance(error, UnknownModelError):
        return _refuse_request(404, said, "unknown_model", "not_found_error")
    if isinstance(error, BadArgumentError):
        return _refuse_request(400, said, "bad_argument")
    if isinstance(error, AuthError):
        return _refuse_request(401, error.message, "router_key", "authentication_error")
    if isinstance(error, RefusedError):
        return _refuse_request(
            error.status, error.message.removeprefix("The router refuses: "), "router_refused", error.kind
        )
    if isinstance(error, UnreachableError | NotARouterError):
        return Refusal(
            503, f"{error.message.removesuffix('.')}. The gateway goes on asking.", "router_unreachable", 2.0, True
        )
    return Refusal(500, said, "ledger", None, False, "server_error")

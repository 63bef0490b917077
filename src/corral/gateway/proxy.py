"""The way of one request: attribute, ask the gate, forward, stream back, account for it.

Rules for whoever edits this: a POST is sent once; an answer is never gathered; whatever ends the handler, the visit is
closed and the gate told, and an upstream connection that was not read to its end is broken off, so that the router
sees a client that left within milliseconds. The handler is cancelled when the client's connection is lost.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from corral.gateway.admission import Pass, Refusal
from corral.gateway.bodies import Bodies, Body, BodyError
from corral.gateway.calls import Call
from corral.gateway.headers import build_request
from corral.gateway.lane import Lane, visit_ids
from corral.gateway.logs import log
from corral.gateway.relay import GATEWAY_LINE, Outlet, break_off, relay
from corral.gateway.replies import HOLDS_HEADER, name_holds, refuse
from corral.gateway.replies import answer as reply_with
from corral.gateway.security import check_change, read_peer
from corral.gateway.upstream import Answer, BrokenAnswerError, UpstreamError
from corral.gateway.visits import Visit
from corral.wire import escape_controls
from corral.wire.attribution import BODY, CHANGE, CONVERSATION, LIST, QUERY, WORK, read_query
from corral.wire.bodies import LARGE_BYTES, find_model, read_conversations, wants_stream
from corral.wire.verbs import says_unheard

_LISTS = ("/models", "/v1/models")
_STALE_S = 2.0
"""A router that says nothing for so long is taken for gone by whoever asks for its list."""
_BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


class Proxy:
    """Forwards requests to one router."""

    def __init__(self, lane: Lane, bodies: Bodies) -> None:
        self._lane = lane
        self._bodies = bodies
        self._loop = asyncio.get_running_loop()
        self._conversations: set[asyncio.Task[web.StreamResponse]] = set()
        self.is_stopping = False

    @property
    def lane(self) -> Lane:
        """The router."""
        return self._lane

    @property
    def prefix(self) -> str:
        """The path that leads here; empty for any."""
        return self._lane.mount.prefix

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        call = Call(request, self._lane)
        refusal = call.refusal or self._check(call)
        if refusal is not None:
            response = refuse(refusal)
            # What else it sends is not read.
            response.force_close()
            return response
        try:
            body = await self._bodies.read(request)
        except BodyError as error:
            return error.answer()
        try:
            visit = await self._attribute(call, body)
        except BaseException:
            body.release()
            raise
        return await self._serve(call, visit, body)

    def _check(self, call: Call) -> Refusal | None:
        return check_change(call.request, self._lane.settings) if call.route.kind == CHANGE else None

    async def _serve(self, call: Call, visit: Visit, body: Body) -> web.StreamResponse:
        """Ask the gate, forward, and account for it whatever happens."""
        lane = self._lane
        lane.visits.open(visit)
        is_handed_on = False
        try:
            answer = await lane.gate.admit(visit)
            if isinstance(answer, Refusal):
                return refuse(answer)
            lane.visits.forward(visit, self._loop.time())
            if visit.conversation is None or visit.route.kind != WORK or not await _wants_stream(body.data):
                return await self._forward(call, visit, answer, body, goes_on=False)
            is_handed_on = True
            return await self._go_on(call, visit, answer, body)
        finally:
            if not is_handed_on:
                self._end(visit, body)

    async def _go_on(self, call: Call, visit: Visit, leave: Pass, body: Body) -> web.StreamResponse:
        """An answer in a conversation goes on when its client leaves, as at the router; so does its visit."""

        async def work() -> web.StreamResponse:
            try:
                return await self._forward(call, visit, leave, body, goes_on=True)
            finally:
                self._end(visit, body)

        task = asyncio.create_task(work(), name="corral-conversation")
        self._conversations.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, task: asyncio.Task[web.StreamResponse]) -> None:
        self._conversations.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            log.error("internal error: %s: %s", type(error).__name__, error)

    def _end(self, visit: Visit, body: Body) -> None:
        body.release()
        self._lane.visits.close(visit, self._loop.time())
        self._lane.gate.leave(visit)

    async def close(self) -> None:
        """Break off what goes on without a client."""
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    async def _attribute(self, call: Call, body: Body) -> Visit:
        """Who asks for what, as far as the request says."""
        request, lane, route = call.request, self._lane, call.route
        headers = request.headers
        visit = Visit(next(visit_ids), request.method, call.path, route, _name_client(request), self._loop.time())
        visit.user_agent = headers.get("User-Agent", "")
        visit.key_label = call.key_label
        visit.task = headers.get(lane.settings.task_header, "")
        visit.size = body.size
        visit.autoload = call.read_autoload()
        visit.conversation = headers.get("X-Conversation-Id") or None
        if route.where == BODY:
            visit.named = await _read_model(body.data, headers.get("Content-Type", ""))
        elif route.where == QUERY:
            visit.named = read_query(call.query).get("model") or None
        elif route.where == CONVERSATION:
            visit.conversation = _read_conversation(call, body.data)
            visit.model = lane.visits.model_of(visit.conversation or "")
        if visit.named is not None:
            visit.model = lane.gate.resolve(visit.named)
        return visit

    async def _forward(self, call: Call, visit: Visit, leave: Pass, body: Body, *, goes_on: bool) -> web.StreamResponse:
        request, lane = call.request, self._lane
        limit = asyncio.timeout(_find_limit(visit, lane))
        try:
            async with limit:
                lane.pulse.watch(limit)
                answer = await self._send(call, visit, leave, body)
                body.release()
                if isinstance(answer, Refusal):
                    return refuse(answer)
                if not limit.expired():
                    limit.reschedule(None)
                return await self._relay(request, visit, answer, goes_on=goes_on)
        except (UpstreamError, TimeoutError) as error:
            if visit.first_byte_at is not None:
                return break_off(request)
            return _answer_stale(visit, lane) or refuse(_explain(error, lane))
        finally:
            lane.pulse.release(limit)

    async def _send(self, call: Call, visit: Visit, leave: Pass, body: Body) -> Answer | Refusal:
        """The router's answer. A request that it turned away unheard is asked for anew at the gate."""
        request, lane = call.request, self._lane
        has_body = body.size > 0 or request.method not in _BODILESS or request.content_length == 0
        while True:
            head = build_request(
                request.method,
                call.build_target(leave).encode("utf-8", "surrogateescape"),
                call.build_headers(leave),
                body.size if has_body else None,
                lane.key if call.key_label else None,
                bool(lane.settings.client_keys),
            )
            answer = await lane.upstream.send(request.method, head, body.data)
            try:
                is_heard = visit.route.kind != WORK or not await _is_turned_away(answer)
                again = None if is_heard else await lane.gate.reconsider(visit)
            except BaseException:
                answer.close()
                raise
            if again is None:
                return answer
            answer.close()
            if isinstance(again, Refusal):
                return again
            leave = again

    async def _relay(
        self, request: web.BaseRequest, visit: Visit, answer: Answer, *, goes_on: bool
    ) -> web.StreamResponse:
        try:
            self._lane.visits.first_byte(visit, self._loop.time())
            added = [GATEWAY_LINE] if visit.route.kind == LIST and visit.path.endswith("/models") else []
            if holds := self._lane.gate.list_holds():
                added.append(f"{HOLDS_HEADER}: {name_holds(holds)}".encode("ascii"))
            # Behind an offer to speak something else, bytes of the next request may be lost in the parser.
            keeps = request.keep_alive and not self.is_stopping and "Upgrade" not in request.headers
            outlet = Outlet(request, self._lane.settings.limits.send_s, goes_on=goes_on)
            return await relay(answer, outlet, added, keeps=keeps)
        finally:
            answer.close()


async def _read_model(body: bytes, content_type: str) -> str | None:
    if len(body) < LARGE_BYTES:
        return find_model(body, content_type)
    return await asyncio.to_thread(find_model, body, content_type)


async def _wants_stream(body: bytes) -> bool:
    return wants_stream(body) if len(body) < LARGE_BYTES else await asyncio.to_thread(wants_stream, body)


def _read_conversation(call: Call, body: bytes) -> str | None:
    if call.request.method == "POST":
        return next(iter(read_conversations(body)), None)
    return read_query(call.query).get("conv_id") or None


def _name_client(request: web.BaseRequest) -> str:
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    if isinstance(peer, tuple):
        return f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
    found = read_peer(request)
    return "unix" if found is None else f"unix pid {found[0]}"


async def _is_turned_away(answer: Answer) -> bool:
    """Whether the router says that no child ever got the request, so that nothing was done for it."""
    if answer.message.code not in (400, 500):
        return False
    try:
        # The router says it in one piece.
        return says_unheard(answer.message.code, await answer.peek())
    except BrokenAnswerError:
        return False


def _find_limit(visit: Visit, lane: Lane) -> float | None:
    """What the router answers itself takes no time; a model may take any."""
    if visit.route.kind != LIST or visit.method != "GET":
        return None
    has_stale = visit.path in _LISTS and lane.build_stale_list is not None and lane.build_stale_list() is not None
    return min(_STALE_S, lane.settings.limits.look_s) if has_stale else lane.settings.limits.look_s


def _answer_stale(visit: Visit, lane: Lane) -> web.Response | None:
    """The last list, so that chat clients keep theirs while the router is away; None for anything else."""
    if visit.path not in _LISTS or visit.method not in ("GET", "HEAD") or lane.build_stale_list is None:
        return None
    document = lane.build_stale_list()
    return None if document is None else reply_with(document, headers={"Corral-Stale": "1"})


def _explain(error: UpstreamError | TimeoutError, lane: Lane) -> Refusal:
    where = lane.mount.target.label
    if isinstance(error, TimeoutError):
        return Refusal(504, f"The router {where} does not answer.", "router_silent", 5.0)
    said = escape_controls(error.message)
    if error.timed_out:
        return Refusal(504, f"The router {where} cannot be reached: {said}.", "router_unreachable", 5.0)
    if error.was_sent:
        message = f"The router {where} took the request and gave no answer: {said}. It may have acted on it."
        return Refusal(502, message, "router_broke_off", should_retry=False)
    return Refusal(503, f"The router {where} cannot be reached: {said}. Is it running?", "router_unreachable", 2.0)

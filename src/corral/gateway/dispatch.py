"""Leads each request of a listener to what answers it: the gateway itself, or the router that its path is of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from corral.gateway.admission import Refusal
from corral.gateway.bodies import Bodies, BodyError
from corral.gateway.lane import Lane
from corral.gateway.proxy import Proxy
from corral.gateway.replies import HOLDS_HEADER, answer, name_holds, refuse, reject

_API = "/corral/"
_READY_S = 2.0

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Dispatch:
    """The lanes of one listener; the longest prefix that fits leads."""

    def __init__(self, lanes: Sequence[Lane], bodies: Bodies) -> None:
        self.proxies = [Proxy(lane, bodies) for lane in sorted(lanes, key=lambda lane: -len(lane.mount.prefix))]
        self.is_stopping = False
        self._bodies = bodies
        self._prefixes = [(proxy.prefix, proxy) for proxy in self.proxies]
        self._own = {(route.method, lane.mount.base + route.path): lane for lane in lanes for route in lane.routes}
        self._apis = [(lane.mount.base + _API, lane) for lane in lanes]
        self._lanes = lanes

    def build_app(self) -> web.Application:
        """What the gateway answers itself."""
        app = web.Application()
        for lane in self._lanes:
            base = lane.mount.base
            app.router.add_get(f"{base}{_API}v1/health", self._answer_health)
            app.router.add_get(f"{base}{_API}v1/ready", self._build_ready(lane))
            for route in lane.routes:
                app.router.add_route(route.method, base + route.path, route.handler, **route.kwargs)
        return app

    def lead(self, answer_itself: Handler) -> Handler:
        """A handler for all requests, in front of the one for those that the gateway answers itself."""

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            path = request.raw_path.partition("?")[0]
            lane = self._own.get((request.method, path)) or self._find_api(path)
            if lane is not None:
                return _tell_holds(await _answer_own(answer_itself, request), lane)
            for prefix, proxy in self._prefixes:
                if not prefix or path == prefix or path.startswith(f"{prefix}/"):
                    refusal = await self._answer_expectation(request) if "Expect" in request.headers else None
                    return _tell_holds(refusal or await proxy.handle(request), proxy.lane)
            return reject(404, "No router is behind this path.", "no_router", "not_found_error")

        return handle

    def stop(self) -> None:
        """From now on connections end with the answer that is under way."""
        self.is_stopping = True
        for proxy in self.proxies:
            proxy.is_stopping = True

    def _find_api(self, path: str) -> Lane | None:
        """The lane whose API a path is in."""
        return next((lane for base, lane in self._apis if path.startswith(base)), None)

    async def _answer_expectation(self, request: web.BaseRequest) -> web.StreamResponse | None:
        """Ask for the body only if it will be read."""
        if request.version < (1, 1) or request.headers["Expect"].lower() != "100-continue":
            return None
        try:
            self._bodies.check(request)
        except BodyError as error:
            return error.answer()
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # It is no part of the answer, whose head may still be chosen.
        request.writer.output_size = 0
        return None

    async def _answer_health(self, request: web.Request) -> web.StreamResponse:
        return answer({"status": "stopping" if self.is_stopping else "ok"})

    def _build_ready(self, lane: Lane) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer_ready(request: web.Request) -> web.StreamResponse:
            """Ready when a request would reach the router now."""
            if self.is_stopping:
                return refuse(Refusal(503, "The gateway is stopping.", "stopping", 5.0))
            if not await lane.is_reachable(_READY_S):
                where = lane.mount.target.label
                return refuse(Refusal(503, f"The router {where} does not answer.", "router_unreachable", 2.0))
            return answer({"status": "ok"})

        return answer_ready


def _tell_holds(response: web.StreamResponse, lane: Lane) -> web.StreamResponse:
    """What was passed on, or is a stream, has its head behind it."""
    if isinstance(response, web.Response) and not response.prepared and (holds := lane.gate.list_holds()):
        response.headers[HOLDS_HEADER] = name_holds(holds)
    return response


async def _answer_own(answer_itself: Handler, request: web.BaseRequest) -> web.StreamResponse:
    try:
        return await answer_itself(request)
    except web.HTTPException as error:
        said = {404: "There is nothing under this path.", 405: "This path takes another method."}
        kind = "not_found_error" if error.status == 404 else "invalid_request_error"
        response = reject(error.status, said.get(error.status, error.reason), "bad_request", kind)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response

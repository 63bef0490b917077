"""Which route does what: keys, CORS, the router's own routes, the proxied ones, and the single-model server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from corral.sim import child
from corral.sim.config import SimConfig
from corral.sim.entries import build_child_props, build_listing, build_router_props, build_single_listing
from corral.sim.http import Reply, Request, reply_json
from corral.sim.models import Event, SimModel
from corral.sim.router import ProxyError, RefusalError, SimRouter

Route = Callable[[Request], Awaitable[Reply]]

_PROXIED_POSTS = (
    "/completion",
    "/completions",
    "/v1/completions",
    "/chat/completions",
    "/v1/chat/completions",
    "/v1/messages",
    "/v1/responses",
    "/infill",
    "/embedding",
    "/embeddings",
    "/v1/embeddings",
    "/rerank",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/apply-template",
)


class Routes:
    """The routes of one simulated server."""

    def __init__(self, config: SimConfig, router: SimRouter) -> None:
        self._config, self._router, self._era = config, router, config.features
        table = self._build_single_routes() if config.single is not None else self._build_router_routes()
        self._routes = {(method, config.api_prefix + path): route for (method, path), route in table.items()}
        self._public = {"/health", "/v1/health", "/"}
        if self._era.public_list:
            self._public |= {"/models", "/v1/models"}

    async def handle(self, request: Request) -> Reply:
        """Answer one request as the era's server would."""
        if request.method == "OPTIONS":
            return self._answer_preflight()
        if self._config.is_starting:
            return _refuse_early(503, "Loading model", "unavailable_error")
        if not self._is_allowed(request):
            return _refuse_early(401, "Invalid API Key", "authentication_error")
        method = "GET" if request.method == "HEAD" else request.method
        route = self._routes.get((method, request.path))
        if route is None:
            return _refuse_early(404, "File Not Found", "not_found_error")
        try:
            return await route(request)
        except ProxyError as error:
            return Reply(500, str(error).encode(), is_proxied=True)
        except RefusalError as error:
            if error.status == 404:
                # The real server's error page replaces the body of every 404, its own refusals included.
                return _refuse_early(404, "File Not Found", "not_found_error")
            document = {"error": {"code": error.status, "message": error.message, "type": error.kind}}
            return reply_json(document, error.status)

    def _build_router_routes(self) -> dict[tuple[str, str], Route]:
        table: dict[tuple[str, str], Route] = {
            ("GET", "/health"): self._answer_health,
            ("GET", "/v1/health"): self._answer_health,
            ("GET", "/models"): self._list,
            ("GET", "/v1/models"): self._list,
            ("GET", "/props"): self._answer_props,
            ("GET", "/slots"): self._answer_slots,
            ("GET", "/metrics"): self._answer_metrics,
            ("POST", "/models/load"): self._load,
            ("POST", "/models/unload"): self._unload,
        }
        for path in _PROXIED_POSTS:
            table["POST", path] = self._answer_chat
        if self._era.has_events:
            table["GET", "/models/sse"] = self._follow
            table["POST", "/models"] = self._download
            table["DELETE", "/models"] = self._remove
        return table

    def _build_single_routes(self) -> dict[tuple[str, str], Route]:
        table: dict[tuple[str, str], Route] = {}
        for path, answer in (
            ("/health", {"status": "ok"}),
            ("/v1/health", {"status": "ok"}),
            ("/models", build_single_listing(self._config.single or "")),
            ("/v1/models", build_single_listing(self._config.single or "")),
            ("/props", build_child_props(self._config.single or "", self._config, 4, False)),
            ("/slots", [{"id": index, "n_ctx": 512, "is_processing": False} for index in range(4)]),
        ):
            table["GET", path] = _answer_always(answer)
        return table

    def _is_allowed(self, request: Request) -> bool:
        keys = self._config.api_keys
        if not keys or request.path in self._public:
            return True
        sent = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        return sent.removeprefix("Bearer ") in keys

    def _answer_preflight(self) -> Reply:
        allow = (
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Allow-Methods", self._era.cors_methods),
            ("Access-Control-Allow-Headers", "*"),
        )
        return Reply(content_type="text/html", headers=allow)

    async def _answer_health(self, request: Request) -> Reply:
        return reply_json({"status": "ok"})

    async def _list(self, request: Request) -> Reply:
        faults = self._router.faults
        models = [model for model in self._router.models.values() if not model.spec.is_hidden]
        listed = [model for model in models if not faults.hides(model.spec.id)]
        if request.query.get("reload") and self._era.has_reload:
            self._router.publish({"model": "*", "event": "models_reload"})
        return reply_json(build_listing(listed, self._config))

    async def _load(self, request: Request) -> Reply:
        model = self._router.find(self._read_body(request).get("model"))
        if model is None:
            raise RefusalError(404, "model is not found")
        await self._router.load(model)
        return reply_json({"success": True})

    async def _unload(self, request: Request) -> Reply:
        model = self._router.find(self._read_body(request).get("model"))
        if model is None:
            raise RefusalError(400, "model is not found")
        await self._router.unload(model)
        return reply_json({"success": True})

    async def _download(self, request: Request) -> Reply:
        """Downloads need a network, which nothing simulated has: only the refusals are here."""
        name = self._read_body(request).get("model")
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "model must be a non-empty string")
        raise RefusalError(400, "error: invalid HF repo format, expected <user>/<model>[:quant]\n")

    async def _remove(self, request: Request) -> Reply:
        name = request.query.get("model")
        if not name:
            raise RefusalError(400, "model must be a non-empty string")
        model = self._router.models.get(name)
        if model is None:
            raise RefusalError(500, f"model name={name} not found")
        if model.spec.source != "cache":
            raise RefusalError(500, f"model name={name} is not removable (not from cache)")
        if model.is_resident:
            await self._router.unload(model)
        while model.is_resident:
            await self._router.wait_for_change()
        del self._router.models[name]
        self._router.publish({"model": name, "event": "model_remove"})
        return reply_json({"success": True})

    async def _follow(self, request: Request) -> Reply:
        news: asyncio.Queue[Event] = asyncio.Queue()
        self._router.subscribers.append(news)
        return Reply(content_type="text/event-stream", chunks=self._stream_events(news))

    async def _stream_events(self, news: asyncio.Queue[Event]) -> AsyncIterator[bytes]:
        try:
            yield b""
            while True:
                text = json.dumps(await news.get(), separators=(",", ":"), ensure_ascii=False)
                yield b"data: " + text.encode("utf-8", "surrogatepass") + b"\n\n"
        finally:
            self._router.subscribers.remove(news)

    async def _answer_props(self, request: Request) -> Reply:
        if "model" not in request.query:
            return reply_json(build_router_props(self._config))
        model = self._find_proxied(request.query.get("model"))
        await self._router.admit(model, self._autoloads(request))
        return child.answer_props(self._router, model)

    async def _answer_slots(self, request: Request) -> Reply:
        model = self._find_proxied(request.query.get("model"))
        await self._router.admit(model, self._autoloads(request))
        return await child.answer_slots(self._router, model)

    async def _answer_metrics(self, request: Request) -> Reply:
        model = self._find_proxied(request.query.get("model"))
        await self._router.admit(model, self._autoloads(request))
        return await child.answer_metrics(self._router, model)

    async def _answer_chat(self, request: Request) -> Reply:
        body = self._read_body(request)
        model = self._find_proxied(body.get("model"))
        await self._router.admit(model, self._autoloads(request))
        return await child.answer_chat(self._router, model, body)

    def _find_proxied(self, name: object) -> SimModel:
        if not isinstance(name, str) or not name:
            raise RefusalError(400, "model name is missing from the request")
        model = self._router.find(name)
        if model is None:
            raise RefusalError(400, self._era.not_found.format(name))
        return model

    def _autoloads(self, request: Request) -> bool:
        text = request.query.get("autoload", "")
        return text in ("true", "1") if text else self._config.autoload

    def _read_body(self, request: Request) -> dict[str, object]:
        try:
            document = json.loads(request.body)
        except (ValueError, RecursionError):
            message = "[json.exception.parse_error.101] parse error at line 1, column 1: syntax error"
            raise RefusalError(self._era.invalid_json_status, message) from None
        return document if isinstance(document, dict) else {}


def _answer_always(document: object) -> Route:
    async def answer(request: Request) -> Reply:
        return reply_json(document)

    return answer


def _refuse_early(status: int, message: str, kind: str) -> Reply:
    return reply_json({"error": {"message": message, "type": kind, "code": status}}, status)

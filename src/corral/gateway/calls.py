"""One request as the router would read it, and what is refused by its head alone."""

from __future__ import annotations

from aiohttp import web

from corral.gateway.admission import Pass, Refusal
from corral.gateway.lane import Lane
from corral.gateway.security import find_client
from corral.wire.attribution import CHANGE, LIST, Route, decode_path, drop_parameters, find_route, read_query
from corral.wire.bodies import read_media_type


class Call:
    """One request as the router would read it."""

    __slots__ = ("_mark", "_mount", "key_label", "path", "query", "raw_path", "refusal", "request", "route")

    def __init__(self, request: web.BaseRequest, lane: Lane) -> None:
        self.request = request
        self.raw_path, self._mark, self.query = request.raw_path.partition("?")
        self._mount = lane.mount
        base = lane.mount.base
        path = decode_path(self.raw_path)
        self.path = path[len(base) :] if path.startswith(base) else path
        self.route: Route = find_route(request.method, self.path)
        self.key_label = ""
        self.refusal = self._check(lane)

    def _check(self, lane: Lane) -> Refusal | None:
        came_back = lane.loop.check(self.request.headers)
        if came_back is not None:
            return came_back
        if (not self.raw_path.startswith("/") and self.request.raw_path != "*") or "#" in self.request.raw_path:
            return Refusal(400, "The request's target must be a path.", "bad_target", kind="invalid_request_error")
        if self.request.method == "CONNECT":
            return Refusal(405, "This is no forward proxy.", "bad_method", kind="invalid_request_error")
        if self.route.kind == CHANGE and "%" in self.raw_path:
            return Refusal(400, "Write the path without escapes.", "bad_target", kind="invalid_request_error")
        if lane.settings.client_keys and not self._is_public():
            label = find_client(self.request, lane.settings)
            if label is None:
                return Refusal(401, "Invalid API Key", "bad_key", kind="authentication_error")
            self.key_label = label
        return None

    def _is_public(self) -> bool:
        """As at the router: health, and what a browser asks before it sends a key."""
        return self.path in ("/health", "/v1/health") or self.request.method == "OPTIONS"

    def read_autoload(self) -> bool | None:
        """What the client says about loading, as the router reads it."""
        said = read_query(self.query).get("autoload", "") if self.query else ""
        return said in ("true", "1") if said else None

    def build_target(self, leave: Pass) -> str:
        """The target that the router gets: the client's own, but nothing changes on a GET, and loads only if let."""
        query, mark, raw = self.query, self._mark, self.raw_path
        if self._mount.prefix:
            raw = self._mount.target.prefix + (raw[len(self._mount.prefix) :] or "/")
        if self.route.kind == LIST:
            query = drop_parameters(query, ("reload",)) if query else query
        if leave.autoload is not None:
            query = drop_parameters(query, ("autoload",)) if query else query
            query += ("&" if query else "") + f"autoload={'true' if leave.autoload else 'false'}"
        if query != self.query:
            mark = "?" if query else ""
        return f"{raw}{mark}{query}"

    def build_headers(self, leave: Pass) -> tuple[tuple[bytes, bytes], ...]:
        """The client's own. The router reads ``autoload`` from a form too, so JSON is not let be called one then."""
        headers = self.request.raw_headers
        kind = read_media_type(self.request.headers.get("Content-Type", ""))
        if leave.autoload is None or kind != "application/x-www-form-urlencoded":
            return headers
        kept = [pair for pair in headers if pair[0].lower() != b"content-type"]
        return (*kept, (b"Content-Type", b"application/json"))

"""A whole simulated server: listens, logs each request, lets faults happen, and hands the rest to the routes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from corral.sim.config import SimConfig
from corral.sim.faults import REQUEST_FAULTS, STREAM_FAULTS, Fault, FaultBox
from corral.sim.http import HttpServer, Reply, Request, ResetError, reply_json
from corral.sim.router import SimRouter
from corral.sim.routes import Routes

_PAGE = b"<!DOCTYPE html><html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"
_PROMISED_TOO_MUCH = 100


@dataclass(frozen=True)
class LoggedRequest:
    """One request that arrived, in order of arrival, whatever became of it."""

    method: str
    target: str
    """Path and query as sent."""
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    """When, on the event loop's clock."""

    @property
    def json(self) -> object:
        """The body as JSON; None when it is none."""
        try:
            document: object = json.loads(self.body)
        except ValueError:
            return None
        return document


class SimServer:
    """One simulated llama-server on the running event loop."""

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.faults = FaultBox(config.faults)
        self.router = SimRouter(config, self.faults)
        self.log: list[LoggedRequest] = []
        self.port = 0
        self._routes = Routes(config, self.router)
        self.http = HttpServer(self._handle, config.idle_drop_s, config.requests_per_connection)

    @property
    def url(self) -> str:
        """Where it answers, path prefix included."""
        if self.config.unix_socket is not None:
            prefix = self.config.api_prefix
            return f"unix://{self.config.unix_socket}{'?prefix=' if prefix else ''}{prefix}"
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        scheme = "http" if self.config.tls is None else "https"
        return f"{scheme}://{host}:{self.port}{self.config.api_prefix}"

    async def start(self) -> None:
        """Listen."""
        config = self.config
        self.port = await self.http.start(config.host, config.port, config.unix_socket, config.tls)

    async def close(self) -> None:
        """Stop listening, end every connection and every timer."""
        await self.router.close()
        await self.http.close()

    async def _handle(self, request: Request) -> Reply:
        now = self.router.now()
        self.log.append(LoggedRequest(request.method, request.target, request.path, request.headers, request.body, now))
        path = request.path.removeprefix(self.config.api_prefix)
        fault = self.faults.take(REQUEST_FAULTS, request.method, path)
        if fault is not None:
            return await self._meet(fault, request)
        reply = await self._routes.handle(request)
        if path == "/models/sse" and reply.chunks is not None:
            fault = self.faults.take(STREAM_FAULTS, request.method, path)
            if fault is not None:
                return replace(reply, chunks=_spoil_stream(reply.chunks, fault))
        return reply

    async def _meet(self, fault: Fault, request: Request) -> Reply:
        if fault.kind == "slow":
            await asyncio.sleep(fault.seconds)
        elif fault.kind == "hang":
            await asyncio.get_running_loop().create_future()
        elif fault.kind == "reset-before":
            raise ResetError
        elif fault.kind == "html":
            return Reply(body=_PAGE, content_type="text/html", server="nginx")
        elif fault.kind == "redirect":
            return Reply(302, headers=(("Location", fault.location),))
        elif fault.kind == "status":
            return _refuse(500 if fault.code is None else fault.code)
        reply = await self._routes.handle(request)
        if fault.kind == "reset-after":
            raise ResetError
        return _spoil(reply, fault)


def _spoil(reply: Reply, fault: Fault) -> Reply:
    if fault.kind == "cut":
        return replace(reply, promised=_PROMISED_TOO_MUCH)
    if fault.kind == "huge":
        return replace(reply, body=b" " * fault.size + reply.body)
    if fault.kind == "foreign":
        return replace(reply, server=None)
    return reply


def _refuse(status: int) -> Reply:
    texts = {
        401: ("Invalid API Key", "authentication_error"),
        404: ("File Not Found", "not_found_error"),
        503: ("Loading model", "unavailable_error"),
    }
    message, kind = texts.get(
        status, ("simulated failure", "server_error" if status >= 500 else "invalid_request_error")
    )
    return reply_json({"error": {"message": message, "type": kind, "code": status}}, status)


async def _spoil_stream(chunks: AsyncIterator[bytes], fault: Fault) -> AsyncIterator[bytes]:
    left = fault.count or 0
    # The first chunk is empty: it only says that the subscription stands.
    yield await anext(chunks)
    while left > 0:
        left -= 1
        yield await anext(chunks)
    if fault.kind == "events-die":
        raise ResetError
    if fault.kind == "events-silent":
        await asyncio.get_running_loop().create_future()

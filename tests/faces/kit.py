"""A server that answers byte by byte as it is told, and the least that passes for a router."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Sequence
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, NamedTuple


class Result(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Answer = Callable[[str, str, dict[str, str], bytes], bytes | None]
"""Method, path, headers and body of a request to the bytes of its reply; None hangs until the test is over."""


class ScriptedServer(ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    answer: Answer
    over: threading.Event

    def server_activate(self) -> None:
        """Listen. A connection that is gone again before it is accepted must not make the server wait for the next."""
        super().server_activate()
        self.socket.setblocking(False)


class ScriptedHandler(StreamRequestHandler):
    server: ScriptedServer

    def handle(self) -> None:
        """Answer requests until the answer says nothing more, or says to close."""
        while line := self.rfile.readline():
            method, path, _ = line.decode("latin-1").split(" ", 2)
            headers: dict[str, str] = {}
            while header := self.rfile.readline().strip():
                name, _, value = header.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            body = self.rfile.read(int(headers.get("content-length", 0)))
            reply = self.server.answer(method, path, headers, body)
            if reply is None:
                self.server.over.wait(20)
                return
            if reply == b"":
                # A reset rather than an orderly end.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            self.wfile.write(reply)
            if b"connection: close" in reply[:500].lower():
                return


def reply(status: int, document: object, *, server: str = "llama.cpp", extra: Sequence[str] = ()) -> bytes:
    """An HTTP reply; ``document`` is bytes as they are, or a value to be sent as JSON."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    lines = [f"HTTP/1.1 {status} X", f"Server: {server}", f"Content-Length: {len(body)}", *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refusal(status: int, message: str, kind: str = "invalid_request_error") -> bytes:
    """An error as llama-server sends it."""
    return reply(status, {"error": {"code": status, "message": message, "type": kind}})


class RawRouter:
    """The least that passes for a router: a list, and loads and unloads that are done at once."""

    def __init__(self, models: dict[str, str]) -> None:
        self.models = dict(models)
        self.posts: list[tuple[str, str]] = []
        self.ports = dict.fromkeys(models, 5000)
        self.on_post: Callable[[str, str], bytes | None] | None = None
        """May answer a POST in the router's place."""

    def __call__(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        """Answer one request."""
        if path == "/models":
            return reply(200, {"object": "list", "data": [self._describe(model) for model in self.models]})
        if path.startswith("/slots?"):
            return reply(200, [{"id": 0, "is_processing": False}])
        if method != "POST":
            return refusal(404, "File Not Found", "not_found_error")
        model, verb = json.loads(body)["model"], path.rpartition("/")[2]
        self.posts.append((verb, model))
        if self.on_post is not None:
            answer = self.on_post(verb, model)
            if answer != b"as usual":
                return answer
        self.act(verb, model)
        return reply(200, {"success": True})

    def act(self, verb: str, model: str) -> None:
        """Do what the request asks for."""
        self.models[model] = "loaded" if verb == "load" else "unloaded"
        self.ports[model] += verb == "load"

    def _describe(self, model: str) -> dict[str, Any]:
        status = {"value": self.models[model], "args": ["--port", str(self.ports[model])]}
        return {"id": model, "aliases": [f"alias-of-{model}"], "tags": ["test"], "status": status}

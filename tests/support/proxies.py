"""A proxy for tests: it leads every request, whatever host it names, to one port of this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest


class RelayProxy(ThreadingTCPServer):
    """Relays to ``upstream``; with ``login`` only for who gives it. ``heads`` is what it was asked, head by head."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int, login: str | None = None, refusal: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.login = login
        self.refusal = refusal
        """A status line to answer with instead."""
        self.heads: list[tuple[str, dict[str, str]]] = []

    def server_activate(self) -> None:
        """Listen. A connection that is gone again before it is accepted must not make the server wait for the next."""
        super().server_activate()
        self.socket.setblocking(False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])


class _Handler(StreamRequestHandler):
    server: RelayProxy

    def handle(self) -> None:
        line = self.rfile.readline().decode("latin-1").strip()
        headers: dict[str, str] = {}
        while header := self.rfile.readline().strip():
            name, _, value = header.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        self.server.heads.append((line, headers))
        refusal = self.server.refusal
        if self.server.login is not None and headers.get("proxy-authorization") != self.server.login:
            refusal = "407 Proxy Authentication Required"
        if refusal:
            self.wfile.write(f"HTTP/1.1 {refusal}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        with socket.create_connection(("127.0.0.1", self.server.upstream), 5) as upstream:
            method, target, _ = line.split(" ")
            if method == "CONNECT":
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = "/" + target.split("/", 3)[3]
                passed = [f"{name}: {value}" for name, value in headers.items() if not name.startswith("proxy-")]
                upstream.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *passed]).encode("latin-1") + b"\r\n\r\n")
            back = threading.Thread(target=_relay, args=(upstream, self.connection), daemon=True)
            back.start()
            _relay(self.connection, upstream)
            back.join(5)


def _relay(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # One side is gone, so nothing is left to relay.
        return


class Proxies:
    """Starts proxies that end with the test."""

    def __init__(self) -> None:
        self._started: list[RelayProxy] = []

    def start(self, upstream: int, **options: str) -> RelayProxy:
        """A proxy to this port."""
        proxy = RelayProxy(upstream, **options)
        threading.Thread(target=proxy.serve_forever, args=(0.02,), daemon=True).start()
        self._started.append(proxy)
        return proxy

    def close(self) -> None:
        """End them all."""
        for proxy in self._started:
            proxy.shutdown()
            proxy.server_close()


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    """Starts proxies that end with the test."""
    started = Proxies()
    yield started
    started.close()

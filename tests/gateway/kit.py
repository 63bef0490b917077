"""A gateway in a thread of this process, upstreams that answer byte by byte as told, clients that send raw bytes."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from corral.client.target import Target, parse_url
from corral.gateway.admission import Admission, OpenGate
from corral.gateway.lane import Lane
from corral.gateway.server import Gateway
from corral.gateway.settings import Limits, Listener, Mount, Settings
from corral.gateway.upstream import Upstream
from corral.gateway.visits import Visits

_T = TypeVar("_T")
DEADLINE_S = 10.0
LOOPBACK = parse_url("http://127.0.0.1:0")


def wait_until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> float:
    """Wait for a condition; returns how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < deadline_s, "the condition did not come true"
        time.sleep(0.001)
    return time.monotonic() - began


class RunningGateway:
    """A gateway that listens; its loop runs in another thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, gateway: Gateway, lanes: list[Lane]) -> None:
        self.loop, self.gateway, self.lanes = loop, gateway, lanes
        self.lane = lanes[0]
        self.url = gateway.addresses[0]
        self.port = parse_url(self.url).port

    def look(self, work: Callable[[], _T]) -> _T:
        """What this returns on the gateway's loop."""

        async def run() -> _T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE_S)

    def in_flight(self, model: str) -> int:
        """As the gateway counts."""
        return self.look(lambda: self.lane.visits.in_flight(model))

    def stop(self) -> int:
        """Stop it gracefully; returns how many answers were cut."""
        return asyncio.run_coroutine_threadsafe(self.gateway.stop(), self.loop).result(DEADLINE_S)


@contextmanager
def serving(
    *routers: str | Mount,
    gate: Callable[[], Admission] = OpenGate,
    limits: Limits | None = None,
    address: Target = LOOPBACK,
    routes: Callable[[Lane], Any] | None = None,
    **fields: Any,
) -> Iterator[RunningGateway]:
    """Run a gateway in front of routers; further fields are those of Settings."""
    mounts = tuple(Mount(parse_url(router)) if isinstance(router, str) else router for router in routers)
    settings = Settings((Listener(address, mounts),), limits or Limits(), **fields)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> RunningGateway:
        lanes = []
        for mount in mounts:
            upstream = Upstream(mount.target, connect_s=settings.limits.connect_s)
            lane = Lane(settings, mount, upstream, gate(), Visits())
            lane.routes = tuple(routes(lane)) if routes is not None else ()
            lanes.append(lane)
        gateway = Gateway(settings, [lanes])
        await gateway.start()
        return RunningGateway(loop, gateway, lanes)

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(DEADLINE_S)
    try:
        yield running
    finally:
        running.look(running.gateway.hurry)
        running.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(DEADLINE_S)
        loop.close()


class Peer:
    """One connection that a raw upstream accepted."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""

    def read_request(self) -> bytes:
        """The next whole request, head and body."""
        while b"\r\n\r\n" not in self.received:
            self._fill()
        head, _, _ = self.received.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        end = len(head) + 4 + length
        while len(self.received) < end:
            self._fill()
        request, self.received = self.received[:end], self.received[end:]
        return request

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def wait_for_end(self) -> float:
        """Wait until the other side has closed; returns when, on the monotonic clock."""
        with suppress(ConnectionResetError):
            while self.sock.recv(65536):
                pass
        return time.monotonic()

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the connection ended within a request")
        self.received += data


class RawUpstream:
    """Accepts connections and has each answered by ``answer`` in a thread of its own."""

    def __init__(self, answer: Callable[[Peer], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.accepted = 0
        self._peers: list[Peer] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(DEADLINE_S)
                self.accepted += 1
                self._peers.append(Peer(sock))
                threading.Thread(target=self._serve, args=(self._peers[-1],), daemon=True).start()

    def _serve(self, peer: Peer) -> None:
        with suppress(OSError, EOFError):
            self._answer(peer)
        peer.sock.close()

    def close(self) -> None:
        """Stop accepting and end every connection."""
        # A thread that waits in accept is woken by the shutdown, not by the close.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for peer in self._peers:
            with suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def raw_upstream(answer: Callable[[Peer], None]) -> Iterator[RawUpstream]:
    """Run an upstream that answers as told."""
    upstream = RawUpstream(answer)
    try:
        yield upstream
    finally:
        upstream.close()


def reply_ok(body: bytes = b"{}", *lines: bytes) -> bytes:
    """A whole HTTP answer."""
    head = [b"HTTP/1.1 200 OK", b"Server: llama.cpp", b"Content-Length: %d" % len(body), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def recorder(record: list[bytes], reply: bytes = reply_ok()) -> Callable[[Peer], None]:
    """Keeps every request and gives each the same answer."""

    def answer(peer: Peer) -> None:
        while True:
            record.append(peer.read_request())
            peer.send(reply)

    return answer


def connect(port: int) -> socket.socket:
    """A client's connection."""
    sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
    sock.settimeout(DEADLINE_S)
    return sock


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes, and everything that comes back until the connection ends."""
    with connect(port) as sock:
        sock.sendall(request)
        received = b""
        with suppress(ConnectionResetError):
            while data := sock.recv(65536):
                received += data
        return received


def post(path: str, body: bytes, *lines: str, close: bool = True) -> bytes:
    """A POST as bytes, with further header lines."""
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}", *lines]
    if close:
        head.append("Connection: close")
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def get(path: str, *lines: str) -> bytes:
    """A GET as bytes, with further header lines."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *lines, "Connection: close"]).encode() + b"\r\n\r\n"

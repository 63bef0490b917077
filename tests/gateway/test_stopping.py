"""A gateway that stops lets answers end, answers who is parked, and takes nobody new."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from corral.gateway.admission import Pass, Refusal
from corral.gateway.settings import Limits
from corral.gateway.visits import Visit
from tests.gateway.kit import Peer, connect, post, raw_upstream, serving, wait_until

CHAT = b'{"model":"a","stream":true,"messages":[]}'
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Stopper(threading.Thread):
    """Stops a gateway in the background."""

    def __init__(self, gateway: object) -> None:
        super().__init__()
        self._gateway = gateway
        self.cut: int | None = None
        self.start()

    def run(self) -> None:
        """Stop it."""
        self.cut = self._gateway.stop()  # type: ignore[attr-defined]  # a RunningGateway


def test_answers_under_way_end_whole() -> None:
    """A stream that runs when the gateway is told to stop is answered to its end; new connections are refused."""
    go_on = threading.Event()

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"2\r\nhi\r\n")
        assert go_on.wait(10)
        peer.send(b"2\r\nho\r\n0\r\n\r\n")

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway, connect(gateway.port) as sock:
        sock.sendall(post("/v1/chat/completions", CHAT, close=False))
        received = b""
        while not received.endswith(b"2\r\nhi\r\n"):
            received += sock.recv(65536)
        stopper = Stopper(gateway)
        wait_until(lambda: not accepts(gateway.port))
        go_on.set()
        while data := sock.recv(65536):
            received += data
        stopper.join(10)

    assert received.endswith(b"2\r\nhi\r\n2\r\nho\r\n0\r\n\r\n")
    assert 0 == stopper.cut


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


@pytest.mark.parametrize("conversation", [(), ("X-Conversation-Id: c",)])
def test_deadline_ends_what_does_not_end(conversation: tuple[str, ...]) -> None:
    """What goes on past the deadline is cut, counted, and seen by the router."""
    ends: list[float] = []

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(HEAD + b"2\r\nhi\r\n")
        ends.append(peer.wait_for_end())

    limits = Limits(stop_s=0.2)
    with (
        raw_upstream(answer) as upstream,
        serving(upstream.url, limits=limits) as gateway,
        connect(gateway.port) as sock,
    ):
        sock.sendall(post("/v1/chat/completions", CHAT, *conversation))
        wait_until(lambda: gateway.in_flight("a") == 1)
        assert 1 == gateway.stop()
        wait_until(lambda: bool(ends))
        received = b""
        with suppress(ConnectionResetError):
            while data := sock.recv(65536):
                received += data

    assert not received.endswith(b"0\r\n\r\n")


def test_idle_and_listening_clients_do_not_delay() -> None:
    """Kept connections and event streams end at once: nothing is lost with them."""

    def answer(peer: Peer) -> None:
        request = peer.read_request()
        peer.send(HEAD if b"/models/sse" in request else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        peer.wait_for_end()

    with (
        raw_upstream(answer) as upstream,
        serving(upstream.url) as gateway,
        connect(gateway.port) as idle,
        connect(gateway.port) as listening,
    ):
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        listening.sendall(b"GET /models/sse HTTP/1.1\r\nHost: h\r\n\r\n")
        assert idle.recv(1000) and listening.recv(1000)
        assert 0 == gateway.stop()
        assert b"" == idle.recv(1000)


class Parking:
    """Parks everybody until the gateway stops."""

    def __init__(self) -> None:
        self.parked: list[Visit] = []
        self._stopped: list[object] = []

    def resolve(self, name: str) -> str | None:
        """Every name is an id."""
        return name

    async def admit(self, visit: Visit) -> Pass | Refusal:
        """Wait for the end."""
        import asyncio

        over = asyncio.Event()
        self._stopped.append(over)
        self.parked.append(visit)
        await over.wait()
        return Refusal(503, "The gateway stops.", "stopping", 5.0)

    async def reconsider(self, visit: Visit) -> Pass | Refusal | None:
        """Nobody gets so far."""
        return None

    def leave(self, visit: Visit) -> None:
        """It got its answer."""

    def stop(self) -> None:
        """Answer everybody."""
        for over in self._stopped:
            over.set()  # type: ignore[attr-defined]  # an Event

    def list_holds(self) -> tuple[str, ...]:
        """Nothing is held."""
        return ()


def test_parked_requests_are_answered() -> None:
    """Who is parked when the gateway stops is told so, and is no answer that was cut."""
    gate = Parking()
    with serving("http://127.0.0.1:9", gate=lambda: gate) as gateway, connect(gateway.port) as sock:
        sock.sendall(post("/v1/chat/completions", CHAT))
        wait_until(lambda: len(gate.parked) == 1)

        assert 0 == gateway.stop()
        assert sock.recv(65536).startswith(b"HTTP/1.1 503 ")

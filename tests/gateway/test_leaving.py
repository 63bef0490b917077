"""A client that leaves is seen by the router at once, wherever its request is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from corral.client.target import parse_url
from corral.gateway.admission import Pass, Refusal
from corral.gateway.visits import Visit
from corral.sim import SimConfig, simulate
from tests.gateway.kit import Peer, connect, get, post, raw_upstream, serving, wait_until

SEEN_WITHIN_S = 0.05
TRIES = 3
CHAT = b'{"model":"a","stream":true,"messages":[]}'
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def hang(peer: Peer, stop: threading.Event) -> None:
    """Say nothing at all."""


def fall_silent(peer: Peer, stop: threading.Event) -> None:
    """Begin, and say no more."""
    peer.send(HEAD + b"2\r\nhi\r\n")


def talk(peer: Peer, stop: threading.Event) -> None:
    """A token every few milliseconds."""
    peer.send(HEAD)

    def go_on() -> None:
        try:
            while not stop.wait(0.005):
                peer.send(b"2\r\nhi\r\n")
        except OSError:
            # It left.
            return

    threading.Thread(target=go_on, daemon=True).start()


def flood(peer: Peer, stop: threading.Event) -> None:
    """More than the client reads."""
    peer.send(HEAD)

    def go_on() -> None:
        try:
            while not stop.is_set():
                peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        except OSError:
            # It left.
            return

    threading.Thread(target=go_on, daemon=True).start()


@pytest.mark.parametrize("behave", [hang, fall_silent, talk, flood])
def test_router_sees_that_the_client_left(behave: Callable[[Peer, threading.Event], None]) -> None:
    """Before the first byte, in a silent, a busy and an unread stream the router sees the end within 50 ms."""
    ends: list[float] = []
    stop = threading.Event()

    def answer(peer: Peer) -> None:
        peer.read_request()
        behave(peer, stop)
        ends.append(peer.wait_for_end())

    delays = []
    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        for number in range(TRIES):
            sock = connect(gateway.port)
            sock.sendall(post("/v1/chat/completions", CHAT))
            wait_until(lambda: gateway.in_flight("a") == 1)
            if behave is not hang:
                assert sock.recv(100)
            if behave is flood:
                time.sleep(0.1)
            left = time.monotonic()
            sock.close()
            wait_until(lambda number=number: len(ends) > number)  # type: ignore[misc]  # bound here
            delays.append(ends[number] - left)
        wait_until(lambda: gateway.in_flight("a") == 0)
    stop.set()

    # The best of a few: the machine may be busy, the gateway may not.
    assert min(delays) < SEEN_WITHIN_S


def test_router_sees_it_while_the_model_loads() -> None:
    """A client that leaves while the router loads its model is seen by the router within 50 ms."""
    ends: list[float] = []
    delays = []
    with simulate(SimConfig(models=("a",), load_s=30.0)) as sim:

        def listen_in(peer: Peer) -> None:
            with connect(parse_url(sim.url).port) as router:
                router.sendall(peer.read_request())
                ends.append(peer.wait_for_end())

        with raw_upstream(listen_in) as upstream, serving(upstream.url) as gateway:
            for number in range(TRIES):
                sock = connect(gateway.port)
                sock.sendall(post("/v1/chat/completions", CHAT))
                asked = number + 1
                wait_until(lambda asked=asked: len(sim.requests("POST")) == asked)  # type: ignore[misc]  # bound here
                assert (sim.state("a"), gateway.in_flight("a")) == ("loading", 1)
                left = time.monotonic()
                sock.close()
                wait_until(lambda asked=asked: len(ends) == asked)  # type: ignore[misc]  # bound here
                delays.append(ends[-1] - left)
                wait_until(lambda: gateway.in_flight("a") == 0)

    assert min(delays) < SEEN_WITHIN_S


class Parking:
    """A gate that lets nobody through, and tells who left."""

    def __init__(self) -> None:
        self.parked: list[Visit] = []
        self.left: list[Visit] = []

    def resolve(self, name: str) -> str | None:
        """Every name is an id."""
        return name

    async def admit(self, visit: Visit) -> Pass | Refusal:
        """Wait for ever."""
        import asyncio

        self.parked.append(visit)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    async def reconsider(self, visit: Visit) -> Pass | Refusal | None:
        """Nobody gets so far."""
        return None

    def leave(self, visit: Visit) -> None:
        """Take note."""
        self.left.append(visit)

    def stop(self) -> None:
        """Nobody is answered."""

    def list_holds(self) -> tuple[str, ...]:
        """Nothing is held."""
        return ()


def test_parked_client_may_leave() -> None:
    """A parked request whose client leaves gives up its place at once, and the router never hears of it."""
    gate = Parking()
    delays = []
    with simulate(SimConfig(models=("a",))) as sim, serving(sim.url, gate=lambda: gate) as gateway:
        for number in range(1, TRIES + 1):
            sock = connect(gateway.port)
            sock.sendall(post("/v1/chat/completions", CHAT))
            wait_until(lambda number=number: len(gate.parked) == number)  # type: ignore[misc]  # bound here
            assert 0 == gateway.in_flight("a") and 1 == gateway.look(lambda: len(gateway.lane.visits))
            sock.close()
            delays.append(wait_until(lambda number=number: len(gate.left) == number))  # type: ignore[misc]  # bound

        assert min(delays) < SEEN_WITHIN_S
        assert [] == sim.request_log
        assert 0 == gateway.look(lambda: len(gateway.lane.visits))


@pytest.mark.parametrize("begins", [True, False])
def test_conversation_goes_on_without_its_client(begins: bool) -> None:
    """A streamed answer in a conversation is in flight until the router ends it, though its client left."""
    go_on = threading.Event()
    ends: list[float] = []

    def answer(peer: Peer) -> None:
        peer.read_request()
        if begins:
            peer.send(HEAD + b"2\r\nhi\r\n")
        assert go_on.wait(10)
        peer.send(b"2\r\nho\r\n0\r\n\r\n" if begins else HEAD + b"0\r\n\r\n")
        ends.append(peer.wait_for_end())

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        sock = connect(gateway.port)
        sock.sendall(post("/v1/chat/completions", CHAT, "X-Conversation-Id: c1"))
        wait_until(lambda: gateway.in_flight("a") == 1)
        if begins:
            assert sock.recv(100)
        visit = gateway.look(lambda: gateway.lane.visits.of("a")[0])
        sock.close()
        # Another client comes and goes, by which time the gateway has seen the first one leave.
        exchange_and_wait(gateway.port)
        assert 1 == gateway.in_flight("a") and not ends
        go_on.set()
        wait_until(lambda: gateway.in_flight("a") == 0)

        assert visit.ended_at is not None
        assert "a" == gateway.look(lambda: gateway.lane.visits.model_of("c1"))


def exchange_and_wait(port: int) -> None:
    """Let the gateway's loop turn a few times."""
    for _ in range(3):
        with connect(port) as sock:
            sock.sendall(get("/corral/v1/health"))
            while sock.recv(1000):
                pass


def test_unstreamed_answer_in_a_conversation_is_cut() -> None:
    """What is not streamed is not kept by the router either, so it ends with its client."""
    ends: list[float] = []

    def answer(peer: Peer) -> None:
        peer.read_request()
        ends.append(peer.wait_for_end())

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        sock = connect(gateway.port)
        sock.sendall(post("/v1/chat/completions", b'{"model":"a"}', "X-Conversation-Id: c1"))
        wait_until(lambda: gateway.in_flight("a") == 1)
        sock.close()
        wait_until(lambda: bool(ends))
        wait_until(lambda: gateway.in_flight("a") == 0)

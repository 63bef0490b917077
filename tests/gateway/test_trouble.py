"""A router that is gone, hangs, answers junk, or comes back: every request gets a clear answer in bounded time."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from corral.client.target import parse_url
from corral.gateway.settings import Limits, Mount
from corral.sim import SimConfig, simulate
from tests.gateway.kit import Peer, connect, exchange, get, post, raw_upstream, recorder, reply_ok, serving, wait_until

CHAT = b'{"model":"a","messages":[]}'
QUICK = Limits(hung_s=0.25, look_s=0.3, connect_s=0.3)


def split(received: bytes) -> tuple[int, dict[str, object], bytes]:
    """Status, error and head of an answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)["error"], head


@pytest.mark.parametrize("request_", [post("/v1/chat/completions", CHAT), get("/v1/models"), get("/")])
def test_router_that_is_gone(request_: bytes) -> None:
    """With nothing behind it the gateway says so at once, in the shape of an API error, and when to come again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with serving(url) as gateway:
        status, error, head = split(exchange(gateway.port, request_))

    assert (503, "router_unreachable") == (status, error["reason"])
    assert url in str(error["message"]) and 503 == error["code"]
    assert b"Retry-After: " in head


def test_router_that_cannot_be_reached() -> None:
    """A router that does not even accept is given up after the time to connect."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        # The queue is full before the gateway comes, and what waits for a place in it stays until the end.
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            with serving(f"http://127.0.0.1:{address[1]}", limits=QUICK) as gateway:
                status, error, _ = split(exchange(gateway.port, post("/v1/chat/completions", CHAT)))
        finally:
            for filler in fillers:
                filler.close()

    assert (504, "router_unreachable") == (status, error["reason"])


def test_list_of_a_silent_router() -> None:
    """What the router answers by itself is not waited for without end."""

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.wait_for_end()

    with raw_upstream(answer) as upstream, serving(upstream.url, limits=QUICK) as gateway:
        status, error, _ = split(exchange(gateway.port, get("/v1/models")))

    assert (504, "router_silent") == (status, error["reason"])


def test_router_that_hangs() -> None:
    """A router that says nothing to anybody, asked for its health too, is given up; who waits hears why."""
    asked: list[bytes] = []

    def answer(peer: Peer) -> None:
        asked.append(peer.read_request())
        peer.wait_for_end()

    with raw_upstream(answer) as upstream, serving(upstream.url, limits=QUICK) as gateway:
        status, error, _ = split(exchange(gateway.port, post("/v1/chat/completions", CHAT)))
        wait_until(lambda: gateway.in_flight("a") == 0)

    assert (504, "router_silent") == (status, error["reason"])
    assert 1 == sum(sent.startswith(b"POST") for sent in asked)
    assert all(sent.startswith(b"GET /health ") for sent in asked[1:]) and len(asked) > 2


def test_loading_model_is_waited_for() -> None:
    """While the router tells of its health, a model may load for as long as it takes."""
    go_on = threading.Event()

    def answer(peer: Peer) -> None:
        while True:
            if peer.read_request().startswith(b"GET /health"):
                peer.send(reply_ok())
            else:
                go_on.wait(10)
                peer.send(reply_ok(b"loaded"))

    with (
        raw_upstream(answer) as upstream,
        serving(upstream.url, limits=QUICK) as gateway,
        connect(gateway.port) as sock,
    ):
        sock.sendall(post("/v1/chat/completions", CHAT))
        time.sleep(4 * QUICK.hung_s)
        go_on.set()
        assert b"200 OK" in sock.recv(65536)


def test_client_that_takes_nothing_is_given_up() -> None:
    """A client that does not read for too long is cut off, so that its model is free for others."""
    ends: list[float] = []

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            while True:
                peer.send(bytes(1 << 20))
        except OSError:
            ends.append(time.monotonic())

    limits = Limits(send_s=0.3)
    with (
        raw_upstream(answer) as upstream,
        serving(upstream.url, limits=limits) as gateway,
        connect(gateway.port) as sock,
    ):
        sock.sendall(post("/v1/chat/completions", CHAT))
        wait_until(lambda: bool(ends))
        wait_until(lambda: gateway.in_flight("a") == 0)


def test_stream_of_a_router_that_hangs_breaks() -> None:
    """A stream whose router falls silent for good ends broken, so that its client knows."""

    def answer(peer: Peer) -> None:
        if b"POST" in peer.read_request():
            peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        peer.wait_for_end()

    with raw_upstream(answer) as upstream, serving(upstream.url, limits=QUICK) as gateway:
        received = exchange(gateway.port, post("/v1/chat/completions", CHAT, close=False))

    assert received.endswith(b"2\r\nhi\r\n")
    assert 1 == received.count(b"HTTP/1.1")


@pytest.mark.parametrize("junk", [b"\0\1\2junk\r\n\r\n", b"HTTP/1.1 abc OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b""])
def test_router_that_answers_junk(junk: bytes) -> None:
    """What is no HTTP becomes a clear error; the request is not sent again."""
    record: list[bytes] = []

    def answer(peer: Peer) -> None:
        record.append(peer.read_request())
        peer.send(junk)

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        status, error, head = split(exchange(gateway.port, post("/v1/chat/completions", CHAT)))

    assert (502, "router_broke_off", 1) == (status, error["reason"], len(record))
    assert b"x-should-retry: false" in head


@pytest.mark.parametrize("kind", ["reset-before", "reset-after", "html", "cut", "huge", "status", "foreign"])
def test_faults_of_the_router_pass_or_are_told(kind: str) -> None:
    """Whatever the router does to a list, the client gets an answer or a broken one, and the next request works."""
    with simulate(SimConfig(models=("a",))) as sim, serving(sim.url) as gateway:
        sim.set_fault(kind, path="/props", times=1, size=1 << 20)
        received = exchange(gateway.port, get("/props"))
        after = exchange(gateway.port, get("/props"))

    expected = {"reset-before": 502, "reset-after": 502, "status": 500}.get(kind, 200)
    assert expected == int(received.split(b" ", 2)[1])
    assert after.startswith(b"HTTP/1.1 200 ")


def test_router_comes_back() -> None:
    """When the router is there again requests pass again, without anything done to the gateway."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    mount = Mount(parse_url(f"http://127.0.0.1:{port}"))
    with serving(mount) as gateway:
        for _ in range(2):
            assert exchange(gateway.port, get("/health")).startswith(b"HTTP/1.1 503 ")
            with simulate(SimConfig(models=("a",), port=port)):
                assert exchange(gateway.port, get("/health")).startswith(b"HTTP/1.1 200 ")
                assert exchange(gateway.port, post("/v1/chat/completions", CHAT)).startswith(b"HTTP/1.1 200 ")


def test_readiness_follows_the_router() -> None:
    """The gateway is healthy by itself, and ready only with a router behind it."""
    with simulate(SimConfig()) as sim, serving(sim.url) as gateway:
        assert exchange(gateway.port, get("/corral/v1/ready")).startswith(b"HTTP/1.1 200 ")
    with serving(sim.url) as gateway:
        assert exchange(gateway.port, get("/corral/v1/ready")).startswith(b"HTTP/1.1 503 ")
        assert exchange(gateway.port, get("/corral/v1/health")).startswith(b"HTTP/1.1 200 ")
        assert b'"code": 404' in exchange(gateway.port, get("/corral/v1/nothing"))


def test_idle_connections_are_not_used_for_long() -> None:
    """A connection that was idle for more than 2 s is replaced before the next request."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, post("/tokenize", b"{}"))
        exchange(gateway.port, post("/tokenize", b"{}"))
        assert 1 == upstream.accepted
        time.sleep(2.1)
        exchange(gateway.port, post("/tokenize", b"{}"))

    assert 2 == upstream.accepted


def test_early_refusal_of_a_large_body_is_passed_on() -> None:
    """A router that refuses a body before it has read it is heard all the same."""

    def answer(peer: Peer) -> None:
        while b"\r\n\r\n" not in peer.received:
            peer.received += peer.sock.recv(4096)
        peer.send(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        peer.wait_for_end()

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, post("/v1/audio/transcriptions", b"x" * (8 << 20)))

    assert received.startswith(b"HTTP/1.1 413 ") and received.endswith(b"no")

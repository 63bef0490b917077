"""What passes through the gateway, byte for byte, and what it does when one end goes away."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection

import pytest

from corral import __version__
from corral.client.target import parse_url
from corral.gateway.settings import Mount
from corral.sim import SimConfig, simulate
from tests.gateway.kit import Peer, connect, exchange, get, post, raw_upstream, recorder, reply_ok, serving, wait_until

CHAT = b'{"model":"a","stream":true,"messages":[]}'


def test_request_passes_byte_for_byte() -> None:
    """Method, path, query, header names and values, and body reach the router as the client wrote them."""
    record: list[bytes] = []
    target = "/v1/chat/completions?a=%2f+%zz&&b=;x=1&A=a"
    body = b'{"model": "\xc3\xa9", "x": "\\u0000"}  '
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        lines = (
            "X-Odd: \ta  b ",
            "x-odd: again",
            "X-Latin: caf\xe9",
            "aUTHORIZATION: Basic eA==",
            "Accept-Encoding: zz",
        )
        exchange(gateway.port, post(target, body, *lines))

    head, _, sent = record[0].partition(b"\r\n\r\n")
    assert body == sent
    assert [
        b"POST /v1/chat/completions?a=%2f+%zz&&b=;x=1&A=a HTTP/1.1",
        b"Host: 127.0.0.1",
        b"X-Odd: a  b",
        b"x-odd: again",
        "X-Latin: caf\xe9".encode(),
        b"aUTHORIZATION: Basic eA==",
        b"Accept-Encoding: zz",
        b"Content-Length: %d" % len(body),
    ] == head.split(b"\r\n")


def test_answer_passes_byte_for_byte() -> None:
    """Status, reason, headers and body reach the client as the router wrote them, nothing is added."""
    reply = (
        b"HTTP/1.1 418 I'm a Teapot\r\nServer: llama.cpp\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n"
        b"X-Raw: caf\xc3\xa9\r\nContent-Type: odd/type\r\nContent-Length: 3\r\n\r\n\x00\xff!"
    )
    with raw_upstream(recorder([], reply)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, get("/anything"))

    assert reply.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") == received


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "PROPFIND"])
def test_any_method_passes(method: str) -> None:
    """The router is asked with the client's own method."""
    record: list[bytes] = []
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if method == "HEAD" else b"ok")
    with raw_upstream(recorder(record, reply)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, f"{method} /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())

    assert record[0].startswith(f"{method} /x HTTP/1.1\r\n".encode())
    assert received.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
    assert received.endswith(b"\r\n\r\n" if method == "HEAD" else b"ok")


def test_headers_of_the_connection_stay_there() -> None:
    """What belongs to one connection alone is passed on neither way, nor what Connection names."""
    record: list[bytes] = []
    reply = reply_ok(b"{}", b"Connection: close, X-Mine", b"X-Mine: 1", b"Keep-Alive: timeout=5", b"X-Kept: 2")
    with raw_upstream(recorder(record, reply)) as upstream, serving(upstream.url) as gateway:
        lines = (
            "Connection: X-Gone",
            "X-Gone: 1",
            "TE: trailers",
            "Upgrade: h2c",
            "Proxy-Authorization: x",
            "X-Kept: 2",
        )
        received = exchange(gateway.port, post("/v1/completions", b"{}", *lines))

    sent = record[0].lower()
    assert not any(name in sent for name in (b"x-gone", b"te:", b"upgrade", b"proxy-", b"connection"))
    assert b"x-kept: 2" in sent
    assert b"x-mine" not in received.lower() and b"timeout=5" not in received
    assert b"X-Kept: 2" in received


def test_chunked_upload_arrives_whole() -> None:
    """A body sent in chunks reaches the router with its length."""
    record: list[bytes] = []
    request = b"POST /infill HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, request + b'4\r\n{"a"\r\n3;x=y\r\n:1}\r\n0\r\nTrailer: t\r\n\r\n')

    assert record[0].endswith(b'\r\nContent-Length: 7\r\n\r\n{"a":1}')
    assert b"hunked" not in record[0] and b"Trailer" not in record[0]


def test_stream_is_never_gathered() -> None:
    """Each piece of an answer is with the client before the router sends the next."""
    go_on = threading.Semaphore(0)

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            assert go_on.acquire(timeout=10)
            peer.send(b"9\r\ndata: %d\n\n\r\n" % number)
        assert go_on.acquire(timeout=10)
        peer.send(b"0\r\n\r\n")

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway, connect(gateway.port) as sock:
        sock.sendall(post("/v1/chat/completions", CHAT))
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += sock.recv(65536)
        for number in range(3):
            go_on.release()
            assert b"9\r\ndata: %d\n\n\r\n" % number == sock.recv(65536)
        go_on.release()
        assert b"0\r\n\r\n" == sock.recv(65536)


def test_old_clients_are_understood() -> None:
    """A client of HTTP/1.0 gets the stream without chunks, and its end is that of the connection."""
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    with raw_upstream(recorder([], reply)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")

    assert b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc" == received


def test_expectation_is_met() -> None:
    """A client that waits for "100 Continue" gets it from the gateway, once, and then its answer."""
    with (
        raw_upstream(recorder([], reply_ok(b"done"))) as upstream,
        serving(upstream.url) as gateway,
        connect(gateway.port) as sock,
    ):
        sock.sendall(b"POST /infill HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == sock.recv(65536)
        sock.sendall(b"{}")
        received = sock.recv(65536)

    assert received.startswith(b"HTTP/1.1 200 OK\r\n") and received.endswith(b"\r\n\r\ndone")


def test_cut_answer_is_seen_as_cut() -> None:
    """When the router breaks off in the middle of an answer, the client's connection breaks too."""

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, post("/v1/chat/completions", CHAT, close=False))

    assert b"5\r\nhello\r\n" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_connection_serves_many_requests() -> None:
    """A client keeps its connection, and the gateway the one to the router."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url) as gateway:
        client = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        for _ in range(20):
            client.request("POST", "/tokenize", b'{"model":"a"}')
            assert b"{}" == client.getresponse().read()
            # Kept open by both.
            assert client.sock is not None
        client.close()

    assert 1 == upstream.accepted


def test_requests_in_a_row_are_answered_in_order() -> None:
    """A client may send its next requests before it has the answer to the first."""
    record: list[bytes] = []

    def answer(peer: Peer) -> None:
        while True:
            record.append(peer.read_request())
            peer.send(reply_ok(record[-1].split(b" ", 2)[1]))

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        received = exchange(
            gateway.port,
            post("/1", b"{}", close=False) + b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n" + get("/3"),
        )

    assert [b"/1", b"/2", b"/3"] == [part[:2] for part in received.split(b"\r\n\r\n")[1:]]


CLOSE = b"Connection: close\r\n\r\n"
HINT = b"HTTP/1.1 103 Hint\r\n\r\n"
LENGTHLESS = {
    "no content": (b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n", b"HTTP/1.1 204 No Content\r\nX: 1\r\n"),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\n\r\n", b"HTTP/1.1 304 Not Modified\r\nETag: 1\r\n"),
    "a hint first": (HINT + reply_ok(b""), b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Length: 0\r\n"),
    "no length": (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
}


@pytest.mark.parametrize("case", LENGTHLESS)
def test_answers_without_a_length(case: str) -> None:
    """Answers that have no body, come after a hint, or end with the connection are framed as they must be."""
    reply, head = LENGTHLESS[case]

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(reply)

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, get("/x"))

    assert received.startswith(head + CLOSE)
    assert (b"until the end" in reply) == (b"until the end" in received) == received.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_upgrade_is_not_taken_up(protocol: str) -> None:
    """A client that would rather speak HTTP/2 or WebSocket is answered in HTTP/1.1."""
    record: list[bytes] = []
    upgrade = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, post("/tokenize", b'{"model":"a"}', *upgrade, close=False) + get("/after"))

    assert received.startswith(b"HTTP/1.1 200 OK\r\n") and b"Connection: close\r\n" in received
    assert record[0].endswith(b'\r\nContent-Length: 13\r\n\r\n{"model":"a"}')
    assert b"pgrade" not in record[0] and b"ettings" not in record[0]


def test_post_is_never_sent_twice() -> None:
    """A POST whose connection breaks is answered with an error that says it may have been acted on."""

    def answer(peer: Peer) -> None:
        if upstream.accepted == 1:
            peer.read_request()
            peer.send(reply_ok())
        upstream.requests.append(peer.read_request())

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, post("/tokenize", b"{}"))
        received = exchange(gateway.port, post("/tokenize", b"{}"))

    assert 1 == len(upstream.requests)
    assert received.startswith(b"HTTP/1.1 502 ")
    assert b"x-should-retry: false" in received
    assert "may have acted" in json.loads(received.partition(b"\r\n\r\n")[2])["error"]["message"]


def test_get_on_a_stale_connection_is_sent_again() -> None:
    """A GET that meets a connection which the router has just closed gets its answer over another."""

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(reply_ok())
        if upstream.accepted == 1:
            peer.read_request()

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, get("/health"))
        received = exchange(gateway.port, get("/health"))

    assert received.startswith(b"HTTP/1.1 200 ")
    assert 2 == upstream.accepted


def test_list_tells_that_this_is_a_gateway() -> None:
    """Lists of models carry the gateway's version, and nothing else of theirs differs."""
    with simulate(SimConfig()) as sim, serving(sim.url) as gateway:
        for path in ("/models", "/v1/models", "/health"):
            received = exchange(gateway.port, get(path))
            assert (f"Corral-Gateway: {__version__}".encode() in received) == path.endswith("models")


def test_paths_lead_to_routers() -> None:
    """A prefix leads to its router and is taken off; what no prefix leads to is a clear 404."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as one, raw_upstream(recorder(record)) as two:
        mounts = (Mount(parse_url(one.url), "/one"), Mount(parse_url(f"{two.url}/llm"), "/two"))
        with serving(*mounts) as gateway:
            exchange(gateway.port, get("/one/v1/models?x"))
            exchange(gateway.port, get("/two/props"))
            received = exchange(gateway.port, get("/three"))

    assert [b"GET /v1/models?x HTTP/1.1", b"GET /llm/props HTTP/1.1"] == [sent.split(b"\r\n")[0] for sent in record]
    assert received.startswith(b"HTTP/1.1 404 ")


def test_slow_client_slows_its_own_answer_only() -> None:
    """A client that does not read holds back the router, while others are served; little is kept in between."""
    sent = 0

    def answer(peer: Peer) -> None:
        nonlocal sent
        if b"/quick" in peer.read_request():
            peer.send(reply_ok())
            return
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        peer.sock.settimeout(0.5)
        while True:
            peer.send(piece)
            sent += 65536

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway, connect(gateway.port) as sock:
        sock.sendall(post("/v1/chat/completions", CHAT))
        assert exchange(gateway.port, get("/quick")).startswith(b"HTTP/1.1 200 ")
        before = -1
        while sent != before:
            before = sent
            time.sleep(0.3)

    # The kernel's own buffers take some megabytes on either side.
    assert sent < 32 << 20


@pytest.mark.parametrize("size", [100_000, 150_000, 200_000, 250_000, 5_000_000])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_large_answer_is_whole(is_chunked: bool, size: int) -> None:
    """An answer that comes faster than it is passed on, and ends in the same breath, arrives whole."""
    body = bytes(range(256)) * (size // 256)

    def answer(peer: Peer) -> None:
        while True:
            peer.read_request()
            if is_chunked:
                # Many chunks, so that the parser may be halted between any two of them.
                pieces = [body[at : at + 4096] for at in range(0, len(body), 4096)]
                framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
                peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n")
            else:
                peer.send(reply_ok(body))

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway:
        client = HTTPConnection("127.0.0.1", gateway.port, timeout=10)
        for _ in range(5):
            client.request("POST", "/tokenize", b"{}")
            assert body == client.getresponse().read()
        client.close()


def test_visits_tell_who_is_served() -> None:
    """While an answer is under way the gateway knows model, client, agent, task and times, and afterwards its end."""
    with simulate(SimConfig(models=("a",), token_s=0.02)) as sim, serving(sim.url) as gateway:
        with connect(gateway.port) as sock:
            lines = ("User-Agent: Probe/1", "X-OWUI-Task: title_generation", "X-Conversation-Id: c1")
            sock.sendall(post("/v1/chat/completions", b'{"model":"a","max_tokens":10}', *lines))
            wait_until(lambda: gateway.in_flight("a") == 1)
            visit = gateway.look(lambda: gateway.lane.visits.of("a")[0])
            while sock.recv(65536):
                pass
        wait_until(lambda: gateway.in_flight("a") == 0)

        assert ("a", "Probe/1", "title_generation") == (visit.model, visit.user_agent, visit.task)
        assert visit.client.startswith("127.0.0.1:") and "c1" == visit.conversation
        assert visit.first_byte_at is not None and visit.ended_at is not None
        assert visit.arrived_at <= visit.first_byte_at <= visit.ended_at
        assert visit.ended_at == gateway.look(lambda: gateway.lane.visits.last_ended_at("a"))


def test_looks_do_not_count() -> None:
    """Lists and looks are no use of a model."""
    with simulate(SimConfig(models=("a",))) as sim, serving(sim.url) as gateway:
        exchange(gateway.port, get("/props?model=a&autoload=false"))
        exchange(gateway.port, get("/v1/models"))

        assert gateway.look(lambda: gateway.lane.visits.last_ended_at("a")) is None

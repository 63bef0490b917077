"""What an attacker tries, and what becomes of it."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corral.client.target import parse_url
from corral.gateway.admission import OpenGate, Pass, Refusal
from corral.gateway.security import Guard, load_token
from corral.gateway.settings import Limits, Mount
from corral.gateway.visits import Visit
from corral.sim import SimConfig, simulate
from corral.wire import BadArgumentError
from tests.gateway.kit import Peer, connect, exchange, get, post, raw_upstream, recorder, reply_ok, serving, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from corral.gateway.lane import Lane

JSON = "Content-Type: application/json"
UNLOAD = b'{"model":"a"}'


def status_of(received: bytes) -> int:
    """The status of the first answer."""
    return int(received.split(b" ", 2)[1])


def error_of(received: bytes) -> dict[str, object]:
    """The error of an answer."""
    document: dict[str, dict[str, object]] = json.loads(received.partition(b"\r\n\r\n")[2])
    return document["error"]


# A web page in a browser on the same machine.

PAGES = {
    "another site": ("Host: 127.0.0.1:8080", "Origin: https://evil.example", JSON),
    "a site with our port": ("Host: 127.0.0.1:8080", "Origin: http://evil.example:8080", JSON),
    "a sandboxed frame": ("Host: 127.0.0.1:8080", "Origin: null", JSON),
    "two origins": ("Host: localhost:1", "Origin: http://localhost:1", "Origin: http://evil.example", JSON),
    "a rebound name": ("Host: evil.example:8080", "Origin: http://evil.example:8080", JSON),
    "a rebound name, no origin": ("Host: evil.example:8080", JSON),
    "two hosts": ("Host: localhost", "Host: evil.example", JSON),
    "a host that looks like ours": ("Host: 127.0.0.1.evil.example", JSON),
    "another port of this machine": ("Host: 127.0.0.1:8080", "Origin: http://127.0.0.1:3000", JSON),
    "a form as text": ("Host: 127.0.0.1:8080", "Content-Type: text/plain"),
    "a form": ("Host: 127.0.0.1:8080", "Content-Type: application/x-www-form-urlencoded"),
    "no type": ("Host: 127.0.0.1:8080",),
    "a browser's word alone": ("Host: 127.0.0.1:8080", "Sec-Fetch-Site: cross-site", JSON),
}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("path", ["/models/unload", "/models/load", "/models"])
def test_web_page_changes_nothing(page: str, path: str) -> None:
    """What the page of another site can send is refused, and the router never hears of it."""
    record: list[bytes] = []
    lines = "\r\n".join([*PAGES[page], f"Content-Length: {len(UNLOAD)}", "Connection: close"])
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, f"POST {path} HTTP/1.1\r\n{lines}\r\n\r\n".encode() + UNLOAD)

    assert status_of(received) in (400, 403, 415)
    assert b"ccess-Control" not in received
    assert [] == record


OWN = {
    "a program": ("Host: 127.0.0.1:8080", JSON),
    "by another name of the machine": ("Host: gpu-box:8080", "Content-Type: application/json; charset=utf-8"),
    "from a container": ("Host: host.docker.internal:8080", JSON),
    "by an address of version 6": ("Host: [::1]:8080", JSON),
    "the router's own page": ("Host: localhost:8080", "Origin: http://localhost:8080", JSON),
    "the same behind TLS": ("Host: llm.example.org", "Origin: https://llm.example.org", JSON),
    "a page that is allowed": ("Host: localhost", "Origin: https://console.example.org", JSON),
}


@pytest.mark.parametrize("who", OWN)
def test_own_clients_are_let_through(who: str) -> None:
    """Programs, the router's own page and what the settings allow go on as ever."""
    record: list[bytes] = []
    lines = "\r\n".join([*OWN[who], f"Content-Length: {len(UNLOAD)}", "Connection: close"])
    hosts, origins = ("llm.example.org",), ("https://console.example.org",)
    with (
        raw_upstream(recorder(record)) as upstream,
        serving(upstream.url, allowed_hosts=hosts, allowed_origins=origins) as gateway,
    ):
        received = exchange(gateway.port, f"POST /models/unload HTTP/1.1\r\n{lines}\r\n\r\n".encode() + UNLOAD)

    assert 200 == status_of(received)
    assert record[0].endswith(UNLOAD)


def test_eject_without_a_body_is_let_through() -> None:
    """An empty body needs no type."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url) as gateway:
        assert 200 == status_of(exchange(gateway.port, post("/models/unload", b"")))


@pytest.mark.parametrize("path", ["/models%2Funload", "/%6dodels/unload", "/models%u002Funload", "/models/unloa%64"])
def test_escapes_lead_to_no_change(path: str) -> None:
    """The router reads an escaped path as the plain one, so the gateway does as well, and refuses it."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, post(path, UNLOAD, "Content-Type: text/plain"))

    assert 400 == status_of(received) or 403 == status_of(received)
    assert [] == record


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("/models?reload=1", "/models"),
        ("/v1/models?reload=0&x=1", "/v1/models?x=1"),
        ("/models?x=%7e&%72eload=1&reload&y", "/models?x=%7e&y"),
        ("/v1/models?reloads=1", "/v1/models?reloads=1"),
        ("/models?reload=", "/models"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_list_reloads_nothing(method: str, asked: str, sent: str) -> None:
    """Nothing changes on a GET: what would have the router read its sources anew, and unload, is taken out."""
    record: list[bytes] = []
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with raw_upstream(recorder(record, reply)) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, f"{method} {asked} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())

    assert f"{method} {sent} HTTP/1.1".encode() == record[0].split(b"\r\n")[0]


# Requests that two servers may read differently.

HIDDEN = b"GET /hidden HTTP/1.1\r\n\r\n"
SMUGGLED = {
    "length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + HIDDEN,
    "two lengths": b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + HIDDEN,
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"Content-Length: +2\r\n\r\n{}",
    "a length in hex": b"Content-Length: 0x2\r\n\r\n{}",
    "an unknown encoding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked in the middle": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Content-Length : 2\r\n\r\n{}",
    "a folded header": b"X-A: b\r\n Content-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    "a bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a huge chunk size": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx\r\n0\r\n\r\n",
    "a bare line end": b"X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a zero byte in a header": b"X-A: b\0c\r\nContent-Length: 2\r\n\r\n{}",
    "a bare carriage return": b"X-A: b\rContent-Length: 40\r\nContent-Length: 2\r\n\r\n{}",
    "an empty header name": b": b\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("trick", SMUGGLED)
def test_smuggled_requests_reach_nobody(trick: str) -> None:
    """A request that two servers could cut differently is refused, or passed on cut the one way we read it."""
    record: list[bytes] = []
    request = b"POST /v1/completions HTTP/1.1\r\nHost: h\r\n" + SMUGGLED[trick]
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway, connect(gateway.port) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65536):
            received += data

    assert not any(b"hidden" in sent or b"Transfer-Encoding" in sent for sent in record)
    assert b"" == received or 400 == status_of(received) or not any(b"/hidden" in sent for sent in record)
    if received and 400 == status_of(received):
        assert "bad_request" == error_of(received)["reason"]
        assert [] == record


def test_each_refused_framing_is_answered() -> None:
    """Most of these are answered 400 in the shape of an API error before anything reaches the router."""
    refused = []
    with raw_upstream(recorder([])) as upstream, serving(upstream.url) as gateway:
        for trick, rest in SMUGGLED.items():
            received = exchange(gateway.port, b"POST /v1/completions HTTP/1.1\r\nHost: h\r\n" + rest + b"\r\n\r\n")
            refused += [trick] * (400 == status_of(received))

    for trick in ("length and chunks", "chunks and length", "two lengths", "a bad chunk size", "a negative chunk size"):
        assert trick in refused


TARGETS = {
    "another server": b"http://evil.example/models",
    "a proxy's tunnel": b"evil.example:443",
    "no slash": b"models",
    "a fragment": b"/models/unload#x",
}


@pytest.mark.parametrize("target", TARGETS)
def test_target_is_a_path(target: str) -> None:
    """A target that is no path is refused; the router behind is always the configured one."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        request = b"GET " + TARGETS[target] + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        received = exchange(gateway.port, request)

    assert 400 == status_of(received)
    assert [] == record


@pytest.mark.parametrize(
    "target", ["//evil.example/models", "/../../etc/passwd", "/a/./b//c", "/%2e%2e/x", "/\\evil", "/@h:1/"]
)
def test_odd_paths_stay_as_they_are(target: str) -> None:
    """Whatever looks like another host or folder is a path to the configured router, unchanged."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        exchange(gateway.port, get(target))

    assert f"GET {target} HTTP/1.1".encode() == record[0].split(b"\r\n")[0]


def test_tunnel_is_refused() -> None:
    """The gateway is no forward proxy."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n")

    assert status_of(received) in (400, 405)
    assert [] == record


def test_answer_injects_nothing() -> None:
    """An answer of the router that holds a second head, or two lengths, is not passed on."""
    for reply in (
        b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"<html>hello</html>\r\n\r\n",
    ):
        with raw_upstream(recorder([], reply)) as upstream, serving(upstream.url) as gateway:
            received = exchange(gateway.port, get("/x"))
        assert 502 == status_of(received), reply
        assert "router_broke_off" == error_of(received)["reason"]


# Too large, too slow, too many.

SMALL = Limits(max_head_bytes=2048, max_body_bytes=1000, max_bodies_bytes=1500, body_s=0.3, idle_s=0.4, linger_s=0.1)


@pytest.mark.parametrize(
    "request_",
    [
        post("/infill", b"x" * 1001),
        b"POST /infill HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001,
    ],
)
def test_large_body_is_refused(request_: bytes) -> None:
    """A body over the limit is refused by its promise, or as soon as it is over."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream, serving(upstream.url, limits=SMALL) as gateway:
        received = exchange(gateway.port, request_)

        assert 413 == status_of(received)
        assert "max_body" in str(error_of(received)["message"])
        assert 0 == gateway.look(lambda: gateway.gateway.held_bytes)
    assert [] == record


def test_large_body_is_not_asked_for() -> None:
    """A client that waits for "100 Continue" hears of the limit instead."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url, limits=SMALL) as gateway:
        received = exchange(
            gateway.port, b"POST /infill HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"
        )

    assert 413 == status_of(received)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 5000 + b"\r\n\r\n",
    ],
)
def test_large_head_is_refused(head: bytes) -> None:
    """A line or a header over the limit is refused."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url, limits=SMALL) as gateway:
        received = exchange(gateway.port, head)

    assert 431 == status_of(received)
    assert "head_too_large" == error_of(received)["reason"]


def test_slow_body_is_given_up() -> None:
    """A body that does not come in time ends its connection with a clear answer."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url, limits=SMALL) as gateway:
        received = exchange(gateway.port, b"POST /infill HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n{")

    assert 408 == status_of(received)


def test_body_that_breaks_is_answered_at_once() -> None:
    """A bad chunk ends the wait for the rest of a body, and what follows it is no request."""
    record: list[bytes] = []
    with (
        raw_upstream(recorder(record)) as upstream,
        serving(upstream.url, limits=Limits(linger_s=0.1)) as gateway,
        connect(gateway.port) as client,
    ):
        client.sendall(b"POST /infill HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
        wait_until(lambda: gateway.look(lambda: gateway.gateway.held_bytes == 2))
        client.sendall(b"zz\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n")
        received = b"".join(iter(lambda: client.recv(4096), b""))

    assert 1 == received.count(b"HTTP/1.1 ")
    assert (400, "bad_body") == (status_of(received), error_of(received)["reason"])
    assert [] == record


def test_unescaped_target_is_told_how() -> None:
    """A target beyond ASCII, which HTTP does not have, is refused with what to write in its place."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url) as gateway:
        received = exchange(gateway.port, "GET /props?model=k\u00fche HTTP/1.1\r\nHost: h\r\n\r\n".encode())

    assert (400, "bad_target") == (status_of(received), error_of(received)["reason"])


def test_slow_head_is_given_up() -> None:
    """A connection on which no whole head arrives in time is closed, however the bytes dribble."""
    with raw_upstream(recorder([])) as upstream, serving(upstream.url, limits=SMALL) as gateway:
        received = exchange(gateway.port, b"GET / HTTP/1.1\r\nHost: h\r\nX-A: ")

    assert b"" == received


def test_waiting_bodies_are_limited_together() -> None:
    """Bodies that wait count together; one more than fits is asked to come again."""
    go_on = threading.Event()

    def answer(peer: Peer) -> None:
        peer.read_request()
        go_on.wait(10)
        peer.send(reply_ok())

    with (
        raw_upstream(answer) as upstream,
        serving(upstream.url, limits=SMALL) as gateway,
        connect(gateway.port) as sock,
    ):
        sock.sendall(post("/infill", b"x" * 900))
        wait_until(lambda: gateway.look(lambda: gateway.gateway.held_bytes) > 0)
        received = exchange(gateway.port, post("/infill", b"x" * 900))
        go_on.set()

        assert 503 == status_of(received) and b"Retry-After: " in received


def test_long_answer_does_not_hold_its_request() -> None:
    """Once an answer has begun, its request's body counts no more and takes no memory."""
    go_on = threading.Event()

    def answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
        go_on.wait(10)
        peer.send(b"0\r\n\r\n")

    with raw_upstream(answer) as upstream, serving(upstream.url) as gateway, connect(gateway.port) as sock:
        sock.sendall(post("/v1/chat/completions", b"x" * 900))
        while b"hi" not in sock.recv(65536):
            pass
        assert 0 == gateway.look(lambda: gateway.gateway.held_bytes)
        go_on.set()
        assert sock.recv(65536).endswith(b"0\r\n\r\n")
        wait_until(lambda: gateway.look(lambda: len(gateway.lane.visits)) == 0)
        assert 0 == gateway.look(lambda: gateway.gateway.held_bytes)


def test_connections_are_limited() -> None:
    """One connection too many is turned away in words, and those that are in go on."""
    limits = Limits(max_connections=2)
    with (
        raw_upstream(recorder([])) as upstream,
        serving(upstream.url, limits=limits) as gateway,
        connect(gateway.port) as one,
        connect(gateway.port) as two,
    ):
        for sock in (one, two):
            sock.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            assert sock.recv(1000)
        assert 503 == status_of(exchange(gateway.port, b""))
        one.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert one.recv(1000)


# Keys.

KEYS = (("ann", "key-of-ann"), ("bob", "key-of-bob"))


@pytest.mark.parametrize(
    "line",
    ["Authorization: Bearer key-of-bob", "Authorization: key-of-bob", "X-Api-Key: key-of-bob"],
)
def test_router_key_is_for_known_clients(line: str) -> None:
    """A client's own key is checked and stays here; the router is shown its own key in that place."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream:
        mount = Mount(parse_url(upstream.url), api_key="key-of-router")
        with serving(mount, client_keys=KEYS) as gateway:
            received = exchange(gateway.port, post("/v1/completions", b'{"model":"a"}', line))

    assert 200 == status_of(received)
    assert b"Authorization: Bearer key-of-router\r\n" in record[0]
    assert 1 == record[0].lower().count(b"authorization") and b"key-of-bob" not in record[0]


@pytest.mark.parametrize(
    "line",
    [
        "X-No: key",
        "Authorization: Bearer key-of-router",
        "Authorization: Bearer ",
        "Authorization: Bearer key-of-bobb",
        "Authorization: bearer key-of-bob",
        "X-Api-Key: ",
        "Authorization: Basic eDp5\r\nX-Api-Key: key-of-bob",
    ],
)
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/models", "/", "/models/unload"])
def test_unknown_client_gets_nothing(line: str, path: str) -> None:
    """Without a valid key nothing reaches the router, in llama-server's own words."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream:
        mount = Mount(parse_url(upstream.url), api_key="key-of-router")
        with serving(mount, client_keys=KEYS) as gateway:
            received = exchange(gateway.port, post(path, b'{"model":"a"}', line, JSON))

    assert 401 == status_of(received)
    assert ("Invalid API Key", "authentication_error") == (error_of(received)["message"], error_of(received)["type"])
    assert [] == record
    assert b"key-of" not in received


@pytest.mark.parametrize(
    "request_", [get("/health"), b"OPTIONS /v1/models HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"]
)
def test_router_key_is_not_for_what_is_public(request_: bytes) -> None:
    """What passes without a key passes without the router's key too."""
    record: list[bytes] = []
    with raw_upstream(recorder(record)) as upstream:
        mount = Mount(parse_url(upstream.url), api_key="key-of-router")
        with serving(mount, client_keys=KEYS) as gateway:
            received = exchange(gateway.port, request_)

    assert 200 == status_of(received)
    assert b"key-of" not in record[0]


def test_visits_name_the_key_and_never_hold_it() -> None:
    """Who showed which key is known by its label."""
    seen = []

    class Watching(OpenGate):
        async def admit(self, visit: Visit) -> Pass | Refusal:
            seen.append(visit)
            return await super().admit(visit)

    with raw_upstream(recorder([])) as upstream, serving(upstream.url, gate=Watching, client_keys=KEYS) as gateway:
        exchange(gateway.port, post("/v1/completions", b'{"model":"a"}', "X-Api-Key: key-of-bob"))

    (visit,) = seen
    assert "bob" == visit.key_label
    assert not any("key-of" in str(getattr(visit, name)) for name in Visit.__slots__)


def test_health_needs_no_key() -> None:
    """As at the router, health is public."""
    with simulate(SimConfig()) as sim, serving(sim.url, client_keys=KEYS) as gateway:
        assert 200 == status_of(exchange(gateway.port, get("/health")))
        assert 200 == status_of(exchange(gateway.port, get("/corral/v1/health")))


def test_without_keys_the_router_decides() -> None:
    """Where the gateway asks for no key, the client's own goes to the router, whose answer goes back."""
    with simulate(SimConfig(api_keys=("secret",))) as sim, serving(sim.url) as gateway:
        assert 401 == status_of(exchange(gateway.port, get("/v1/models")))
        assert 200 == status_of(exchange(gateway.port, get("/v1/models", "Authorization: Bearer secret")))


# Corral's own API.

TOKEN = "t" * 43


def guarded(lane: Lane) -> list[web.RouteDef]:
    """One route that needs the token, and a change of models that the gateway answers itself."""
    from aiohttp import web

    guard = Guard(lane.settings, TOKEN)

    def guard_with(check: Callable[[web.Request], web.Response | None]) -> Callable[..., object]:
        async def handle(request: web.Request) -> web.Response:
            return check(request) or web.Response(text="in")

        return handle

    return [
        web.post("/corral/v1/drain", guard_with(guard.check_token)),  # type: ignore[arg-type]  # a handler
        web.post("/models/unload", guard_with(guard.check_change)),  # type: ignore[arg-type]  # a handler
    ]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (f"Authorization: Bearer {TOKEN}", 200),
        (f"Corral-Token: {TOKEN}", 200),
        ("Authorization: Bearer x", 401),
        ("X-No: key", 401),
        ("Authorization: Bearer key-of-ann", 401),
        (f"Corral-Token: {TOKEN}\r\nOrigin: http://evil.example", 403),
    ],
)
def test_own_api_needs_the_token(line: str, status: int) -> None:
    """Corral's API takes its token, not a client's key, and no page of another site even with it."""
    with simulate(SimConfig()) as sim, serving(sim.url, routes=guarded, client_keys=KEYS) as gateway:
        assert status == status_of(exchange(gateway.port, post("/corral/v1/drain", b"{}", line, JSON)))


@pytest.mark.parametrize(
    ("line", "status"), [("Authorization: Bearer key-of-ann", 200), ("X-No: key", 401), (f"Corral-Token: {TOKEN}", 401)]
)
def test_own_answers_to_changes_need_the_clients_key(line: str, status: int) -> None:
    """A change of models that the gateway answers itself follows the same rules as one that passes."""
    with simulate(SimConfig()) as sim, serving(sim.url, routes=guarded, client_keys=KEYS) as gateway:
        assert status == status_of(exchange(gateway.port, post("/models/unload", b"{}", line, JSON)))


def test_own_user_needs_no_token_on_a_socket(tmp_path: Path) -> None:
    """A program of the same user gets in by the socket, because the kernel says whose it is."""
    path = tmp_path / "gateway.sock"
    with simulate(SimConfig()) as sim, serving(sim.url, routes=guarded, address=parse_url(f"unix://{path}")):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(os.fspath(path))
            sock.sendall(post("/corral/v1/drain", b"{}", JSON))
            assert 200 == status_of(sock.recv(65536))
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)
    assert not path.exists()


def test_token_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """The token is made at first use in a file that only its owner can read, and is the same ever after."""
    folder = tmp_path / "state"
    token = load_token(os.fspath(folder))

    assert token == load_token(os.fspath(folder)) and len(token) >= 40
    assert 0o600 == stat.S_IMODE((folder / "token").stat().st_mode)
    assert ["token"] == os.listdir(folder)


def test_token_that_others_know_is_refused(tmp_path: Path) -> None:
    """A token file that others can read, a link, or an empty one is refused with what to do."""
    path = tmp_path / "token"
    load_token(os.fspath(tmp_path))
    path.chmod(0o644)
    with pytest.raises(BadArgumentError, match="Others than its owner"):
        load_token(os.fspath(tmp_path))
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadArgumentError, match="cannot be used"):
        load_token(os.fspath(tmp_path))
    path.unlink()
    path.touch(0o600)
    with pytest.raises(BadArgumentError, match="holds no token"):
        load_token(os.fspath(tmp_path))

"""The careful look at one address: what is found, what is asked, and to whom the key goes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from corral.client import Timeouts, parse_url
from corral.client.examination import Examination
from corral.client.search import LIKELY_PREFIXES
from corral.ops.diagnosis import (
    FAILING,
    FOREIGN,
    LOCKED,
    MISPLACED,
    NOTHING,
    ROUTER,
    SINGLE,
    STARTING,
    Answer,
    Elsewhere,
)
from corral.sim import Fault, ModelSpec, Simulation, simulate
from corral.wire import AuthError, NotARouterError, UnreachableError

QUICK = Timeouts(0.5, 0.5, 2.0)
NOW = 1795600000.0
KEY = "sesame"
ASKED = [("GET", "/models"), ("GET", "/props"), ("GET", "/models"), ("OPTIONS", "/models/unload")]
EVERY_STATE = (ModelSpec("a"), ModelSpec("s", status="sleeping"), ModelSpec("l", status="loaded"))


def examine(url: str, **fields: Any) -> Answer:
    """Look at an address with the limits of a test."""
    others = [parse_url(other) for other in fields.pop("others", ())]
    limits: dict[str, Any] = {"timeouts": QUICK, "clock": lambda: NOW, "find_others": lambda: others}
    return Examination(parse_url(url), **(limits | fields)).run()


def keys_sent(sim: Simulation) -> list[str]:
    """What each request to the simulator carried as its key."""
    return [request.headers.get("authorization", "") for request in sim.request_log]


@pytest.fixture
def web_server() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A web server that answers everything with a page; its URL, and the headers of all that it was sent."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("era", ["v1", "v2", "b9093", "b10240", "b11434"])
def test_router_of_every_era(era: str) -> None:
    """A router of any build is known as one, and a healthy one leaves no error."""
    with simulate(models=EVERY_STATE, era=era) as sim:
        answer = examine(sim.url)

        assert (answer.found, answer.error, answer.key_needed) == (ROUTER, None, False)
        assert answer.listing is not None and len(answer.listing.models) == 3
        assert answer.props is not None and answer.props.is_router
        assert answer.clock_ahead_s is not None and answer.seconds is not None
        assert answer.tried == ()


def test_only_harmless_questions_are_asked() -> None:
    """Four requests, none of which loads, wakes or keeps awake a model, whatever its state."""
    with simulate(models=EVERY_STATE, metrics=True, sleep_idle_s=3600, era="b10240") as sim:
        before = {name: (sim.state(name), sim.spawn_count(name)) for name in "asl"}
        examine(sim.url)

        assert ASKED == [(request.method, request.target) for request in sim.request_log]
        assert before == {name: (sim.state(name), sim.spawn_count(name)) for name in "asl"}


def test_foreign_pages_are_let_in_without_a_key() -> None:
    """The answer to a foreign origin is read, and so is the preflight."""
    with simulate() as sim:
        answer = examine(sim.url)

    assert answer.as_page is not None and answer.preflight is not None
    assert (answer.as_page.status, answer.as_page.allows_origin) == (200, True)
    assert answer.preflight.allows_credentials


@pytest.mark.parametrize("era", ["b10240", "b11434"])
def test_key(era: str) -> None:
    """Missing, wrong and right keys are told apart, with a list that is public and one that is not."""
    with simulate(era=era, api_keys=(KEY,)) as sim:
        missing, wrong, right = (examine(sim.url, key=key) for key in (None, "wrong", KEY))

    is_public = era == "b10240"
    assert [True] * 3 == [answer.key_needed for answer in (missing, wrong, right)]
    assert [None, False, True] == [answer.key_accepted for answer in (missing, wrong, right)]
    assert [is_public] * 3 == [answer.is_list_public for answer in (missing, wrong, right)]
    assert isinstance(missing.error, AuthError) and isinstance(wrong.error, AuthError) and right.error is None
    assert (ROUTER if is_public else LOCKED) == missing.found
    assert right.props is not None and right.listing is not None


def test_key_goes_out_only_after_the_proof() -> None:
    """The first request carries no key, and none of the questions that a web page might ask does."""
    with simulate(api_keys=(KEY,)) as sim:
        examine(sim.url, key=KEY)
        sent = [(item.method, item.path, "authorization" in item.headers) for item in sim.request_log]

    assert ("GET", "/models", False) == sent[0]
    assert [False, False] == [key for _, _, key in sent[-2:]]


def test_key_never_reaches_a_stranger(web_server: tuple[str, list[dict[str, str]]]) -> None:
    """A web server on the address, or on a port or prefix that is tried, never sees the key."""
    url, seen = web_server
    answer = examine(url, key=KEY)
    with simulate(single="m", api_keys=(KEY,)) as sim:
        examine(sim.url, key=KEY, others=[url])

    assert (answer.found, type(answer.error)) == (FOREIGN, NotARouterError)
    assert len(seen) > len(LIKELY_PREFIXES)
    assert not any(KEY in str(headers) for headers in seen)


def test_single_model_server() -> None:
    """A server with one model is told apart while it loads and after."""
    with simulate(single="m") as sim:
        after = examine(sim.url)
    with simulate(single="m", is_starting=True) as sim:
        before = examine(sim.url)

    assert (SINGLE, STARTING) == (after.found, before.found)
    assert after.props is not None and not after.props.is_router
    assert after.props.build == 11434


def test_nothing_listens() -> None:
    """A closed port is nothing, and the likely ports of the host are tried instead."""
    with socket.socket() as closed, simulate() as sim:
        closed.bind(("127.0.0.1", 0))
        answer = examine(f"http://127.0.0.1:{closed.getsockname()[1]}", others=[sim.url])

        assert answer.found == NOTHING and isinstance(answer.error, UnreachableError)
        assert answer.elsewhere == (Elsewhere(sim.url, ROUTER),)


def test_locked_and_single_servers_elsewhere() -> None:
    """On other ports a protected server and a single-model server are named as what they are, without a key."""
    with simulate(single="x") as here, simulate(api_keys=(KEY,)) as locked, simulate(single="m") as single:
        answer = examine(here.url, key=KEY, others=[locked.url, single.url])

        assert answer.elsewhere == (Elsewhere(locked.url, LOCKED), Elsewhere(single.url, SINGLE))
        assert not any(keys_sent(locked) + keys_sent(single))


@pytest.mark.parametrize("keys", [(), (KEY,)])
def test_wrong_prefix(keys: tuple[str, ...]) -> None:
    """Without its prefix, or with a wrong one, a router is found under the right one, with its key where it has one."""
    with simulate(api_prefix="/llm", api_keys=keys) as sim:
        root = sim.url.removesuffix("/llm")
        for wrong in (root, f"{root}/llm/deeper", f"{root}/other"):
            answer = examine(wrong, key=KEY)

            assert answer.found == MISPLACED
            assert Elsewhere(sim.url, ROUTER) in answer.elsewhere


def test_other_host_is_never_asked() -> None:
    """Whatever is tried is on the very host that was named."""
    with simulate(single="m") as sim:
        answer = examine(sim.url, others=["http://127.0.0.1:9", "http://127.0.0.2:9", "http://example.invalid"])

    assert answer.tried
    assert {"127.0.0.1"} == {parse_url(url).host for url in answer.tried}


BROKEN = {
    "hangs": (Fault("hang"), NOTHING),
    "breaks": (Fault("reset-before"), NOTHING),
    "HTML": (Fault("html"), FOREIGN),
    "redirects": (Fault("redirect"), FOREIGN),
    "fails": (Fault("status", code=500), FAILING),
    "hangs after the list": (Fault("hang", path="/props"), ROUTER),
    "props are HTML": (Fault("html", path="/props"), ROUTER),
}


@pytest.mark.parametrize("name", BROKEN)
def test_bad_days(name: str) -> None:
    """Whatever breaks, the look ends with what is known, and raises nothing."""
    fault, found = BROKEN[name]
    with simulate(models=("a",), faults=(fault,)) as sim:
        answer = examine(sim.url)

    assert found == answer.found
    assert (answer.error is None) == (found == ROUTER)


def test_router_behind_a_proxy_that_hides_the_server() -> None:
    """A list behind a proxy that replaced the header is a router's all the same."""
    with simulate(models=("a",), faults=(Fault("foreign"),)) as sim:
        answer = examine(sim.url)

    assert (answer.found, answer.server) == (ROUTER, None)


def test_clock_is_compared() -> None:
    """A router whose clock is ahead is known by when it says that its entries were made."""
    with simulate(models=("a",)) as sim:
        behind = examine(sim.url, clock=lambda: 0.0)

    assert behind.clock_ahead_s is not None and behind.clock_ahead_s > 1e9

"""Faults as values, and what a client sees of each."""

from __future__ import annotations

import http.client
import json

import pytest

from corral.sim import Fault, ModelSpec, SimConfig, Simulation, simulate
from corral.sim.faults import REQUEST_FAULTS, FaultBox, parse_fault


def ask(sim: Simulation, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def test_parse() -> None:
    """A fault on the command line says the same as one in Python."""
    assert parse_fault("slow:path=/models,seconds=2,times=1") == Fault("slow", "/models", seconds=2.0, times=1)
    assert parse_fault("html") == Fault("html")


@pytest.mark.parametrize("text", ["sloow", "slow:what=1", "slow:times=x", "slow:times", "never-unloads"])
def test_parse_refuses(text: str) -> None:
    """A fault that is none is a ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        parse_fault(text)


def test_limited_fault_is_used_up() -> None:
    """A fault with times=1 meets one matching request, and others never."""
    box = FaultBox((Fault("hang", "/a", "POST", times=1),))
    assert box.take(REQUEST_FAULTS, "GET", "/a") is None
    assert box.take(REQUEST_FAULTS, "POST", "/b") is None
    assert box.take(REQUEST_FAULTS, "POST", "/a") is not None
    assert box.take(REQUEST_FAULTS, "POST", "/a") is None


def test_reset_before_and_after() -> None:
    """Both break the connection; only one of them has done what was asked."""
    with simulate(models=(ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded")), exit_s=0) as sim:
        for kind, model, state in (("reset-before", "a", "loaded"), ("reset-after", "b", "unloaded")):
            sim.set_fault(kind, path="/models/unload", times=1)
            with pytest.raises(OSError, match=r".+"):
                ask(sim, "POST", "/models/unload", {"model": model})
            sim.wait_for(model, state)
        assert len(sim.requests("POST", "/models/unload")) == 2


def test_cut_reply() -> None:
    """A cut reply ends before its Content-Length."""
    with simulate(faults=(Fault("cut"),)) as sim, pytest.raises(http.client.IncompleteRead):
        ask(sim, "GET", "/models")


@pytest.mark.parametrize(
    ("fault", "status", "part"),
    [
        (Fault("html"), 200, b"<!DOCTYPE html>"),
        (Fault("status", code=503), 503, b"Loading model"),
        (Fault("status", code=401), 401, b"Invalid API Key"),
        (Fault("status", code=500), 500, b"server_error"),
        (Fault("redirect"), 302, b""),
        (Fault("huge", size=1000), 200, b" " * 1000),
        (Fault("slow", seconds=0), 200, b"data"),
        (Fault("foreign"), 200, b"data"),
    ],
)
def test_odd_answers(fault: Fault, status: int, part: bytes) -> None:
    """Each answers as its name says."""
    with simulate(faults=(fault,)) as sim:
        answer = ask(sim, "GET", "/models")
    assert answer[0] == status
    assert part in answer[1]


def test_hang() -> None:
    """A hanging request gets no byte, and the simulation still ends."""
    with simulate(faults=(Fault("hang"),)) as sim:
        connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=0.05)
        connection.request("GET", "/models")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        assert [item.path for item in sim.request_log] == ["/models"]


def test_never_unloads() -> None:
    """The unload is confirmed and the model stays; once the fault is cleared it goes."""
    with simulate(SimConfig((ModelSpec("a", status="loaded"),), exit_s=0)) as sim:
        sim.set_fault("never-unloads", model="a")
        assert ask(sim, "POST", "/models/unload", {"model": "a"}) == (200, b'{"success":true}')
        assert sim.state("a") == "loaded"
        sim.clear_faults()
        ask(sim, "POST", "/models/unload", {"model": "a"})
        sim.wait_for("a", "unloaded")


def test_comes_back() -> None:
    """A client asks for the model again, so it has a second child on another port."""
    with simulate(SimConfig((ModelSpec("a", status="loaded"),))) as sim:
        port = sim.port_of("a")
        sim.set_fault("comes-back", model="a", seconds=0)
        sim.unload("a")
        sim.wait_until(lambda: sim.spawn_count("a") == 2)
        sim.wait_for("a", "loaded")
        assert sim.port_of("a") != port


def test_load_fails() -> None:
    """The load ends with the exit code asked for, and the list says so."""
    with simulate(models=("a",)) as sim:
        sim.set_fault("load-fails", model="a", code=42)
        sim.load("a")
        sim.wait_for("a", "unloaded")
        status = json.loads(ask(sim, "GET", "/models")[1])["data"][0]["status"]
    assert (status["value"], status["failed"], status["exit_code"]) == ("unloaded", True, 42)


def test_vanishes_and_reappears() -> None:
    """A vanished model is missing for as many looks as asked, then back."""
    with simulate(models=("a", "b")) as sim:
        sim.set_fault("vanishes", model="a", count=2)
        seen = [[entry["id"] for entry in json.loads(ask(sim, "GET", "/models")[1])["data"]] for _ in range(3)]
    assert seen == [["b"], ["b"], ["a", "b"]]


def test_event_stream_drops_and_dies() -> None:
    """A dropped stream ends in good order, one that dies is broken off; both after the events asked for."""
    for kind, error in (("events-drop", None), ("events-die", OSError)):
        with simulate(models=("a",), faults=(Fault(kind, count=1),)) as sim:
            connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
            connection.request("GET", "/models/sse")
            reply = connection.getresponse()
            sim.load("a")
            assert reply.readline().startswith(b'data: {"model":"a"')
            if error is None:
                assert reply.read() == b"\n"
            else:
                with pytest.raises((OSError, http.client.HTTPException)):
                    reply.read()
            connection.close()

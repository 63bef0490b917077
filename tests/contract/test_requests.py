"""Requests that pass through the router: what they load, what they refuse, what they evict, what they wake."""

from __future__ import annotations

import pytest

from tests.contract.conftest import Target
from tests.contract.eras import EXPECTED
from tests.contract.kit import BUSY, EMOJI, NAP, PLAIN, Server, Stream


def test_chat_loads_its_model(router: Server) -> None:
    """A request for an unloaded model loads it and is answered."""
    answer = router.chat(PLAIN, 3)
    assert answer.status == 200
    assert answer.json["choices"][0]["message"]["content"]
    assert answer.json["usage"]["completion_tokens"] == 3
    assert router.value(PLAIN) == "loaded"


def test_a_whole_stream(router: Server) -> None:
    """A stream that nobody disturbs ends with DONE."""
    stream = Stream(router, PLAIN, 5)
    body = stream.finish()
    assert body.startswith(b"data: {")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path", ["/slots", "/props"])
def test_status_routes_load_the_model(router: Server, path: str) -> None:
    """``/slots?model=`` and ``/props?model=`` load an unloaded model: why Corral never asks them."""
    answer = router.ask("GET", f"{path}?model=plain")
    assert answer.status == 200
    assert router.value(PLAIN) == "loaded"


@pytest.mark.parametrize("path", ["/slots", "/props", "/metrics"])
def test_autoload_false_loads_nothing(router: Server, path: str) -> None:
    """With ``autoload=false`` an unloaded model is refused and stays unloaded."""
    answer = router.ask("GET", f"{path}?model=plain&autoload=false")
    assert (answer.status, answer.message) == (400, "model is not loaded")
    assert router.chat(PLAIN, query="?autoload=false").message == "model is not loaded"
    assert router.value(PLAIN) == "unloaded"


def test_slots_show_what_is_in_flight(router: Server) -> None:
    """``/slots`` has one entry per slot and says which of them is busy."""
    router.bring_up(BUSY)
    stream = Stream(router, BUSY, 250)
    stream.wait_for_tokens()
    slots = router.ask("GET", "/slots?model=busy&autoload=false").json
    assert [slot["is_processing"] for slot in slots].count(True) == 1
    assert len(slots) == 2
    stream.finish()


def test_metrics_are_off_by_default(router: Server) -> None:
    """``/metrics`` of a loaded model is refused unless switched on."""
    router.bring_up(PLAIN)
    answer = router.ask("GET", "/metrics?model=plain&autoload=false")
    assert (answer.status, answer.json["error"]["type"]) == (501, "not_supported_error")


def test_metrics_count_requests_in_flight(router: Server) -> None:
    """Where it is switched on, ``/metrics`` counts what is processed and what waits for a slot."""
    router.bring_up(BUSY)
    if not EXPECTED.counts_reliably:
        assert router.ask("GET", "/metrics?model=busy&autoload=false").status in (200, 500)
        return
    assert router.metrics(BUSY) == (0, 0)
    stream = Stream(router, BUSY, 450)
    stream.wait_for_tokens()
    assert router.metrics(BUSY) == (1, 0)
    stream.finish()


@pytest.mark.parametrize("body", [{}, {"model": 5}, {"model": ""}])
def test_request_without_a_model(router: Server, body: object) -> None:
    """A request that names no model is refused."""
    answer = router.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.message) == (400, "model name is missing from the request")


def test_request_for_an_unknown_model(router: Server) -> None:
    """A request for an unknown model is refused with its name."""
    for answer in (router.chat("no such"), router.ask("GET", "/slots?model=no%20such")):
        assert (answer.status, answer.message) == (400, "model 'no such' not found")


def test_sleeping_is_listed_and_not_woken_by_looking(router: Server) -> None:
    """A model that fell asleep is listed so; the list and ``/props`` leave it asleep, ``/slots`` wakes it."""
    router.bring_up(NAP)
    router.wait_for(NAP, "sleeping")
    for _ in range(3):
        assert router.value(NAP) == "sleeping"
    assert router.ask("GET", "/props?model=nap&autoload=false").json["is_sleeping"] is True
    assert router.value(NAP) == "sleeping"
    assert router.ask("GET", "/slots?model=nap&autoload=false").status == 200
    assert router.value(NAP) == "loaded"


def test_unload_of_a_sleeping_model(router: Server) -> None:
    """A sleeping model is unloaded without a failure."""
    router.bring_up(NAP)
    router.wait_for(NAP, "sleeping")
    assert router.unload(NAP).json == {"success": True}
    router.wait_for(NAP, "unloaded")
    if EXPECTED.never_run_exit_code is None:
        assert "failed" not in router.status(NAP)


def test_the_least_recently_used_is_evicted(target: Target) -> None:
    """At the maximum a load evicts the model that was used longest ago, and answers when that is gone."""
    with target.router(models_max=2) as router:
        router.bring_up(PLAIN, BUSY)
        router.chat(PLAIN)
        assert router.load(EMOJI).json == {"success": True}
        assert router.value(BUSY) == "unloaded"
        router.wait_for(EMOJI, "loaded")
        assert router.value(PLAIN) == "loaded"


def test_a_busy_model_at_the_maximum(target: Target) -> None:
    """With every model busy a load is refused and the busy one goes on; older builds kill it for the newcomer."""
    with target.router(models_max=1) as router:
        router.bring_up(BUSY)
        stream = Stream(router, BUSY, 300)
        stream.wait_for_tokens()
        answer = router.load(PLAIN)
        if EXPECTED.refuses_when_all_busy:
            assert (answer.status, answer.message) == (500, "model limit reached, try again later")
            assert stream.finish().endswith(b"data: [DONE]\n\n")
            assert router.value(BUSY) == "loaded"
        else:
            assert answer.json == {"success": True}
            assert b"[DONE]" not in stream.finish()
            assert router.value(BUSY) == "unloaded"


def test_a_queued_request_waits_for_a_place(target: Target) -> None:
    """With every model busy a request for another one is answered once a place is free."""
    with target.router(models_max=1) as router:
        router.bring_up(BUSY)
        stream = Stream(router, BUSY, 100)
        stream.wait_for_tokens()
        assert router.chat(PLAIN).status == 200
        done = stream.finish().endswith(b"data: [DONE]\n\n")
        assert done is EXPECTED.refuses_when_all_busy
        assert router.value(BUSY) == "unloaded"

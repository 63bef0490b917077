"""What the simulated router does with its models: the queue, the hang, the maximum, downloads, eras."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest

from corral.sim import ModelSpec, SimConfig, Simulation, simulate


def ask(sim: Simulation, method: str, path: str, body: object = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=20)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


class Client(threading.Thread):
    """Asks one model for an answer, in a thread."""

    def __init__(self, sim: Simulation, model: str) -> None:
        super().__init__(daemon=True)
        self._sim, self._model = sim, model
        self.status = 0
        self.start()

    def run(self) -> None:
        body = {"model": self._model, "max_tokens": 1}
        self.status = ask(self._sim, "POST", "/v1/chat/completions", body)[0]


def test_killing_a_loading_model_hangs_the_queue_until_it_is_loaded_by_name() -> None:
    """Waiters of the killed model and those of others get nothing; a load of the stuck model answers all."""
    with simulate(SimConfig((ModelSpec("a", load_s=1.0), ModelSpec("b")))) as sim:
        first = Client(sim, "a")
        sim.wait_for("a", "loading")
        sim.unload("a")
        sim.wait_for("a", "unloaded")
        second = Client(sim, "b")
        sim.wait_until(lambda: len(sim.requests("POST")) == 2)
        assert (sim.state("a"), sim.state("b")) == ("unloaded", "unloaded")
        sim.load("a")
        first.join(20)
        second.join(20)
        assert (first.status, second.status) == (200, 200)


def test_the_hang_ends_when_the_waiters_leave() -> None:
    """Once nobody waits for the stuck model, requests for others are served."""
    with simulate(SimConfig((ModelSpec("a", load_s=60.0), ModelSpec("b")))) as sim:
        connection = http.client.HTTPConnection("127.0.0.1", sim.port)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "a"}))
        sim.wait_for("a", "loading")
        sim.unload("a")
        sim.wait_for("a", "unloaded")
        connection.close()
        other = Client(sim, "b")
        other.join(20)
        assert other.status == 200


def test_without_the_hang_waiters_are_refused() -> None:
    """Most of the time the real router answers the waiters of a killed load with 500."""
    with simulate(SimConfig((ModelSpec("a", load_s=60.0),), queue_hangs=False)) as sim:
        client = Client(sim, "a")
        sim.wait_for("a", "loading")
        sim.unload("a")
        client.join(20)
        assert client.status == 500


def test_two_models_in_turns_on_one_place() -> None:
    """A model that was loaded for a request is not evicted before that request is answered."""
    with simulate(models=("a", "b"), models_max=1) as sim:
        clients = [Client(sim, "ab"[number % 2]) for number in range(8)]
        for client in clients:
            client.join(20)
    assert [client.status for client in clients] == [200] * 8


def test_unload_of_a_downloading_model_is_synchronous() -> None:
    """The answer comes when the download has ended, which is told."""
    with simulate(SimConfig((ModelSpec("a", status="downloading", source="cache"),))) as sim:
        assert ask(sim, "POST", "/models/unload", {"model": "a"}) == (200, {"success": True})
        assert sim.state("a") == "unloaded"


def test_a_hidden_model_works_unlisted() -> None:
    """A hidden model is not listed, yet it loads."""
    with simulate(SimConfig((ModelSpec("a", is_hidden=True), ModelSpec("b")))) as sim:
        assert [entry["id"] for entry in ask(sim, "GET", "/models")[1]["data"]] == ["b"]
        assert ask(sim, "POST", "/models/load", {"model": "a"})[0] == 200
        sim.wait_for("a", "loaded")


@pytest.mark.parametrize(
    ("era", "status", "message"),
    [("v1", 400, "model is not loaded"), ("v2", 400, "model is not loaded"), ("b9093", 400, "model is not running")],
)
def test_texts_by_era(era: str, status: int, message: str) -> None:
    """The refusal of an unload has the era's words."""
    with simulate(models=("a",), era=era) as sim:
        answer = ask(sim, "POST", "/models/unload", {"model": "a"})
    assert (answer[0], answer[1]["error"]["message"]) == (status, message)


def test_v1_entries() -> None:
    """The oldest entries have a path, and neither aliases nor events."""
    with simulate(models=("a",), era="v1") as sim:
        entry = ask(sim, "GET", "/models")[1]["data"][0]
        assert ask(sim, "GET", "/models/sse")[0] == 404
    assert {"in_cache", "path"} <= set(entry)
    assert not {"aliases", "tags", "can_remove", "architecture"} & set(entry)


def test_old_builds_hide_sleep() -> None:
    """Before the router showed it, a sleeping model was listed as loaded."""
    with simulate(SimConfig((ModelSpec("a", status="sleeping"),), era="v2")) as sim:
        assert ask(sim, "GET", "/models")[1]["data"][0]["status"]["value"] == "loaded"


def test_string_status() -> None:
    """Asked for, the status is a plain string."""
    with simulate(models=("a",), string_status=True) as sim:
        assert ask(sim, "GET", "/models")[1]["data"][0]["status"] == "unloaded"


def test_starting() -> None:
    """A server that is still loading answers 503 to everything."""
    with simulate(is_starting=True) as sim:
        for path in ("/models", "/health", "/nope"):
            assert ask(sim, "GET", path) == (
                503,
                {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}},
            )


def test_busy_holds_a_request_in_flight() -> None:
    """Within ``busy`` a stop takes the stop-timeout; the request ends with the child."""
    with simulate(SimConfig((ModelSpec("a", status="loaded", stop_timeout_s=0.05),))) as sim:
        with sim.busy("a"):
            assert sim.in_flight("a") == 1
            sim.unload("a")
            sim.wait_for("a", "unloaded")
            sim.wait_until(lambda: sim.in_flight("a") == 0)
        status = ask(sim, "GET", "/models")[1]["data"][0]["status"]
    assert (status["failed"], status["exit_code"]) == (True, 1)

"""The event stream: names, data keys, order, frames."""

from __future__ import annotations

import json
from typing import Any

from tests.contract.eras import EXPECTED
from tests.contract.kit import NAP, PLAIN, QUOTED, Server, follow, wait_until


def test_walk_of_a_model(router: Server) -> None:
    """A load and an unload are told step by step; only the spawn is called ``model_status``."""
    if not EXPECTED.has_events:
        assert router.ask("GET", "/models/sse").status == 404
        return
    with follow(router) as events:
        assert events.headers["Content-Type"] == "text/event-stream"
        router.bring_up(PLAIN)
        router.unload(PLAIN)
        events.wait_for(PLAIN, "unloaded")
        told = events.of(PLAIN)
        frames = events.frames
    assert [event["event"] for event in told] == ["model_status"] + ["status_change"] * (len(told) - 1)
    statuses = [event["data"]["status"] for event in told]
    assert statuses == ["loading"] * (len(told) - 2) + ["loaded", "unloaded"]
    assert told[0]["data"] == {"status": "loading"}
    assert told[-1]["data"] == {"status": "unloaded", "exit_code": 0}
    assert told[-2]["data"]["info"]["meta"]["n_params"] > 0
    values = [event["data"]["progress"]["value"] for event in told[1:-2]]
    assert (values[0], values[-1]) == (0.0, 1.0)
    assert values == sorted(values)
    assert {event["data"]["progress"]["current"] for event in told[1:-2]} == {"text_model"}
    assert all(frame.startswith(b"data: {") and b"\n" not in frame for frame in frames)


def test_no_replay(router: Server) -> None:
    """A new subscriber hears nothing of what was before; the first event is the next change."""
    if not EXPECTED.has_events:
        assert router.ask("GET", "/models/sse").status == 404
        return
    router.bring_up(PLAIN)
    with follow(router) as events:
        router.unload(PLAIN)
        events.wait_for(PLAIN, "unloaded")
        first = json.loads(events.frames[0].removeprefix(b"data: "))
    assert first["data"]["status"] == "unloaded"


def test_odd_id_in_events(router: Server) -> None:
    """An odd id arrives as it is."""
    if not EXPECTED.has_events:
        assert router.ask("GET", "/models/sse").status == 404
        return
    with follow(router) as events:
        router.bring_up(QUOTED)
        events.wait_for(QUOTED, "loaded")
        keys = {key for event in events.of(QUOTED) for key in event}
    assert keys == {"model", "event", "data"}


def test_killed_while_loading_is_told_with_its_exit_code(router: Server) -> None:
    """The exit of a killed child is told with code 1."""
    if not EXPECTED.has_events:
        assert router.ask("GET", "/models/sse").status == 404
        return
    with follow(router) as events:
        router.load("busy")
        router.unload("busy")
        events.wait_for("busy", "unloaded")
        assert events.of("busy")[-1]["data"] == {"status": "unloaded", "exit_code": 1}


def test_sleep_and_wake(router: Server) -> None:
    """Falling asleep is told; a wake-up goes through ``loading`` to ``loaded`` without ``info``."""
    if not EXPECTED.has_events:
        assert router.ask("GET", "/models/sse").status == 404
        return
    asleep = {"status": "sleeping"}
    with follow(router) as events:

        def list_since_sleep() -> list[dict[str, Any]]:
            told = [event["data"] for event in events.of(NAP)]
            return told[told.index(asleep) :]

        router.bring_up(NAP)
        events.wait_for(NAP, "sleeping")
        router.chat(NAP, 1)
        wait_until(lambda: {"status": "loaded"} in list_since_sleep(), "awake again")
        told = list_since_sleep()
    assert told[1]["status"] == "loading"

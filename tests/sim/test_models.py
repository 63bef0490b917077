"""One model's state machine, without a clock."""

from __future__ import annotations

from corral.sim.config import ModelSpec, SimConfig
from corral.sim.models import SimModel


def build(status: str = "unloaded", **fields: object) -> SimModel:
    config = SimConfig(load_s=1.0, exit_s=0.5, wake_s=0.2, **fields)  # type: ignore[arg-type]  # the config's own
    return SimModel(ModelSpec("m", status=status, stop_timeout_s=10), config, 0.0)


def statuses(model: SimModel) -> list[object]:
    return [event["data"]["status"] for event in model.news]  # type: ignore[index]  # JSON


def test_load_goes_through_progress_to_loaded() -> None:
    """A spawned model is loading until its load time has passed, and tells the way."""
    model = build()
    model.spawn(0.0, 40001)
    model.advance(0.99)
    assert model.value == "loading"
    model.advance(1.0)
    assert (model.value, model.port, model.generation) == ("loaded", 40001, 1)
    assert statuses(model) == ["loading", "loading", "loading", "loading", "loaded"]
    assert [event["event"] for event in model.news] == ["model_status"] + ["status_change"] * 4


def test_idle_stop() -> None:
    """An idle child keeps its status until it has exited, then ends with code 0."""
    model = build("loaded")
    model.stop(0.0)
    assert (model.value, model.due) == ("loaded", 0.5)
    model.advance(0.5)
    assert (model.value, model.exit_code, model.has_failed) == ("unloaded", 0, False)


def test_busy_stop_ends_in_a_kill() -> None:
    """A child with a request in flight lives until the stop-timeout and is listed as failed."""
    model = build("loaded")
    model.begin_request(0.0)
    model.stop(1.0)
    model.advance(10.9)
    assert model.value == "loaded"
    model.advance(11.0)
    assert (model.value, model.exit_code, model.has_failed) == ("unloaded", 1, True)


def test_busy_stop_ends_soon_after_the_last_request_left() -> None:
    """When the client leaves, the stopping child exits in good order."""
    model = build("loaded")
    model.begin_request(0.0)
    model.stop(1.0)
    model.end_request(2.0)
    model.advance(2.5)
    assert (model.value, model.exit_code) == ("unloaded", 0)


def test_a_repeated_stop_changes_nothing() -> None:
    """The second stop does not start the stop-timeout anew."""
    model = build("loaded")
    model.begin_request(0.0)
    model.stop(1.0)
    model.stop(9.0)
    model.advance(11.0)
    assert model.value == "unloaded"


def test_stop_of_a_loading_model_by_era() -> None:
    """A loading model is killed at once, or, in the oldest builds, only at its stop-timeout."""
    new, old = build(), build(era="v2")
    for model in (new, old):
        model.spawn(0.0, 40001)
        model.stop(0.1)
        model.advance(0.2)
    assert (new.value, old.value) == ("unloaded", "loading")
    old.advance(10.1)
    assert (old.value, old.exit_code) == ("unloaded", 1)


def test_sleep_and_wake() -> None:
    """A model without requests falls asleep; a wake-up goes through loading and carries no info."""
    model = build("loaded", sleep_idle_s=3.0)
    model.advance(3.0)
    assert model.value == "sleeping"
    model.wake(5.0)
    assert model.value == "loading"
    model.advance(5.2)
    assert model.value == "loaded"
    assert model.news[-1]["data"] == {"status": "loaded"}


def test_a_model_with_a_request_does_not_fall_asleep() -> None:
    """Idle time counts from the end of the last request."""
    model = build("loaded", sleep_idle_s=3.0)
    model.begin_request(1.0)
    model.advance(100.0)
    assert model.value == "loaded"
    model.end_request(100.0)
    assert model.due == 103.0


def test_failing_load() -> None:
    """A load that fails ends as unloaded with its exit code."""
    model = build()
    model.spawn(0.0, 40001, fails_with=7)
    model.advance(1.0)
    assert (model.value, model.exit_code, model.has_failed) == ("unloaded", 7, True)


def test_never_run_trap_of_b9093() -> None:
    """Around b9093 a model that never ran counts as failed with code 10."""
    assert (build(era="b9093").exit_code, build().exit_code) == (10, 0)

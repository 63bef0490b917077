"""The wait verb, input by input."""

from __future__ import annotations

import pytest

from corral.ops import WaitFor
from corral.wire import BadArgumentError, UnknownModelError, UnreachableError
from tests.ops.world import World, model


def test_reached_at_the_first_look() -> None:
    """A state that is there already needs no stream."""
    world = World(WaitFor(("a",), "loaded"))
    world.show(model("a"))

    assert world.report.ok and world.report.reached == ("a",) and world.listens == 0


def test_waits_for_all() -> None:
    """Every model must have been in the state; events make it look."""
    world = World(WaitFor(("a", "b"), "unloaded"))
    world.show(model("a"), model("b", "unloaded"))
    world.open_stream()
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded"), model("b", "unloaded"))

    assert world.report.ok and set(world.report.reached) == {"a", "b"} and world.sent == []


@pytest.mark.parametrize("status", ["loading", "loaded", "sleeping"])
def test_resident_is_any_child(status: str) -> None:
    """``resident`` is reached by every status with a child process."""
    world = World(WaitFor(("a",), "resident"))
    world.show(model("a", status))

    assert world.report.ok


def test_time_limit_names_the_missing() -> None:
    """When the time is up the report has the newest status of each model that did not come."""
    world = World(WaitFor(("a",), "loaded", timeout_s=3.0))
    while world.report is None:
        world.show(model("a", "loading"), has_events=False)

    assert world.report.missing == (("a", "loading"),) and not world.report.ok
    assert 2.9 < world.now - 100.0 < 4.0


def test_errors() -> None:
    """An unknown model, an unknown state and a router that is not there are errors; a later absence ends it."""
    with pytest.raises(BadArgumentError):
        WaitFor(("a",), "asleep")
    with pytest.raises(UnknownModelError):
        World(WaitFor(("x",), "loaded")).show(model("a"))
    with pytest.raises(UnreachableError):
        World(WaitFor(("a",), "loaded")).fail_look(UnreachableError("gone"))
    world = World(WaitFor(("a",), "loaded"))
    world.show(model("a", "unloaded"), has_events=False)
    while world.report is None:
        world.fail_look(UnreachableError("gone"))
    assert world.report.error is not None


def test_interrupt() -> None:
    """Ctrl-C leaves a report."""
    world = World(WaitFor(("a",), "loaded"))
    world.show(model("a", "unloaded"))
    world.interrupt()

    assert world.report.interrupted and world.report.missing == (("a", "unloaded"),)


def test_all_must_be_there_at_once() -> None:
    """A model that has left the state again while another was waited for is waited for once more."""
    world = World(WaitFor(("a", "b"), "unloaded"))
    world.show(model("a", "unloaded"), model("b"))
    world.show(model("a", "loaded"), model("b", "unloaded"))
    world.show(model("a", "unloaded"), model("b", "unloaded"))

    assert world.report.ok and world.report.reached == ("a", "b")

"""Putting a set back: in order, within the room that there is, and without evicting anybody's model."""

from __future__ import annotations

from typing import Any

import pytest

from corral.ops.restore import Restore
from corral.wire import AuthError, BadArgumentError, BrokenCallError, Model, RefusedError, UnreachableError
from tests.ops.world import Machine, World, model


def begin(
    names: tuple[str, ...],
    *models: Model,
    limit: Any = 4,
    build: Any = 11434,
    machine: Machine | None = None,
    **options: Any,
) -> World:
    """Look, ask, open the stream, look again: the first request is out."""
    world = World(Restore(names, **options), machine)
    world.answers = {"models_max": limit, "build": build}
    world.show(*models)
    if world.listens:
        world.open_stream()
        world.show(*models)
    return world


def gone(*names: str) -> tuple[Model, ...]:
    """Models without a child."""
    return tuple(model(name, "unloaded", None) for name in names)


def load(world: World, name: str, *models: Model) -> None:
    """The load that was asked for is answered, and seen done."""
    assert name == world.sent[-1]
    world.answer(name)
    world.show(*models)


def outcomes(world: World) -> list[tuple[str, str]]:
    """What the report says, in its order."""
    return [(item.model, item.outcome) for item in world.report.outcomes]


def test_in_order_and_one_after_another() -> None:
    """Models come back in the order of the set, the next when the last was seen up."""
    world = begin(("b", "a"), *gone("a", "b"))
    assert ["b"] == world.sent
    load(world, "b", model("a", "unloaded", None), model("b"))
    world.show(model("a", "unloaded", None), model("b"))
    load(world, "a", model("a"), model("b"))

    assert [("b", "loaded"), ("a", "loaded")] == outcomes(world)
    assert world.report.ok and 1 == world.listens


def test_nobody_is_evicted() -> None:
    """With every place taken nothing is asked of the router, and it is said how many there are."""
    world = begin(("c",), model("a"), model("b", "sleeping"), *gone("c"), limit=2)

    assert [] == world.sent and [("c", "no_room")] == outcomes(world)
    assert "the router has places for 2, and 2 are taken" == world.report.outcomes[0].detail
    assert not world.report.ok


def test_room_is_counted_before_each_load() -> None:
    """What a client loads meanwhile takes the place, and the rest of the set is left."""
    world = begin(("a", "b"), *gone("a", "b", "x"), limit=2)
    load(world, "a", model("a"), *gone("b", "x"))
    world.show(model("a"), *gone("b"), model("x", "loading", 9))

    assert ["a"] == world.sent and [("a", "loaded"), ("b", "no_room")] == outcomes(world)


def test_residents_need_no_room() -> None:
    """A model of the set that is up, or coming up by somebody's request, is no matter of room."""
    world = begin(("a", "b"), model("a"), model("b", "loading", 5), limit=2)
    world.show(model("a"), model("b", "loaded", 5))

    assert [] == world.sent and [("a", "already_loaded"), ("b", "loaded")] == outcomes(world)


@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit(limit: int) -> None:
    """A router without a maximum always has room."""
    world = begin(("z",), *[model(name) for name in "abcdef"], *gone("z"), limit=limit)

    assert ["z"] == world.sent


@pytest.mark.parametrize("answer", [None, RefusedError("no such route", status=404)])
def test_untold_maximum_is_the_default(answer: Any) -> None:
    """Where the router does not tell its maximum, four are taken to be the most, and that is said."""
    three = [model(name) for name in "abc"]
    assert ["z"] == begin(("z",), *three, *gone("z"), limit=answer, build=None).sent
    full = begin(("z",), *three, model("d"), *gone("z"), limit=answer, build=None)

    assert [] == full.sent and "assumed" in full.report.outcomes[0].detail


def test_proven_maximum() -> None:
    """So many as were resident at once fit again, where the router does not tell its maximum."""
    world = begin(("z",), *[model(name) for name in "abcde"], *gone("z"), limit=None, proven_max=6)

    assert ["z"] == world.sent


def test_eviction_ends_an_assumption() -> None:
    """If a load pushed another model out, there are fewer places than was assumed: nothing more is loaded."""
    world = begin(("a", "b"), model("x"), model("y"), *gone("a", "b"), limit=None)
    load(world, "a", model("x", "unloaded", 1), model("y"), model("a"), *gone("b"))
    world.show(model("x", "unloaded", 1), model("y"), model("a"), *gone("b"))

    assert ["a"] == world.sent and [("a", "loaded"), ("b", "no_room")] == outcomes(world)
    assert ("x",) == world.report.outcomes[0].evicted


def test_eviction_before() -> None:
    """An eviction that was seen just before ends the assumption from the start; a maximum that is told stands."""
    given = (model("x"), *gone("a"))

    assert [("a", "no_room")] == outcomes(begin(("a",), *given, limit=None, has_evicted=True))
    assert ["a"] == begin(("a",), *given, limit=4, has_evicted=True).sent


@pytest.mark.parametrize(("build", "sent"), [(11434, ["a"]), (10240, []), (None, [])])
def test_downloads_take_places_in_older_builds(build: int | None, sent: list[str]) -> None:
    """A download takes no place in new builds; where that is not certain it counts."""
    assert sent == begin(("a",), model("d", "downloading", None), *gone("a"), limit=1, build=build).sent


def test_hidden_children_take_places() -> None:
    """A model that the list hides takes a place like any other, where the machine shows it."""
    machine = Machine()
    machine.hidden = {"h": 77}

    assert [("a", "no_room")] == outcomes(begin(("a",), *gone("a"), limit=1, machine=machine))


def test_vanished_and_held_models_are_passed_over() -> None:
    """A model that is not listed any more and one that is held have their outcome, and the others come back."""
    world = begin(("gone", "h", "a"), *gone("h", "a"), held={"h": "held by ann@box (h1)"})
    load(world, "a", model("a"), *gone("h"))

    assert [("gone", "vanished"), ("h", "held"), ("a", "loaded")] == outcomes(world)
    assert "held by ann@box (h1)" == world.report.outcomes[1].detail


def test_only_what_cannot_be_loaded() -> None:
    """Without anything to load the router is not asked for its room."""
    world = begin(("x", "h"), *gone("h"), held={"h": "held"})

    assert [("x", "vanished"), ("h", "held")] == outcomes(world) and [] == world.asked


def test_held_but_resident() -> None:
    """A hold does not concern what is up already."""
    assert [("a", "already_loaded")] == outcomes(begin(("a",), model("a"), held={"a": "held"}))


def test_aliases() -> None:
    """A name that has become an alias of a model means that one, once."""
    world = begin(("old", "a"), model("a", "unloaded", None, aliases=("old",)))
    assert ["a"] == world.sent
    load(world, "a", model("a", aliases=("old",)))

    assert [("a", "loaded")] == outcomes(world)


def test_failures_do_not_stop_the_others() -> None:
    """A model that the router refuses, or that fails to load, is reported, and the next one loads."""
    world = begin(("a", "b", "c"), *gone("a", "b", "c"))
    world.answer("a", RefusedError("no", status=500))
    world.show(*gone("a", "b", "c"))
    load(world, "b", model("a", "unloaded", None), model("b", "unloaded", 9, exit_code=1), *gone("c"))
    world.show(model("a", "unloaded", None), model("b", "unloaded", 9, exit_code=1), *gone("c"))
    load(world, "c", model("a", "unloaded", None), model("b", "unloaded", 9, exit_code=1), model("c"))

    assert [("a", "refused"), ("b", "load_failed"), ("c", "loaded")] == outcomes(world)


def test_one_that_hangs_does_not_take_the_others_time() -> None:
    """A model that never comes up is left after its own time, and the next one has its turn."""
    world = begin(("a", "b"), *gone("a", "b"))
    world.answer("a")
    while world.sent == ["a"]:
        world.show(model("a", "loading", 1), *gone("b"))
    load(world, "b", model("a", "loading", 1), model("b"))

    assert [("a", "not_seen_loaded"), ("b", "loaded")] == outcomes(world)
    assert 600 < world.now - 100 < 605


def test_vanishing_meanwhile() -> None:
    """A model that leaves the list between two looks is its own outcome."""
    world = World(Restore(("a", "b")))
    world.answers = {"models_max": 4, "build": 11434}
    world.show(*gone("a", "b"))
    world.open_stream()
    world.show(*gone("b"))
    world.answer("a", RefusedError("File Not Found", status=404))
    world.show(*gone("b"))
    load(world, "b", model("b"))

    assert [("a", "vanished"), ("b", "loaded")] == outcomes(world)


def test_interruption() -> None:
    """Stopped in the middle, it says what was asked for and what was not; before the first look, nothing was."""
    world = begin(("x", "a", "b"), *gone("a", "b"))
    world.interrupt()
    assert [("x", "vanished"), ("a", "requested"), ("b", "not_requested")] == outcomes(world)
    assert world.report.interrupted
    early = World(Restore(("a",)))
    early.interrupt()
    assert [("a", "not_requested")] == outcomes(early) and early.report.interrupted


def test_time_is_up() -> None:
    """When the time is up the rest was not asked for."""
    world = begin(("a", "b"), *gone("a", "b"), timeout_s=3.0)
    world.answer("a")
    while world.report is None:
        world.show(model("a", "loading", 1), *gone("b"))

    assert [("a", "not_seen_loaded"), ("b", "not_requested")] == outcomes(world)


def test_router_that_cannot_be_asked() -> None:
    """Nothing is loaded where the list, or the question for the room, is refused or breaks."""
    with pytest.raises(BadArgumentError):
        Restore(())
    with pytest.raises(UnreachableError):
        World(Restore(("a",))).fail_look(UnreachableError("gone"))
    for error in (AuthError("key", status=401), BrokenCallError("broke")):
        with pytest.raises(type(error)):
            begin(("a",), *gone("a"), limit=error)

"""The idle keeper: unloads what has been idle for too long, cuts nothing, asks no model, and outlives its router."""

from __future__ import annotations

from typing import Any

import pytest

from corral.ops import Ended, Protected, StreamLost, Tick, Unsent
from corral.ops.guard_facts import RouterBack, RouterLost
from corral.ops.idle import IdleLimits
from corral.ops.keeper import (
    BLIND,
    INTERRUPTED,
    TIME_UP,
    Evicted,
    Evicting,
    Keep,
    Looked,
    SightBack,
    SightLost,
    Watching,
)
from corral.ops.protocol import Measure, Measured
from corral.wire import AuthError, Model, NotARouterError, RefusedError, UnknownModelError, UnreachableError
from tests.ops.world import Machine, World, model

LIMITS = IdleLimits(60.0)
GONE = UnreachableError("Nothing listens.")


class Sight(Machine):
    """A machine that can be made to show nothing."""

    reason = ""

    def measure(self, effect: Measure) -> Measured:
        """One look."""
        found = super().measure(effect)
        if not self.reason:
            return found
        nothing = type(found.measurement)((), reason=self.reason)
        return Measured(nothing, found.living)


def begin(*models: Model, machine: Machine | None = None, limits: IdleLimits = LIMITS, **options: Any) -> World:
    """Look once and open the stream."""
    world = World(Keep(limits, **options), machine or Sight())
    world.show(*models)
    if world.report is None:
        world.open_stream()
    return world


def step(world: World, *models: Model) -> None:
    """Answer the look that was asked for, or wake the verb."""
    if world.looks:
        world.show(*models)
    else:
        world.tick()


def pass_time(world: World, seconds: float, *models: Model) -> None:
    """Let time pass while the list says the same, until a request goes out."""
    until, sent = world.now + seconds, len(world.sent)
    while world.report is None and len(world.sent) == sent:
        if not world.looks and (world.wake_at is None or world.wake_at > until):
            world.now = until
            return
        step(world, *models)


def said(world: World, kind: type) -> list[Any]:
    """What was said of one kind."""
    return [fact for fact in world.said if isinstance(fact, kind)]


def see_off(world: World, name: str, *others: Model) -> None:
    """The router does what it was asked, and the list shows it."""
    world.answer(name)
    world.hear(name, "unloaded")
    world.show(model(name, "unloaded", 1000), *others)


def test_idle_model_goes_when_its_time_has_come() -> None:
    """What was idle for the limit is unloaded, not before, and its memory is proven like that of any unload."""
    machine = Sight()
    machine.held_bytes["a"] = 5
    world = begin(model("a"), machine=machine)
    pass_time(world, 59.9, model("a"))
    assert world.sent == []
    pass_time(world, 5, model("a"))
    assert world.sent == ["a"]
    see_off(world, "a")
    report = said(world, Evicted)[0].report

    assert [("a", "unloaded", 5, 0)] == [(o.model, o.outcome, o.freed_bytes, o.cut) for o in report.outcomes]
    assert said(world, Evicting)[0].verdicts[0].idle_s >= 60
    assert world.asked == [] and world.report is None


def test_use_starts_the_count_anew() -> None:
    """A model that answers now and then stays, however short the answers are."""
    machine = Sight()
    world = begin(model("a"), machine=machine)
    for _ in range(10):
        pass_time(world, 40, model("a"))
        machine.last_active_s["a"] = 0.5
        pass_time(world, 6.5, model("a"))
        del machine.last_active_s["a"]

    assert world.sent == []


def test_looks_are_often_enough_to_miss_nothing() -> None:
    """However long the limit, two looks are at most 30 s apart, and each asks for what was recent and for no memory."""
    machine = Sight()
    world = begin(model("a"), machine=machine, limits=IdleLimits(86400.0))
    began = world.now
    pass_time(world, 3600, model("a"))

    assert len(machine.looks) >= (world.now - began) / 31
    assert all(look.recent and not look.memory for look in machine.looks)


def test_request_that_comes_at_that_moment_keeps_it() -> None:
    """A model that is asked for between the decision and the unload is in use: it stays, and nothing is cut."""
    machine = Sight()
    world = begin(model("a"), machine=machine)
    while not said(world, Evicting):
        step(world, model("a"))
    machine.in_flight["a"] = 1
    while not said(world, Evicted):
        step(world, model("a"))
    machine.in_flight["a"] = 0
    assert [("a", "still_busy")] == [(o.model, o.outcome) for o in said(world, Evicted)[0].report.outcomes]
    pass_time(world, 50, model("a"))

    assert world.sent == [], "it counts from then on"
    pass_time(world, 20, model("a"))
    assert world.sent == ["a"]


def test_pinned_and_never_stay() -> None:
    """What is pinned or named never to go stays, and goes when it is not pinned any more."""
    models = (model("a", port=1), model("b", port=2, aliases=("bee",)))
    world = begin(*models, never=("bee",))
    world.give(Protected(("a",)))
    pass_time(world, 300, *models)
    assert world.sent == []
    world.give(Protected(()))
    pass_time(world, 60, *models)

    assert world.sent == ["a"]


def test_pins_may_be_told_just_before_each_decision() -> None:
    """Each look asks who is protected before it decides."""
    world = begin(model("a"))
    pass_time(world, 30, model("a"), model("b", "unloaded", None))

    assert len(said(world, Looked)) >= 2 and said(world, Looked)[-1].models == ("a",)


def test_patterns_have_limits_of_their_own() -> None:
    """Several models are due at different times, each by the first pattern that matches it."""
    limits = IdleLimits(None, (("quick*", 10.0), ("*", 100.0)))
    models = [model("quick-1", port=1), model("slow", port=2)]
    world = begin(*models, limits=limits)
    pass_time(world, 15, *models)
    assert world.sent == ["quick-1"]
    world.answer("quick-1")
    world.hear("quick-1", "unloaded")
    gone = [model("quick-1", "unloaded", 1), models[1]]
    pass_time(world, 70, *gone)
    assert world.sent == ["quick-1"]
    pass_time(world, 30, *gone)

    assert world.sent == ["quick-1", "slow"]


def test_fresh_model_counts_from_its_coming_up() -> None:
    """A model that is loading when it is first seen counts from the event that it is up."""
    machine = Sight()
    world = begin(model("a", "loading", 1), machine=machine)
    pass_time(world, 200, model("a", "loading", 1))
    world.hear("a", "loaded")
    pass_time(world, 59, model("a", port=1))
    assert world.sent == []
    pass_time(world, 3, model("a", port=1))

    assert world.sent == ["a"]


def test_model_is_never_asked() -> None:
    """Where the process of a model that is due is not shown any more, it is not asked for its work either: it stays."""
    machine = Sight()
    world = begin(model("a"), machine=machine)
    while not said(world, Evicting):
        step(world, model("a"))
    machine.absent.add("a")
    while not said(world, Evicted):
        step(world, model("a"))

    assert (world.asked, world.sent) == ([], [])
    assert "work_unseen" == said(world, Evicted)[0].report.outcomes[0].outcome


def test_refusal_is_not_repeated_at_once() -> None:
    """A model that the router will not unload is left for a minute."""
    world = begin(model("a"))
    pass_time(world, 61, model("a"))
    world.answer("a", RefusedError("No.", status=500))
    pass_time(world, 55, model("a"))
    assert world.sent == ["a"]
    assert "refused" == said(world, Evicted)[0].report.outcomes[0].outcome
    pass_time(world, 10, model("a"))

    assert world.sent == ["a", "a"]


def test_router_that_goes_and_comes_back() -> None:
    """A router that does not answer is told once, and watched again when it does; its models have new processes."""
    machine = Sight()
    world = begin(model("a", port=1), machine=machine)
    pass_time(world, 50, model("a", port=1))
    world.give(StreamLost(None))
    for _ in range(200):
        world.fail_look(GONE)
    assert 1 == len(said(world, RouterLost))
    world.show(model("a", port=2))
    assert 1 == len(said(world, RouterBack))
    pass_time(world, 59, model("a", port=2))
    assert world.sent == []
    pass_time(world, 5, model("a", port=2))

    assert world.sent == ["a"]


def test_router_that_is_not_there_yet() -> None:
    """A router that comes up later is waited for; what is no router, or wants a key, ends it at once."""
    world = World(Keep(LIMITS), Sight())
    world.fail_look(GONE)
    assert 1 == len(said(world, RouterLost))
    world.fail_look(GONE)
    world.show(model("a"))

    assert [1, 1, 1] == [len(said(world, kind)) for kind in (RouterLost, RouterBack, Watching)]
    for error in (NotARouterError("HTML"), AuthError("key", status=401)):
        with pytest.raises(type(error)):
            World(Keep(LIMITS), Sight()).fail_look(error)


def test_router_that_goes_during_an_eviction() -> None:
    """A router that goes away while a model is unloaded is outlived too."""
    world = begin(model("a"))
    pass_time(world, 61, model("a"))
    world.answer("a", GONE)
    while not said(world, Evicted):
        world.fail_look(GONE)
    world.show(model("a"))

    assert world.report is None and world.looks == 0


def test_what_cannot_be_seen_is_refused_at_the_start() -> None:
    """Where the machine shows nothing, the keeper ends with the reason: it would cut answers."""
    machine = Sight()
    machine.reason = "gpu-box:8080 is another machine"
    world = begin(model("a"), machine=machine)
    while world.report is None:
        world.show(model("a"))

    assert (BLIND, machine.reason, []) == (world.report.ended, world.report.reason, world.sent)


def test_connections_that_cannot_be_seen_are_refused() -> None:
    """Processes alone are not enough."""
    machine = Sight()
    machine.in_flight["a"] = None
    world = begin(model("a"), machine=machine)
    while world.report is None:
        world.show(model("a"))

    assert BLIND == world.report.ended


def test_sight_that_is_lost_for_a_while() -> None:
    """A look that shows nothing is repeated; if it lasts it is told once, and nothing goes until it is over."""
    machine = Sight()
    world = begin(model("a"), machine=machine)
    machine.reason = "not seen"
    pass_time(world, 500, model("a"))
    assert (1, 0, []) == (len(said(world, SightLost)), len(said(world, SightBack)), world.sent)
    machine.reason = ""
    while not said(world, SightBack):
        step(world, model("a"))
    pass_time(world, 4, model("a"))
    assert world.sent == [], "a minute ago it may have answered"
    pass_time(world, 10, model("a"))

    assert world.sent == ["a"]


def test_unknown_name_is_an_error() -> None:
    """A name that was to be protected and is no model's is an error."""
    with pytest.raises(UnknownModelError):
        begin(model("a"), never=("b",))


def test_end() -> None:
    """An interruption ends it at once, also during an eviction; a time limit ends it too."""
    idle = begin(model("a"))
    idle.interrupt()
    assert (INTERRUPTED, 0) == (idle.report.ended, idle.report.unloaded)

    busy = begin(model("a"))
    pass_time(busy, 61, model("a"))
    busy.give(Unsent("a"))
    busy.interrupt()
    assert INTERRUPTED == busy.report.ended
    assert ["not_requested"] == [o.outcome for o in said(busy, Evicted)[0].report.outcomes]

    ended = begin(model("a"))
    ended.give(Ended("another reason"))
    assert INTERRUPTED == ended.report.ended

    timed = begin(model("a"), until=110.0)
    pass_time(timed, 20, model("a"))
    assert TIME_UP == timed.report.ended and 9 < timed.report.seconds < 11


def test_stragglers_of_an_eviction_are_passed_over() -> None:
    """A look that an eviction asked for and that comes when it is over is not taken for the keeper's own."""
    world = begin(model("a"))
    before = len(said(world, Looked))
    world.give(Measured(Sight().measure(Measure((), memory=False)).measurement))
    world.give(Tick())

    assert len(said(world, Looked)) == before

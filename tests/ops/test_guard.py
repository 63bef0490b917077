"""The guard of a direct hold: what comes up is let up, answered, drained and seen off, and never killed."""

from __future__ import annotations

import pytest

from corral.ops import Ended, LetOut, Outranked, Selection
from corral.ops.guard import Guard
from corral.ops.guard_facts import CameUp, NotMoved, RouterBack, RouterLost, WentAgain, WorkUnseen
from corral.ops.promises import Hold, Moment, Owner, RouterKey
from corral.wire import Model, RefusedError, UnknownModelError, UnreachableError
from tests.ops.world import Machine, World, listing, model

ALL = Selection((), True)


def begin(*models: Model, machine: Machine | None = None, selection: Selection = ALL, **options: object) -> World:
    """Look once and open the stream."""
    world = World(Guard(selection, **options), machine)  # type: ignore[arg-type]  # options are the verb's own
    world.show(*models)
    world.open_stream()
    return world


def pass_time(world: World, seconds: float, *models: Model) -> None:
    """Let time pass while the list says the same."""
    until = world.now + seconds
    while world.now < until and world.report is None:
        if world.looks:
            world.show(*models)
        else:
            world.tick()


def said(world: World, kind: type) -> list[object]:
    """What was said of one kind."""
    return [fact for fact in world.said if isinstance(fact, kind)]


@pytest.mark.parametrize("machine", [Machine(), None])
def test_what_comes_up_is_seen_off(machine: Machine | None) -> None:
    """A held model that a client loads is let up, and unloaded when nothing is in flight."""
    world = begin(model("a", "unloaded", None), machine=machine)
    pass_time(world, 3, model("a", "loading", 1))
    assert world.sent == [], "never while it is loading"
    pass_time(world, 3, model("a", port=1))
    assert world.sent == ["a"]
    world.answer("a")
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1))
    world.give(Ended("released"))

    assert [fact.model for fact in said(world, CameUp)] == ["a"]  # type: ignore[attr-defined]  # of one kind
    assert len(said(world, WentAgain)) == 1
    assert (world.report.ended, world.report.loads, world.report.resident) == ("released", (("a", 1),), ())


def test_its_requests_are_answered_first() -> None:
    """What waited for the model is let finish, however long it takes."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    machine.in_flight["a"] = 2
    pass_time(world, 300, model("a", port=1))
    assert world.sent == []
    machine.in_flight["a"] = 0
    pass_time(world, 1, model("a", port=1))

    assert world.sent == ["a"]


def test_a_moment_is_left_for_what_waited() -> None:
    """A model that has just come up idle is not unloaded at that very moment."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    came = world.now
    while not world.sent:
        pass_time(world, 0.001, model("a", port=1))

    assert world.now - came >= 0.2


def test_what_was_resident_stays() -> None:
    """A model that is up at the start serves on, awake or asleep, until its process ends."""
    world = begin(model("a", port=1), machine=Machine())
    pass_time(world, 10, model("a", "sleeping", 1))
    pass_time(world, 10, model("a", port=1))
    assert world.sent == []
    pass_time(world, 1, model("a", "unloaded", 1))
    pass_time(world, 3, model("a", port=2))

    assert world.sent == ["a"], "its second child is not the one that was there"


def test_second_child_is_known_by_its_port() -> None:
    """A model that went and came between two looks has lost its leave to stay."""
    world = begin(model("a", port=1), machine=Machine())
    pass_time(world, 3, model("a", port=2))

    assert world.sent == ["a"]


def test_what_was_loading_at_the_start_may_come_up() -> None:
    """A load that was under way before the hold is not undone."""
    world = begin(model("a", "loading", None), machine=Machine())
    pass_time(world, 3, model("a", "loading", 1))
    pass_time(world, 3, model("a", port=1))

    assert world.sent == []


def test_residents_go_when_asked() -> None:
    """With ``takes_residents`` what is up at the start is drained and unloaded too, and not counted as a load."""
    world = begin(model("a", port=1), machine=Machine(), takes_residents=True)
    pass_time(world, 1, model("a", port=1))
    assert world.sent == ["a"]
    world.answer("a")
    world.show(model("a", "unloaded", 1))
    world.interrupt()

    assert world.report.loads == () and said(world, CameUp) == []


def test_other_models_are_left_alone() -> None:
    """A hold of one name, or of all but one, touches no other model."""
    named = begin(model("a", "unloaded"), model("b", "unloaded"), machine=Machine(), selection=Selection(("a",)))
    pass_time(named, 3, model("a", "unloaded"), model("b", port=2))
    excepted = Selection((), True, excepted=("b",))
    rest = begin(model("a", "unloaded"), model("b", "unloaded"), machine=Machine(), selection=excepted)
    pass_time(rest, 3, model("a", "unloaded"), model("b", port=2))

    assert named.sent == rest.sent == []


def test_hold_of_all_covers_what_appears_later() -> None:
    """A model that was not in the list at the start is kept away too."""
    world = begin(model("a", "unloaded"), machine=Machine())
    pass_time(world, 3, model("a", "unloaded"), model("new", port=4))

    assert world.sent == ["new"]


def test_unknown_name_is_an_error_at_the_start() -> None:
    """A hold on a name that is no model's is refused with the nearest ids."""
    with pytest.raises(UnknownModelError) as caught:
        begin(model("qwen", "unloaded"), selection=Selection(("qwem",)))

    assert caught.value.nearest == ("qwen",)


def test_eviction_is_told() -> None:
    """The model that had to go for the newcomer is named."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), model("warm", port=1), machine=machine, selection=Selection(("a",)))
    pass_time(world, 1, model("a", "unloaded", None), model("warm", "unloaded", 1))
    pass_time(world, 1, model("a", "loading", 2), model("warm", "unloaded", 1))

    assert said(world, CameUp) == [CameUp("a", ("warm",), 1)]


def test_what_the_hold_unloaded_was_not_evicted() -> None:
    """Who went between the list that the hold was begun with and its first look went by its own unload."""
    known = listing(model("a", port=1), model("b", port=2))
    world = World(Guard(ALL, takes_residents=True, known=known), Machine())
    pass_time(world, 1, model("a", port=3), model("b", "unloaded", 2))

    assert [fact.evicted for fact in said(world, CameUp)] == [()]  # type: ignore[attr-defined]  # of one kind


def test_loads_are_counted_by_the_minute() -> None:
    """A client that asks again and again is told as loads per minute, and each child is seen off anew."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    for port in (1, 2, 3):
        pass_time(world, 1, model("a", port=port))
        world.answer("a")
        world.hear("a", "unloaded")
        pass_time(world, 0.01, model("a", "unloaded", port))
    world.interrupt()

    assert [fact.per_minute for fact in said(world, CameUp)] == [1, 2, 3]  # type: ignore[attr-defined]  # of one kind
    assert world.report.loads == (("a", 3),)


def test_model_that_came_back_at_once_is_met_again() -> None:
    """A model that is loaded anew while it stops, with no look in between, counts as a second load."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    pass_time(world, 1, model("a", port=1))
    world.answer("a")
    pass_time(world, 3, model("a", port=2))

    assert world.sent == ["a", "a"] and len(said(world, CameUp)) == 2


def test_refusal_is_said_and_asked_again() -> None:
    """A router that refuses the unload is asked again, and not in a flood."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    pass_time(world, 1, model("a", port=1))
    answered = 0
    until = world.now + 20
    while world.now < until:
        if len(world.sent) > answered:
            answered += 1
            world.answer("a", RefusedError("no", status=500))
        pass_time(world, 0.001, model("a", port=1))

    assert len(said(world, NotMoved)) == len(said(world, CameUp)) == 1
    assert 5 <= len(world.sent) <= 60


def test_router_that_goes_away_is_outlived() -> None:
    """The hold outlives a router that restarts; it says so once, and again when it is back."""
    world = begin(model("a", "unloaded"), machine=Machine())
    gone = world.now
    while world.now < gone + 60:
        world.fail_look(UnreachableError("gone"))
    pass_time(world, 3, model("a", port=7))

    assert len(said(world, RouterLost)) == len(said(world, RouterBack)) == 1
    assert world.sent == ["a"]


def test_first_look_that_fails_raises() -> None:
    """A hold on a router that is not there is an error."""
    with pytest.raises(UnreachableError):
        World(Guard(ALL)).fail_look(UnreachableError("gone"))


def test_start_is_what_was_known() -> None:
    """What comes up after the list by which a hold was begun, and before its first look, is seen off and counted."""
    world = begin(
        model("a", port=1),
        model("b", port=2),
        machine=Machine(),
        known=listing(model("a", port=1), model("b", "unloaded", None)),
    )
    pass_time(world, 3, model("a", port=1), model("b", port=2))

    assert world.sent == ["b"] and [fact.model for fact in said(world, CameUp)] == ["b"]  # type: ignore[attr-defined]  # of one kind


def test_known_residents_that_are_to_go_are_no_loads() -> None:
    """With ``takes_residents`` what was up when the hold was begun goes uncounted, and what was spared stays."""
    known = (model("a", port=1), model("b", port=2))
    world = begin(*known, machine=Machine(), takes_residents=True, spared=("b",), known=listing(*known))
    pass_time(world, 3, *known)

    assert world.sent == ["a"] and said(world, CameUp) == []


def test_router_that_goes_before_the_first_look_is_outlived() -> None:
    """A hold that was begun by a list goes on while its router is away."""
    world = World(Guard(ALL, known=listing(model("a", "unloaded"))), Machine())
    while not said(world, RouterLost):
        world.fail_look(UnreachableError("gone"))
    pass_time(world, 3, model("a", port=7))

    assert world.sent == ["a"]


def test_it_ends_when_its_time_is_up() -> None:
    """At its expiry the hold is over, whatever is under way."""
    world = begin(model("a", "unloaded"), machine=Machine(), until=130.0)
    pass_time(world, 100, model("a", "loading", 1))

    assert world.report.ended == "expired" and 130 <= world.now < 131
    assert world.report.resident == ("a",)


def test_end_during_an_unload_tells_what_it_cuts() -> None:
    """A hold that ends while a model stops says so, and how many requests had slipped in."""
    machine = Machine()
    world = begin(model("a", "unloaded", None), machine=machine)
    pass_time(world, 1, model("a", port=1))
    assert world.sent == ["a"]
    machine.in_flight["a"] = 1
    world.answer("a")
    world.give(Ended("released"))

    assert world.report.stopping == (("a", 1),)


def test_vanished_model_is_let_go() -> None:
    """A model that leaves the list while it stops is watched no longer, and met again if it reappears."""
    machine = Machine()
    world = begin(model("a", "unloaded"), machine=machine)
    pass_time(world, 1, model("a", port=1))
    world.answer("a")
    pass_time(world, 5)
    pass_time(world, 3, model("a", port=2))

    assert world.sent == ["a", "a"]


def test_model_let_out_is_left_alone() -> None:
    """A model that is released from the hold may stay, and others are seen off as before."""
    world = begin(model("a", "unloaded"), model("b", "unloaded"), machine=Machine())
    world.give(LetOut(("a",)))
    pass_time(world, 2, model("a", port=1), model("b", "unloaded"))
    pass_time(world, 2, model("a", port=1), model("b", port=2))
    world.interrupt()

    assert world.sent == ["b"]
    assert [fact.model for fact in said(world, CameUp)] == ["b"]  # type: ignore[attr-defined]  # of one kind
    assert world.report.resident == ("b",)


@pytest.mark.parametrize("status", ["loading", "loaded"])
def test_model_let_out_while_it_waits_for_its_turn(status: str) -> None:
    """A model that came up and was not yet asked to go may stay when it is released."""
    machine = Machine()
    machine.in_flight["a"] = 1
    world = begin(model("a", "unloaded"), machine=machine)
    pass_time(world, 1, model("a", status, 1))
    world.give(LetOut(("a",)))
    machine.in_flight["a"] = 0
    pass_time(world, 3, model("a", port=1))

    assert world.sent == []


def test_model_let_out_while_it_goes() -> None:
    """A model that was asked to go before it was released goes, and is not asked again when it comes back."""
    world = begin(model("a", "unloaded"), model("b", "unloaded"), machine=Machine())
    pass_time(world, 1, model("a", port=1), model("b", "unloaded"))
    world.give(LetOut(("a",)))
    world.answer("a")
    pass_time(world, 1, model("a", port=2), model("b", "unloaded"))
    pass_time(world, 2, model("a", port=2), model("b", port=3))

    assert world.sent == ["a", "b"] and len(said(world, WentAgain)) == 1


def build_elder(*models: str) -> Hold:
    """An older hold that another process sees to."""
    return Hold("h1", RouterKey("k", "l"), models or None, Owner("ann", "box"), Moment(1.0), 60.0)


def test_what_an_older_hold_covers_is_left_to_it() -> None:
    """Of two guards the one that began first sees a model off; the other does when that is gone."""
    world = begin(model("a", "unloaded"), model("b", "unloaded"), machine=Machine())
    world.give(Outranked((build_elder("a"),)))
    pass_time(world, 3, model("a", port=1), model("b", port=2))
    assert world.sent == ["b"]
    assert [fact.model for fact in said(world, CameUp)] == ["a", "b"]  # type: ignore[attr-defined]  # of one kind
    world.answer("b")
    pass_time(world, 1, model("a", port=1), model("b", "unloaded", 2))
    world.give(Outranked(()))
    pass_time(world, 1, model("a", port=1), model("b", "unloaded", 2))

    assert world.sent == ["b", "a"]


def test_residents_are_not_left_to_an_older_hold() -> None:
    """What is to go though it was resident at the start may be what the older hold lets stay."""
    world = begin(model("a", port=1), machine=Machine(), takes_residents=True)
    world.give(Outranked((build_elder(),)))
    pass_time(world, 1, model("a", port=1))

    assert world.sent == ["a"]


def test_refused_model_that_was_let_out_is_not_asked_again() -> None:
    """A request that failed is not repeated for a model that was released meanwhile."""
    world = begin(model("a", "unloaded"), machine=Machine())
    pass_time(world, 1, model("a", port=1))
    world.give(LetOut(("a",)))
    world.answer("a", UnreachableError("gone"))
    pass_time(world, 5, model("a", port=1))

    assert world.sent == ["a"] and said(world, NotMoved) == []


def test_list_is_read_between_idle_and_unload() -> None:
    """A model that another ended and a client brings up again is not killed while it loads."""
    world = begin(model("a", "unloaded"), machine=Machine())
    world.show(model("a", port=1))
    pass_until_look(world, 1.0)
    pass_time(world, 3, model("a", "loading", 2))
    assert world.sent == []
    pass_time(world, 1, model("a", port=2))

    assert world.sent == ["a"]


def test_news_of_a_model_hold_its_unload_back() -> None:
    """What the event stream says after the last look counts: the list is read once more."""
    machine = Machine()
    machine.in_flight["a"] = 1
    world = begin(model("a", "unloaded"), machine=machine)
    pass_time(world, 1, model("a", port=1))
    machine.in_flight["a"] = 0
    pass_until_look(world, 1.0)
    world.hear("a", "loading")
    assert world.sent == []
    pass_time(world, 1, model("a", "loading", 2))

    assert world.sent == []


def pass_until_look(world: World, seconds: float) -> None:
    """Let time pass until the list is to be read because the guard has found somebody idle."""
    until = world.now + seconds
    while not world.looks and world.now < until:
        world.tick()
    assert world.looks


def test_model_that_never_comes_up_is_let_be() -> None:
    """A model that loads for ever is waited for, for as long as the hold lasts, and never killed."""
    world = begin(model("a", "unloaded"), machine=Machine(), until=4000.0)
    pass_time(world, 5000, model("a", "loading", 1))

    assert world.sent == []
    assert (world.report.ended, world.report.resident) == ("expired", ("a",))


def test_spared_residents_stay() -> None:
    """Of what is resident at the start, with ``takes_residents``, some may be left alone, until their process ends."""
    world = begin(model("a", port=1), model("b", port=2), machine=Machine(), takes_residents=True, spared=("b",))
    pass_time(world, 1, model("a", port=1), model("b", port=2))
    assert world.sent == ["a"]
    world.answer("a")
    pass_time(world, 3, model("a", "unloaded", 1), model("b", port=3))

    assert world.sent == ["a", "b"]


def test_pattern_is_resolved_once() -> None:
    """A hold of all that match a pattern touches nothing else."""
    selection = Selection((), True, patterns=("q*",))
    world = begin(model("qwen", "unloaded"), model("b", "unloaded"), machine=Machine(), selection=selection)
    pass_time(world, 3, model("qwen", port=1), model("b", port=2))

    assert world.sent == ["qwen"]


def begin_unseen(**options: object) -> World:
    """A held model has come up, and neither machine nor router tells what it answers."""
    world = begin(model("a", "unloaded"), **options)  # type: ignore[arg-type]  # options are the verb's own
    world.in_flight["a"] = RefusedError("no", status=501)
    pass_time(world, 10, model("a", port=1))
    return world


def test_work_that_cannot_be_seen_is_not_cut() -> None:
    """A model whose requests can't be seen stays, and that is said once."""
    world = begin_unseen()

    assert (world.sent, said(world, WorkUnseen)) == ([], [WorkUnseen("a")])


def test_force_unloads_what_cannot_be_seen() -> None:
    """With force it goes all the same."""
    world = begin_unseen(force=True)

    assert (world.sent, said(world, WorkUnseen)) == (["a"], [])


def test_force_cuts_after_the_grace() -> None:
    """With force, requests in flight are waited for as long as the grace lasts, and no longer."""
    machine = Machine()
    machine.in_flight["a"] = 1
    world = begin(model("a", "unloaded"), machine=machine, force=True, grace_s=5.0)
    came = world.now
    while not world.sent:
        pass_time(world, 0.1, model("a", port=1))
    assert 5 <= world.now - came < 6
    world.answer("a")
    world.hear("a", "unloaded")
    pass_time(world, 0.01, model("a", "unloaded", 1))

    assert [fact.cut for fact in said(world, WentAgain)] == [1]  # type: ignore[attr-defined]  # of one kind


def test_restart_of_the_router_is_no_eviction() -> None:
    """What is missing after the router was away was not evicted for whoever comes up first."""
    world = begin(model("a", "unloaded"), model("warm", port=1), machine=Machine(), selection=Selection(("a",)))
    world.fail_look(UnreachableError("gone"))
    pass_time(world, 1, model("a", "unloaded"), model("warm", "unloaded", None))
    pass_time(world, 1, model("a", "loading", 2), model("warm", "unloaded", None))

    assert said(world, CameUp) == [CameUp("a", (), 1)]


def test_child_that_the_list_hides_is_seen_off() -> None:
    """A hold of all takes a model that the list hides, known from the event stream alone, once it is up."""
    machine = Machine()
    machine.hidden["twin"] = 7
    world = begin(model("a", "unloaded"), machine=machine)
    world.hear("twin", "loading")
    pass_time(world, 3, model("a", "unloaded"))
    assert world.sent == []
    world.hear("twin", "loaded")
    pass_time(world, 1, model("a", "unloaded"))
    assert world.sent == ["twin"]
    world.answer("twin")
    world.hear("twin", "unloaded")
    pass_time(world, 1, model("a", "unloaded"))

    assert [fact.model for fact in said(world, WentAgain)] == ["twin"]  # type: ignore[attr-defined]  # of one kind


def test_hidden_child_of_before_is_left_alone() -> None:
    """A model that the list hides and that was up before the hold began is not touched when it sleeps or wakes."""
    machine = Machine()
    machine.hidden["twin"] = 7
    world = begin(model("a", "unloaded"), machine=machine)
    for status in ("sleeping", "loaded"):
        world.hear("twin", status)
        pass_time(world, 3, model("a", "unloaded"))

    assert world.sent == []

"""Draining: who is waited for, who goes, who is left alone, and what is said of what was cut."""

from __future__ import annotations

import pytest

from corral.ops import Measure, Selection, Unload, Waiting
from corral.ops.measurement import Child, Device, DeviceUse, Holder, Measurement, Process
from corral.wire import Model, RefusedError, UnreachableError
from tests.ops.world import Machine, World, model

ALL = Selection((), True)
NO_SLOTS = RefusedError("This server does not support slots endpoint.", status=501)


def begin(*models: Model, machine: Machine | None, in_flight: dict[str, int] | None = None, **options: object) -> World:
    """Look, measure, open the stream, look again."""
    if machine is not None:
        machine.in_flight.update(in_flight or {})
    world = World(Unload(ALL, **options), machine)  # type: ignore[arg-type]  # options are the verb's own
    world.in_flight.update(in_flight or {})
    world.show(*models)
    if world.listens:
        world.open_stream()
        world.show(*models)
    return world


@pytest.fixture(params=["connections", "child"])
def machine(request: pytest.FixtureRequest) -> Machine | None:
    """The two sources of what is in flight: the machine, or the child itself when the machine is another."""
    return Machine() if request.param == "connections" else None


def set_busy(world: World, model_id: str, count: int) -> None:
    """What both sources say from now on."""
    world.in_flight[model_id] = count
    if world.machine is not None:
        world.machine.in_flight[model_id] = count


def test_busy_model_is_waited_for(machine: Machine | None) -> None:
    """A model with requests in flight is asked to go only when they have ended."""
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 2})
    while world.now < 110:
        assert world.sent == []
        world.tick()
    set_busy(world, "a", 0)
    started = world.now
    while not world.sent:
        world.tick()

    assert world.now - started <= 1.0
    waits = [fact.models[0] for fact in world.said if isinstance(fact, Waiting)]
    assert ("a", "2 requests in flight") in waits


def test_busy_model_does_not_hold_up_the_others(machine: Machine | None) -> None:
    """Idle models go at once, however busy another is."""
    world = begin(model("a", port=1), model("b", port=2), model("c", port=3), machine=machine, in_flight={"b": 1})
    world.answer("a")

    assert world.sent == ["a", "c"] and world.now - 100 < 0.1


def test_still_busy_at_the_end_of_the_grace_is_left_alone(machine: Machine | None) -> None:
    """Without force nothing is asked of the router, and the report says what was in flight."""
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 3}, grace_s=5.0)
    while world.report is None:
        if world.looks:
            world.show(model("a", port=1))
        else:
            world.tick()
    outcome = world.report.outcomes[0]

    assert (outcome.outcome, outcome.in_flight, outcome.cut, world.sent) == ("still_busy", 3, None, [])
    assert world.now - 100 == pytest.approx(5, abs=1.1) and not world.report.ok


def test_force_cuts_after_the_grace_and_counts(machine: Machine | None) -> None:
    """With force the busy model goes when the grace is over, and the number of cut requests is reported."""
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 3}, grace_s=5.0, force=True)
    while not world.sent:
        assert world.now < 107
        if world.looks:
            world.show(model("a", port=1))
        else:
            world.tick()
    assert world.now - 100 >= 5
    world.answer("a")
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1))
    outcome = world.report.outcomes[0]

    assert (outcome.outcome, outcome.cut) == ("unloaded", 3) and "3 requests were cut" in outcome.detail


def test_at_once_waits_for_nobody(machine: Machine | None) -> None:
    """``at_once`` is no grace, with force."""
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 1}, at_once=True)

    assert world.sent == ["a"] and world.now - 100 < 0.1


def test_without_waiting_a_busy_model_is_left_alone(machine: Machine | None) -> None:
    """No waiting means no grace either, unless one is named."""
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 1}, wait=False)

    assert world.outcome("a") == "still_busy" and world.sent == []


def test_request_that_slipped_in_is_counted() -> None:
    """What the look after the request shows in flight was not there before it: it is cut, and told."""
    machine = Machine()
    world = begin(model("a", port=1), machine=machine)
    machine.in_flight["a"] = 1
    world.answer("a")
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1))
    outcome = world.report.outcomes[0]

    assert (outcome.outcome, outcome.cut) == ("unloaded", 1)
    assert "1 request was cut" in outcome.detail


def test_one_look_before_each_request_and_one_after() -> None:
    """With three models the machine is looked at before every request anew, and after it."""
    machine = Machine()
    models = [model(name, port=index) for index, name in enumerate("abc", 1)]
    world = begin(*models, machine=machine)
    counts = []
    for name in "abc":
        assert world.sent[-1] == name
        counts.append(len(machine.looks))
        world.answer(name)

    assert counts == [2, 3, 4] and len(machine.looks) == 5


def test_a_look_between_two_requests_is_about_these_alone() -> None:
    """With many models, the look after one request and before the next asks about these two, which is quick."""
    machine = Machine()
    models = [model(name, port=number) for number, name in enumerate("abcd", 1000)]
    world = begin(*models, machine=machine)
    for name in "abc":
        world.answer(name)

    assert world.sent == ["a", "b", "c", "d"]
    assert [look.only for look in machine.looks][-3:] == [("a", "b"), ("b", "c"), ("c", "d")]


def test_model_that_turns_busy_in_line_is_waited_for() -> None:
    """A model that was idle at the first look, but not when its turn came, stays."""
    machine = Machine()
    world = begin(model("a", port=1), model("b", port=2), machine=machine)
    assert world.sent == ["a"]
    machine.in_flight["b"] = 1
    world.answer("a")

    assert world.sent == ["a"]


def test_sleeping_model_is_never_asked() -> None:
    """A sleeping model is idle without asking its child, which would wake it."""
    world = begin(model("a", "sleeping", port=1), machine=None)

    assert world.sent == ["a"] and world.asked == []


def test_child_is_asked_once_a_second() -> None:
    """On another machine a busy child is asked no more than once a second."""
    world = begin(model("a", port=1), machine=None, in_flight={"a": 1})
    while world.now < 110:
        world.tick()

    assert 9 <= len(world.asked) <= 11


@pytest.mark.parametrize("options", [{}, {"wait": False}])
def test_what_cannot_be_seen_is_refused(options: dict[str, object]) -> None:
    """Where no source shows what is in flight, the model is left alone at once."""
    world = World(Unload(ALL, **options))  # type: ignore[arg-type]  # options are the verb's own
    world.in_flight["a"] = NO_SLOTS
    world.show(model("a", port=1), has_events=False)
    while world.report is None:
        world.show(model("a", port=1), has_events=False)

    assert world.outcome("a") == "work_unseen" and world.sent == [] and world.now - 100 < 1


def test_what_cannot_be_seen_goes_with_force() -> None:
    """Force unloads it, and the report does not pretend to know what was cut."""
    world = World(Unload(ALL, force=True))
    world.in_flight["a"] = NO_SLOTS
    world.show(model("a", port=1), has_events=False)
    assert world.sent == ["a"]
    world.answer("a")
    world.show(model("a", "unloaded", 1), has_events=False)

    assert world.outcome("a") == "unloaded" and world.report.outcomes[0].cut is None


def test_many_children_are_asked_each_just_before_its_turn() -> None:
    """However many there are, each is asked once, and what it said is used a few calls later."""
    names = [f"m{number:02}" for number in range(50)]
    world = begin(*(model(name, port=number) for number, name in enumerate(names, 1)), machine=None)
    distances = [world.calls.index(("unload", name)) - world.calls.index(("ask", name)) for name in names]

    assert sorted(world.asked) == sorted(world.sent) == names and max(distances) <= 8


def test_process_that_has_just_ended_is_not_asked_about() -> None:
    """A child that the machine shows no more is waited for in the list, not asked: it was somebody else's unload."""
    machine = Machine()
    machine.absent = {"a"}
    world = begin(model("a", port=1), machine=machine)
    while world.now < 100.5:
        if world.looks:
            world.show(model("a", "unloaded", 1))
            break
        world.tick()

    assert world.outcome("a") == "unloaded" and world.asked == world.sent == []


def test_process_that_stays_unseen_is_asked() -> None:
    """Where the machine shows the router but never this child, the child is asked in the end."""
    machine = Machine()
    machine.absent = {"a"}
    world = begin(model("a", port=1), machine=machine)
    while not world.sent and world.now < 110:
        if world.looks:
            world.show(model("a", port=1))
        else:
            world.tick()

    assert world.sent == ["a"] and world.asked == ["a"] and len(machine.looks) < 60


@pytest.mark.parametrize("force", [False, True])
def test_child_that_does_not_answer_is_given_the_grace(force: bool) -> None:
    """A child that gives no answer may be busy: it is asked again until the grace ends, then left or forced."""
    world = World(Unload(ALL, grace_s=5.0, force=force))
    world.in_flight["a"] = UnreachableError("no answer")
    world.show(model("a", port=1), has_events=False)
    while world.report is None and not world.sent:
        world.show(model("a", port=1), has_events=False)

    assert 105 <= world.now < 107 and len(world.asked) >= 4
    assert world.sent == ["a"] if force else world.outcome("a") == "work_unseen"


def test_model_unloaded_by_somebody_else_meanwhile() -> None:
    """A busy model that goes without us counts as unloaded, and nothing is sent."""
    machine = Machine()
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 1})
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1))

    assert world.outcome("a") == "unloaded" and world.sent == []


def test_interrupt_while_draining_cuts_nothing() -> None:
    """Ctrl-C while a model is waited for: nothing was asked for it, and the report says so."""
    world = begin(model("a", port=1), machine=Machine(), in_flight={"a": 1})
    world.interrupt()

    assert world.outcome("a") == "not_requested" and world.sent == []


def test_freed_bytes_are_those_of_the_child() -> None:
    """What the process held before counts as freed once it is seen to be gone."""
    machine = Machine()
    machine.held_bytes = {"a": 1000, "b": 500}
    world = begin(model("a", port=1), model("b", port=2), machine=machine)
    world.answer("a")
    world.answer("b")
    world.show(model("a", "unloaded", 1), model("b", "unloaded", 2))

    assert [item.freed_bytes for item in world.report.outcomes] == [1000, 500]
    assert (world.report.freed_bytes, world.report.verified) == (1500, "memory")


def test_memory_is_measured_anew_after_a_long_wait() -> None:
    """What a model holds is read again right before its request when the first reading has aged."""
    machine = Machine()
    machine.held_bytes["a"] = 1000
    world = begin(model("a", port=1), machine=machine, in_flight={"a": 1})
    while world.now < 105:
        world.tick()
    machine.held_bytes["a"] = 4000
    machine.in_flight["a"] = 0
    while not world.sent:
        world.tick()
    world.answer("a")
    world.show(model("a", "unloaded", 1))

    assert world.report.freed_bytes == 4000


def test_process_that_outlives_its_listing_is_not_freed() -> None:
    """A model listed as unloaded whose process lives on is not called freed, and the process is named."""
    machine = Machine()
    machine.undead = {"a"}
    world = begin(model("a", port=1), machine=machine)
    world.answer("a")
    world.hear("a", "unloaded")
    while world.report is None:
        if world.looks:
            world.show(model("a", "unloaded", 1))
        else:
            world.tick()
    outcome = world.report.outcomes[0]

    assert outcome.outcome == "not_seen_free" and "5001" in outcome.detail and outcome.freed_bytes is None


def unload_beside_a_busy_one(machine: Machine, **options: object) -> World:
    """One model of two has gone, and half a second has passed in which the other is busy."""
    machine.held_bytes = {"a": 1000}
    world = begin(model("a", port=1), model("b", port=2), machine=machine, in_flight={"b": 1}, **options)
    world.answer("a")
    world.hear("a", "unloaded")
    until = world.now + 0.5
    while world.now < until:
        if world.looks:
            world.show(model("a", "unloaded", 1), model("b", port=2))
        else:
            world.tick()
    return world


def test_proof_does_not_wait_for_those_that_are_busy() -> None:
    """What has gone is seen to be free while others are waited for, so that Ctrl-C finds it proven."""
    world = unload_beside_a_busy_one(Machine())
    world.interrupt()

    first = world.report.outcomes[0]
    assert ("unloaded", 1000, "") == (first.outcome, first.freed_bytes, first.detail)
    assert "memory" == world.report.verified


def test_proof_is_not_lost_to_a_short_timeout() -> None:
    """When the time is up before a busy model has ended, those that went are not called into doubt."""
    world = unload_beside_a_busy_one(Machine(), timeout_s=2.0)
    while world.report is None:
        if world.looks:
            world.show(model("a", "unloaded", 1), model("b", port=2))
        else:
            world.tick()

    assert ["unloaded", "still_busy"] == [item.outcome for item in world.report.outcomes]


def test_process_that_lives_on_is_told_while_others_are_busy() -> None:
    """A process seen to outlive its model's listing is told even if the wait for others is cut short."""
    machine = Machine()
    machine.undead = {"a"}
    world = unload_beside_a_busy_one(machine)
    world.interrupt()

    assert "not_seen_free" == world.outcome("a")


def test_router_that_is_killed_while_a_model_is_busy() -> None:
    """Nothing is said of requests in flight, nor that none was cut, by a router that is gone."""
    world = begin(model("a", port=1), machine=Machine(), in_flight={"a": 1})
    while world.report is None:
        world.fail_look(UnreachableError("gone"))

    assert "not_requested" == world.outcome("a") and "went away" in world.report.outcomes[0].detail


def test_restarted_router_whose_child_is_seen_dead() -> None:
    """Where the machine shows that the old child is gone, no doubt is cast on it."""
    machine = Machine()
    machine.held_bytes = {"a": 1000}
    world = begin(model("a", port=1), machine=machine)
    world.answer("a")
    world.show(model("a", "unloaded", None))

    outcome = world.report.outcomes[0]
    assert ("the router itself was restarted meanwhile", 1000) == (outcome.detail, outcome.freed_bytes)


def test_what_nobody_looked_at_is_not_said_to_live() -> None:
    """Ctrl-C right after a model has gone: the list's word is told, and no process is claimed to be left."""
    machine = Machine()
    machine.held_bytes = {"a": 1000}
    world = begin(model("a", port=1), model("b", port=2), machine=machine, in_flight={"b": 1})
    world.answer("a")
    world.show(model("a", "unloaded", 1), model("b", port=2))
    world.interrupt()

    first = world.report.outcomes[0]
    assert ("unloaded", None, "") == (first.outcome, first.freed_bytes, first.detail)
    assert "status only" == world.report.verified


def test_without_a_machine_the_status_alone_is_the_proof() -> None:
    """On another host the report says that the list is all there is, and why."""
    world = begin(model("a", port=1), machine=None)
    world.answer("a")
    world.show(model("a", "unloaded", 1))

    assert world.report.ok and world.report.verified == "status only" and world.report.freed_bytes is None
    assert world.report.unseen_reason == "the router is on another host"


def test_hidden_child_is_taken_by_all() -> None:
    """A child that the list hides is drained and unloaded under its name, and its end is seen by its process."""
    machine = Machine()
    machine.hidden = {"double": 9}
    machine.held_bytes["double"] = 700
    world = World(Unload(ALL), machine)
    world.show(model("a", "unloaded", None))
    assert world.sent == ["double"]
    world.answer("double")
    world.tick()
    assert world.report is None
    machine.hidden = {}
    while world.report is None:
        if world.looks:
            world.show(model("a", "unloaded", None))
        else:
            world.tick()

    assert world.report.ok and world.outcome("double") == "unloaded" and world.report.freed_bytes == 700


def test_look_at_a_hidden_child_proves_nothing_of_others() -> None:
    """While the end of a hidden child is looked for, a listed model whose process lives on is not called freed."""
    machine = Machine()
    machine.hidden = {"double": 9}
    machine.undead = {"a"}
    world = World(Unload(ALL), machine)
    world.show(model("a", port=1))
    world.open_stream()
    world.show(model("a", port=1))
    world.answer("a")
    world.answer("double")
    world.tick()
    machine.hidden = {}
    world.hear("a", "unloaded")
    while world.report is None:
        if world.looks:
            world.show(model("a", "unloaded", 1))
        else:
            world.tick()

    assert "not_seen_free" == world.outcome("a") and "unloaded" == world.outcome("double")


def test_hidden_child_is_left_alone_when_excepted_or_not_meant() -> None:
    """A name, a tag or an exception does not reach what is hidden."""
    for selection in (Selection(("a",)), Selection((), True, tags=("t",)), Selection((), True, patterns=("d*",))):
        machine = Machine()
        machine.hidden = {"double": 9}
        world = World(Unload(selection), machine)
        world.show(model("a", "unloaded", None))

        assert world.sent == []


class Gpu(Machine):
    """A machine with one device, whose figures the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.free_bytes = 1 << 30
        self.holds: tuple[Holder, ...] = ()

    def measure(self, effect: Measure):  # type: ignore[no-untyped-def]  # as the parent's
        """One look, with the device."""
        self.devices = (Device("nvidia:0", "GPU", 8 << 30, None, self.free_bytes, self.holds),)
        given = super().measure(effect)
        use = (DeviceUse("nvidia:0", 6 << 30),)
        children = tuple(
            Child(child.model, child.process, child.port, child.in_flight, 1 << 20, None, use)
            for child in given.measurement.children
        )
        return type(given)(Measurement(children, self.devices), given.living)


def wait_for_proof(world: World, until: float) -> None:
    """Let time pass with the list unchanged."""
    while world.report is None and world.now < until:
        if world.looks:
            world.show(model("a", "unloaded", 1))
        else:
            world.tick()


def test_device_memory_has_to_settle() -> None:
    """The free figure of a device that was used must stand still before the model counts as freed."""
    machine = Gpu()
    world = begin(model("a", port=1), machine=machine)
    world.answer("a")
    world.hear("a", "unloaded")
    for step in range(1, 5):
        machine.free_bytes = (1 + step) << 30
        wait_for_proof(world, world.now + 0.05)
        assert world.report is None
    settled = world.now
    wait_for_proof(world, world.now + 5)

    assert world.report.ok and 0.05 <= world.now - settled < 0.3
    assert world.report.freed_bytes == (6 << 30) + (1 << 20)


def test_dead_process_that_still_holds_the_device_is_named() -> None:
    """A device that lists a dead child is not free, and the report says who holds memory there."""
    machine = Gpu()
    world = begin(model("a", port=1), machine=machine)
    machine.holds = (Holder(Process(5001, 1, "llama-server"), 6 << 30), Holder(Process(77, 1, "blender"), 1 << 30))
    world.answer("a")
    world.hear("a", "unloaded")
    wait_for_proof(world, 1000)
    outcome = world.report.outcomes[0]

    assert outcome.outcome == "not_seen_free" and "blender (pid 77)" in outcome.detail
    assert world.now - 100 < 35

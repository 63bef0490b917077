"""The gateway's door: who goes on, who waits, who is refused, and what is loaded for whom."""

from __future__ import annotations

from itertools import count
from typing import Any

from corral.ops.admission import (
    CONTROL,
    LOAD,
    PROBE,
    STREAM,
    Admit,
    Closure,
    Effect,
    Held,
    Limits,
    MakeRoom,
    Refusal,
    Refuse,
    Request,
    StartLoad,
    WakeAt,
)
from corral.ops.door import Door
from corral.ops.promises import Hold, Moment, Owner, RouterKey
from corral.wire import Listing, Model

ROUTER = RouterKey("http://127.0.0.1:8081", "http://127.0.0.1:8081")
ANNA = Owner("anna", "box")


def hold(*models: str, ends_at: float = 1000.0, reason: str = "rendering", number: int = 1) -> Held:
    """A hold on models; on all where none is named."""
    named = models or None
    return Held(Hold(f"h{number}", ROUTER, named, ANNA, Moment(0.0), ends_at, reason), ends_at, "14:05 UTC")


def drain(ends_at: float = 30.0, park_s: float = 45.0) -> Closure:
    """A drain that somebody asked for."""
    return Closure("anna@box", "is being unloaded", ends_at, park_s)


class Gate:
    """A door with a router behind it that is as the test says, and a record of what was asked for."""

    def __init__(self, limits: Limits | None = None, **statuses: str) -> None:
        self.door = Door(limits or Limits())
        self.statuses = statuses
        self.numbers = count(1)
        self.wake_at: float | None = None
        self.show(0.0)

    def show(self, now: float, **statuses: str) -> list[Effect]:
        """The router's list is read."""
        self.statuses |= statuses
        models = [Model(name, status, (), (), None, None, 10.0, {}) for name, status in self.statuses.items()]
        return self.take(self.door.see(Listing(tuple(models), True), now, now))

    def take(self, effects: list[Effect]) -> list[Effect]:
        """Leave out the waking."""
        for effect in effects:
            if isinstance(effect, WakeAt):
                self.wake_at = effect.at
        return [effect for effect in effects if not isinstance(effect, WakeAt)]

    def ask(self, model: str | None, now: float = 1.0, **fields: Any) -> Any:
        """A request comes: its verdict, the effects where it brings something else, None while it waits."""
        effects = self.take(self.door.arrive(Request(next(self.numbers), model, **fields), now))
        return effects[0] if len(effects) == 1 else effects or None


def refused(effect: Any) -> Refusal:
    """The refusal of a request that was refused."""
    assert isinstance(effect, Refuse), effect
    return effect.refusal


# Nothing promised.


def test_nothing_promised() -> None:
    """While nothing is promised every request goes on as its client sent it, whatever the model's state."""
    gate = Gate(a="loaded", b="unloaded", c="loading")

    assert gate.ask("a") == Admit(1, None)
    assert gate.ask("b") == Admit(2, None)
    assert gate.ask("c") == Admit(3, None)
    assert gate.ask(None) == Admit(4, None)
    assert gate.ask("b", kind=PROBE) == Admit(5, None)
    assert gate.door.count_in_flight("b") == 1, "a look is no work"


# Drains.


def test_drain_parks_and_goes_on() -> None:
    """Requests that come during a drain wait, and afterwards go on in the order in which they came."""
    gate = Gate(a="loaded")
    closure = drain()
    gate.door.close("a", closure, 1.0)

    assert gate.ask("a", 2.0) is None
    assert gate.ask("a", 3.0) is None
    assert [Admit(1, None), Admit(2, None)] == gate.take(gate.door.reopen("a", closure, 4.0))


def test_drain_of_a_held_model() -> None:
    """A request that waited for the drain of a model that is then held is refused, and told by whom and until when."""
    gate = Gate(a="loaded")
    closure = drain()
    gate.door.close("a", closure, 1.0)
    assert gate.ask("a", 2.0) is None
    gate.door.promise([hold("a")], (), 3.0)

    gate.show(4.0, a="unloaded")
    refusal = refused(gate.take(gate.door.reopen("a", closure, 5.0))[0])

    assert (refusal.status, refusal.code, refusal.should_retry) == (503, "model_held", False)
    assert refusal.retry_after_s == 995.0
    for word in ("a", "anna@box", "14:05 UTC", "rendering", "h1"):
        assert word in refusal.message


def test_drain_lets_control_through() -> None:
    """What reads or stops a stream passes a drain, since it may be what ends it."""
    gate = Gate(a="loaded")
    assert gate.ask("a") == Admit(1, None)
    gate.door.close("a", drain(), 1.0)

    assert gate.ask("a", 2.0, kind=CONTROL) == Admit(2, False)
    assert gate.ask("a", 2.0, kind=PROBE) == Admit(3, False), "looking at a busy model stops nothing"
    assert gate.ask("a", 2.0, kind=STREAM) == Admit(4, False)
    assert gate.door.count_in_flight("a") == 2, "the answer and the one who reads it anew"


def test_drain_waits_no_longer_than_said() -> None:
    """A request waits for a drain only as long as the drain says, and is then told why."""
    gate = Gate(a="loaded")
    gate.door.close("a", drain(ends_at=500.0, park_s=45.0), 1.0)
    assert gate.ask("a", 2.0) is None
    assert gate.wake_at == 47.0

    assert gate.take(gate.door.tick(46.9)) == []
    refusal = refused(gate.take(gate.door.tick(47.0))[0])

    assert (refusal.code, refusal.should_retry) == ("model_draining", False)
    assert "is being unloaded by anna@box" in refusal.message


def test_drain_without_parking() -> None:
    """A drain that keeps nobody waiting refuses at once."""
    gate = Gate(a="loaded")
    gate.door.close("a", drain(park_s=0.0), 1.0)

    assert refused(gate.ask("a", 2.0)).code == "model_draining"


def test_background_task_is_not_kept() -> None:
    """A background task is refused where a chat waits."""
    gate = Gate(a="loaded")
    gate.door.close("a", drain(), 1.0)

    assert gate.ask("a", 2.0) is None
    refusal = refused(gate.ask("a", 2.0, is_task=True))

    assert (refusal.code, refusal.should_retry) == ("model_draining", False)


def test_bounds() -> None:
    """Only so many requests, and so many bytes, wait at once; the others are told that too many do."""
    gate = Gate(Limits(parked_max=2, parked_bytes_max=100), a="loaded")
    gate.door.close("a", drain(), 1.0)

    assert gate.ask("a", size_bytes=60) is None
    assert refused(gate.ask("a", size_bytes=60)).code == "too_many_waiting"
    assert gate.ask("a", size_bytes=40) is None
    assert refused(gate.ask("a")).code == "too_many_waiting"
    assert (gate.door.parked, gate.door.parked_bytes) == (2, 100)

    gate.door.leave(1, "a", 2.0)
    assert (gate.door.parked, gate.door.parked_bytes) == (1, 40)
    assert gate.ask("a", 3.0) is None, "one that left makes place"


def test_client_leaves_while_parked() -> None:
    """A request whose client left gets no verdict any more."""
    gate = Gate(a="loaded")
    closure = drain()
    gate.door.close("a", closure, 1.0)
    assert gate.ask("a") is None
    assert gate.ask("a") is None

    assert gate.take(gate.door.leave(1, "a", 2.0)) == []
    assert gate.take(gate.door.reopen("a", closure, 3.0)) == [Admit(2, None)]


# Holds.


def test_hold_refuses_what_would_load() -> None:
    """A held model that is not up is not loaded; one that is up goes on serving, and never loads anything."""
    gate = Gate(a="unloaded", b="loaded")
    gate.door.promise([hold()], (), 1.0)

    assert refused(gate.ask("a", 2.0)).code == "model_held"
    assert gate.ask("b", 2.0) == Admit(2, False)
    assert gate.ask(None, 2.0) == Admit(3, False)
    assert gate.ask("a", 2.0, kind=PROBE) == Admit(4, False)


def test_hold_does_not_wake() -> None:
    """A held model that sleeps is not woken, by work or by looking; another one is."""
    gate = Gate(a="sleeping", b="sleeping")
    gate.door.promise([hold("a")], (), 1.0)

    assert refused(gate.ask("a", 2.0)).code == "model_held"
    assert refused(gate.ask("a", 2.0, kind=PROBE)).code == "model_held"
    assert gate.ask("b", 2.0) == Admit(3, False)


def test_short_hold_parks() -> None:
    """A request waits for a hold that ends soon, goes on when it does, and is loaded for then."""
    gate = Gate(a="unloaded")
    gate.door.promise([hold("a", ends_at=20.0)], (), 1.0)

    assert gate.ask("a", 2.0) is None
    assert refused(gate.ask("a", 2.0, is_task=True)).code == "model_held"
    assert gate.take(gate.door.promise([], (), 10.0)) == [Admit(1, None)]


def test_short_hold_made_longer() -> None:
    """A request that waits for a hold that is made longer is refused at once."""
    gate = Gate(a="unloaded")
    gate.door.promise([hold("a", ends_at=20.0)], (), 1.0)
    assert gate.ask("a", 2.0) is None

    effects = gate.take(gate.door.promise([hold("a", ends_at=20.0), hold(ends_at=900.0, number=2)], (), 3.0))

    assert "h2" in refused(effects[0]).message


def test_hold_lets_settle_what_is_loading() -> None:
    """A held model that is on its way up is waited for, and serves."""
    gate = Gate(a="loading")
    gate.door.promise([hold("a")], (), 1.0)

    assert gate.ask("a", 2.0) is None
    assert gate.show(3.0, a="loaded") == [Admit(1, False)]


def test_hold_and_a_load_that_fails_by_itself() -> None:
    """A held model that was on its way up and is not any more is held like any other."""
    gate = Gate(a="loading")
    gate.door.promise([hold("a")], (), 1.0)
    assert gate.ask("a", 2.0) is None

    assert refused(gate.show(3.0, a="unloaded")[0]).code == "model_held"


def test_hold_does_not_keep_others() -> None:
    """While one model is held, another one that is not up is loaded for whoever asks for it, once for all of them."""
    gate = Gate(a="unloaded", b="unloaded")
    gate.door.promise([hold("a")], (), 1.0)

    assert gate.ask("b", 2.0) == StartLoad("b")
    assert gate.ask("b", 2.1) is None
    assert gate.show(3.0, b="loading") == []
    assert gate.show(4.0, b="loaded") == [Admit(1, False), Admit(2, False)]
    assert gate.take(gate.door.answer_load("b", "", 4.1)) == []


def test_loads_one_at_a_time() -> None:
    """Loads are made one after another, in the order in which they were wanted."""
    gate = Gate(a="unloaded", b="unloaded", c="unloaded")
    gate.door.promise([hold("c")], (), 1.0)

    assert gate.ask("b", 2.0) == StartLoad("b")
    assert gate.ask("a", 2.1) is None
    assert gate.show(3.0, b="loaded") == [Admit(1, False)]
    assert gate.take(gate.door.answer_load("b", "", 3.1)) == [StartLoad("a")]


def test_failed_load_is_told() -> None:
    """Whoever waited for a load that failed is told so, and it is not tried again for them."""
    gate = Gate(a="unloaded", b="unloaded")
    gate.door.promise([hold("b")], (), 1.0)
    assert gate.ask("a", 2.0) == StartLoad("a")
    assert gate.ask("a", 2.0) is None

    effects = gate.take(gate.door.answer_load("a", "its child ended", 3.0))

    assert [refused(effect).code for effect in effects] == ["load_failed", "load_failed"]
    assert "its child ended" in refused(effects[0]).message


def test_client_without_autoload() -> None:
    """A client that wants nothing loaded gets nothing loaded, and the router's own answer."""
    gate = Gate(a="unloaded", b="unloaded")
    gate.door.promise([hold("b")], (), 1.0)

    assert gate.ask("a", autoload=False) == Admit(1, False)
    assert gate.ask("b", autoload=False) == Admit(2, False)


def test_router_without_autoload() -> None:
    """Behind a router that loads nothing by itself the gateway loads nothing either, unless the client says so."""
    gate = Gate(a="unloaded", b="unloaded")
    gate.door.autoloads = False
    gate.door.promise([hold("b")], (), 1.0)

    assert gate.ask("a") == Admit(1, False)
    assert gate.ask("a", autoload=True) == StartLoad("a")


def test_operator_loads() -> None:
    """An operator's load goes through the door as well: it waits until the model is up, and a hold refuses it."""
    gate = Gate(a="unloaded", b="unloaded", c="loaded")

    assert gate.ask("c", kind=LOAD) == Admit(1, False)
    assert gate.ask("a", kind=LOAD) == StartLoad("a")
    assert gate.show(2.0, a="loaded") == [Admit(2, False)]
    assert gate.take(gate.door.answer_load("a", "", 2.0)) == []
    assert gate.door.count_in_flight("a") == 0

    gate.door.promise([hold("b", ends_at=10.0)], (), 3.0)
    assert refused(gate.ask("b", 4.0, kind=LOAD)).code == "model_held"


def test_hold_is_settled() -> None:
    """A hold is settled when nothing that was let in before it can bring its models up any more."""
    gate = Gate(a="unloaded", b="unloaded")
    assert gate.ask("a") == Admit(1, None)
    gate.door.promise([hold()], (), 2.0)
    assert gate.door.list_unsettled(2.0) == ("a",)

    gate.door.leave(1, "a", 3.0)
    assert gate.door.list_unsettled(3.0) == ()


def test_router_may_be_evicting() -> None:
    """While the router may push a model out for what was let in before, an idle one that must not come back waits."""
    gate = Gate(a="loaded", b="unloaded", c="loaded")
    assert gate.ask("b") == Admit(1, None)
    assert gate.ask("c") == Admit(2, None)
    gate.door.promise([hold("a")], (), 2.0)

    assert gate.ask("c", 3.0) == Admit(3, None), "what is not held may be loaded again"
    assert gate.ask("a", 3.0) is None
    assert gate.show(4.0, b="loading") == [Admit(4, False)]


def test_hold_and_one_that_may_be_pushed_out() -> None:
    """A hold is not settled while what was let in to a model that is being pushed out may bring it back."""
    gate = Gate(a="loaded", b="unloaded")
    assert gate.ask("b") == Admit(1, None)
    assert gate.ask("a") == Admit(2, None)
    gate.door.promise([hold("a")], (), 2.0)
    assert gate.door.list_unsettled(2.0) == ("a",)

    gate.show(3.0, b="loading")
    assert gate.door.list_unsettled(3.0) == ()


def test_hold_settles_by_coming_up() -> None:
    """A request from before the hold may bring its model up; then that is resident, and the hold is settled."""
    gate = Gate(a="unloaded")
    assert gate.ask("a") == Admit(1, None)
    gate.door.promise([hold()], (), 2.0)

    gate.door.hear("a", "loaded", 3.0, 3.0)

    assert gate.door.list_unsettled(3.0) == ()


# Room.


def test_room_is_made() -> None:
    """At the router's maximum the model that has been idle for longest and is not pinned makes room."""
    gate = Gate(a="loaded", b="loaded", c="loaded", d="unloaded")
    gate.door.models_max = 3
    for at, name in ((2.0, "b"), (3.0, "c"), (4.0, "a")):
        admitted = gate.ask(name, at)
        gate.door.leave(admitted.id, name, at + 0.5)
    gate.door.promise([], ["b"], 5.0)

    assert gate.ask("d", 6.0) == MakeRoom("c", "d")
    assert gate.ask("c", 6.5) is None, "what comes for the victim waits, and is served in its turn"
    effects = gate.take(gate.door.answer_room("c", True, 7.0))
    assert effects == [StartLoad("d")]
    assert gate.show(8.0, c="unloaded", d="loaded")[0] == Admit(4, False)


def test_room_is_not_left_to_the_router() -> None:
    """Even while nothing is promised the router is never made to evict by itself, which may cut an answer."""
    gate = Gate(a="loaded", b="unloaded", c="unloaded")
    gate.door.models_max = 2

    assert gate.ask("b", 1.0) == Admit(1, None)
    assert gate.ask("b", 1.0) == Admit(2, None), "it has its place already"
    assert gate.ask("c", 1.0, autoload=False) == Admit(3, None)
    assert gate.ask("c", 1.0) == MakeRoom("a", "c")


def test_pinned_and_busy_make_no_room() -> None:
    """What is pinned or busy is never unloaded for another model: that waits until one is idle."""
    gate = Gate(a="loaded", b="loaded", c="unloaded")
    gate.door.models_max = 2
    gate.door.promise([], ["a"], 1.0)
    assert gate.ask("b", 2.0) == Admit(1, False)

    assert gate.ask("c", 3.0) is None
    assert gate.take(gate.door.leave(1, "b", 4.0)) == [MakeRoom("b", "c")]


def test_no_room_is_told() -> None:
    """A request for which no room came is told which models take the places."""
    gate = Gate(Limits(load_park_s=10.0), a="loaded", b="unloaded")
    gate.door.models_max = 1
    gate.door.promise([], ["a"], 1.0)
    assert gate.ask("b", 2.0) is None

    refusal = refused(gate.take(gate.door.tick(12.0))[0])

    assert (refusal.code, refusal.should_retry) == ("no_room", True)
    assert "a" in refusal.message


def test_victim_that_does_not_go() -> None:
    """A model that turns out to be busy for others is left alone for a while, and another one is tried."""
    gate = Gate(a="loaded", b="loaded", c="unloaded")
    gate.door.models_max = 2
    gate.door.promise([hold("x")], (), 1.0)
    assert gate.ask("c", 2.0) == MakeRoom("a", "c")

    assert gate.take(gate.door.answer_room("a", False, 3.0)) == [MakeRoom("b", "c")]
    assert gate.take(gate.door.answer_room("b", False, 3.5)) == []
    assert gate.wake_at is not None
    assert gate.take(gate.door.tick(8.0)) == [MakeRoom("a", "c")]


def test_held_makes_room_last() -> None:
    """Of two idle models the one that could not come back stays."""
    gate = Gate(a="loaded", b="loaded", c="unloaded")
    gate.door.models_max = 2
    gate.door.promise([hold("a")], (), 1.0)

    assert gate.ask("c", 2.0) == MakeRoom("b", "c")


# Knowledge.


def test_late_list() -> None:
    """A list that was asked for before an event does not undo what that said."""
    gate = Gate(a="loaded")
    gate.door.hear("a", "unloaded", 5.0, 5.0)
    gate.show(4.0, a="loaded")
    gate.door.promise([hold()], (), 6.0)

    assert refused(gate.ask("a", 6.0)).code == "model_held"


def test_router_gone() -> None:
    """When the router does not answer, nobody waits at the door for a state that nobody knows."""
    gate = Gate(a="loading")
    gate.door.promise([hold("a")], (), 1.0)
    assert gate.ask("a", 2.0) is None

    assert gate.take(gate.door.lose(3.0)) == [Admit(1, False)]


def test_stop() -> None:
    """When the gateway stops, whoever waits is told so, and nobody is kept waiting any more."""
    gate = Gate(a="loaded", b="loaded")
    gate.door.close("a", drain(), 1.0)
    assert gate.ask("a") is None

    assert refused(gate.take(gate.door.shut())[0]).code == "stopping"
    assert refused(gate.ask("a")).code == "stopping"
    assert gate.ask("b") == Admit(3, False), "what need not wait goes on as long as it can"
    assert gate.door.parked == 0

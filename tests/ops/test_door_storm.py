"""The gateway's door against any order of requests, drains, holds, pins, loads and bad luck."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from corral.ops.admission import (
    CONTROL,
    LOAD,
    PROBE,
    WORK,
    Admit,
    Closure,
    Effect,
    Held,
    Limits,
    MakeRoom,
    Refuse,
    Request,
    StartLoad,
    WakeAt,
)
from corral.ops.door import Door
from corral.ops.promises import Hold, Moment, Owner, RouterKey
from corral.wire import Listing, Model

MODELS = ("a", "b", "c", "d")
NAMES = st.sampled_from(MODELS)
ROUTER = RouterKey("http://127.0.0.1:8081", "http://127.0.0.1:8081")
LIMITS = Limits(parked_max=6, parked_bytes_max=600, load_park_s=60.0, settle_park_s=60.0, held_park_s=20.0)
PLACES = 2


class Storm(RuleBasedStateMachine):
    """A router with two places, a door before it, and clients; the router does what the real one would."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.door = Door(LIMITS, models_max=PLACES)
        self.status = dict.fromkeys(MODELS, "unloaded")
        self.requests: dict[int, Request] = {}
        self.queued: dict[int, str] = {}
        """Requests that wait in the router for a place."""
        self.open: dict[int, str] = {}
        """Requests in the router, by number."""
        self.waiting: list[int] = []
        """Requests without a verdict, in the order in which they came."""
        self.closures: dict[str, Closure] = {}
        self.holds: list[Held] = []
        self.pins: frozenset[str] = frozenset()
        self.load: str | None = None
        self.room: str | None = None
        self.wake_at: float | None = None
        self.due: list[Effect] = []
        self.is_doing = False
        self._show()

    # The router.

    def _show(self) -> None:
        models = [Model(name, status, (), (), None, None, 10.0, {}) for name, status in self.status.items()]
        self._take(self.door.see(Listing(tuple(models), True), self.now, self.now))

    def _count_places(self) -> int:
        return sum(status != "unloaded" for status in self.status.values())

    def _load(self, model: str) -> None:
        """The router loads for a request, evicting whoever is idle; nobody may be protected then."""
        assert not self.holds and not self.closures and not self.pins
        assert self._count_places() < PLACES, "the router never evicts by itself"
        self._set(model, "loaded")

    def _set(self, model: str, status: str) -> None:
        self.status[model] = status
        self._take(self.door.hear(model, status, self.now, self.now))

    # The gateway.

    def _take(self, effects: list[Effect]) -> None:
        """Do them in their order; what they bring about meanwhile comes after them, as it does in the gateway."""
        self.due += effects
        if self.is_doing:
            return
        self.is_doing = True
        while self.due:
            effect = self.due.pop(0)
            if isinstance(effect, Admit):
                self._admit(effect)
            elif isinstance(effect, Refuse):
                self._refuse(effect)
            elif isinstance(effect, StartLoad):
                assert self.load is None
                # A request that was let in just before, in the same step, may have the router load it already.
                assert self.status[effect.model] == "unloaded" or effect.model in self.open.values()
                assert not self._is_held(effect.model), "no load starts for a held model"
                taken = self._count_places() - (self.status[effect.model] != "unloaded")
                assert taken < PLACES, "the router need not make room by itself"
                self.load = effect.model
            elif isinstance(effect, MakeRoom):
                assert self.room is None
                assert effect.victim not in self.pins, "a pinned model is nobody's victim"
                assert effect.victim not in self.open.values()
                self.room = effect.victim
            else:
                assert isinstance(effect, WakeAt)
                self.wake_at = effect.at
        self.is_doing = False

    def _is_held(self, model: str) -> bool:
        return any(held.hold.covers(model) and held.ends_at > self.now for held in self.holds)

    def _admit(self, effect: Admit) -> None:
        request = self._settle(effect.id)
        model = request.model
        is_careful = bool(self.holds or self.pins or self.closures or self.room)
        # Whether it waits for a place in the router, or its model has just died, the door cannot tell.
        is_evicting = any(self.status[name] == "unloaded" for name in self.open.values())
        if is_careful and not (is_evicting and model is not None and self.status[model] in ("loaded", "sleeping")):
            assert effect.autoload is False, "nothing is left to the router while anything is promised"
        if is_careful and effect.autoload is None:
            assert model is not None and not self._is_held(model) and not self.pins
        if model is None or request.kind != WORK:
            return
        assert model not in self.closures, "a drained model takes no new request"
        earlier = [number for number in self.waiting if self.requests[number].model == model and number < effect.id]
        assert not earlier, "in order"
        self.open[effect.id] = model
        if effect.autoload is None and self.status[model] == "unloaded":
            self._load(model)
            if self.status[model] == "unloaded":
                self.queued[effect.id] = model
        elif effect.autoload is False and request.autoload is not False:
            assert self.status[model] in ("loaded", "sleeping"), "the router could only refuse it"
            assert not (self.status[model] == "sleeping" and self._is_held(model)), "what is held is not woken"

    def _refuse(self, effect: Refuse) -> None:
        request = self._settle(effect.id)
        refusal = effect.refusal
        assert request.model is not None and request.model in refusal.message
        assert refusal.status in (500, 503) and refusal.code
        if refusal.code == "model_held":
            assert "anna@box" in refusal.message and "14:05" in refusal.message and "h1" in refusal.message
            assert self._is_held(request.model)
        if refusal.code == "model_draining":
            assert "anna@box" in refusal.message or "the gateway" in refusal.message

    def _settle(self, number: int) -> Request:
        assert number in self.waiting, "one verdict for each"
        self.waiting.remove(number)
        return self.requests[number]

    # What happens.

    @initialize(
        first=st.sampled_from(("unloaded", "loaded", "sleeping")), second=st.sampled_from(("loaded", "sleeping"))
    )
    def begin(self, first: str, second: str) -> None:
        self.status |= {"a": first, "b": second}
        self._show()

    @rule(model=NAMES, kind=st.sampled_from((WORK, WORK, WORK, PROBE, CONTROL, LOAD)), size=st.integers(0, 200))
    def arrive(self, model: str, kind: str, size: int) -> None:
        self._arrive(model, kind=kind, size_bytes=size)

    @rule(model=NAMES, autoload=st.booleans(), is_task=st.booleans())
    def arrive_particular(self, model: str, autoload: bool, is_task: bool) -> None:
        self._arrive(model, autoload=autoload or None, is_task=is_task)

    def _arrive(self, model: str, **fields: Any) -> None:
        request = Request(len(self.requests) + 1, model, **fields)
        self.requests[request.id] = request
        self.waiting.append(request.id)
        self._take(self.door.arrive(request, self.now))
        if request.kind in (PROBE, CONTROL):
            assert request.id not in self.waiting, "a look never waits"

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.open)
    def end(self, which: int) -> None:
        number = list(self.open)[which % len(self.open)]
        model = self.open.pop(number)
        self.queued.pop(number, None)
        self._take(self.door.leave(number, model, self.now))

    @rule(which=st.integers(0, 50))
    @precondition(lambda self: self.waiting)
    def leave(self, which: int) -> None:
        number = self.waiting.pop(which % len(self.waiting))
        self._take(self.door.leave(number, self.requests[number].model, self.now))

    @rule(model=NAMES, park_s=st.sampled_from((0.0, 5.0, 45.0)))
    def begin_drain(self, model: str, park_s: float) -> None:
        if model not in self.closures:
            closure = Closure("anna@box", "is being unloaded", self.now + 30.0, park_s)
            self.closures[model] = closure
            self._take(self.door.close(model, closure, self.now))

    @rule(model=NAMES)
    def finish_drain(self, model: str) -> None:
        closure = self.closures.get(model)
        if closure is None:
            return
        if model not in self.open.values() and self.status[model] != "unloaded":
            self._set(model, "unloaded")
        del self.closures[model]
        self._take(self.door.reopen(model, closure, self.now))

    @rule(models=st.none() | st.sets(NAMES, min_size=1), lasts_s=st.sampled_from((5.0, 100.0)))
    def begin_hold(self, models: set[str] | None, lasts_s: float) -> None:
        named = None if models is None else tuple(sorted(models))
        hold = Hold("h1", ROUTER, named, Owner("anna", "box"), Moment(self.now), lasts_s, "rendering")
        self.holds.append(Held(hold, self.now + lasts_s, "14:05 UTC"))
        self._promise()

    @rule()
    def release(self) -> None:
        self.holds.clear()
        self._promise()

    @rule(pins=st.sets(NAMES, max_size=2))
    def pin(self, pins: set[str]) -> None:
        self.pins = frozenset(pins)
        self._promise()

    def _promise(self) -> None:
        self.holds = [held for held in self.holds if held.ends_at > self.now]
        self._take(self.door.promise(self.holds, self.pins, self.now))

    @rule(is_up=st.booleans())
    @precondition(lambda self: self.load is not None)
    def finish_load(self, is_up: bool) -> None:
        model, self.load = self.load, None
        assert model is not None
        if is_up:
            self.status[model] = "loaded"
        self._show()
        self._take(self.door.answer_load(model, "" if is_up else "its child ended", self.now))

    @rule(is_gone=st.booleans())
    @precondition(lambda self: self.room is not None)
    def finish_room(self, is_gone: bool) -> None:
        model = self.room
        assert model is not None
        if is_gone:
            self.status[model] = "unloaded"
        self.room = None
        self._take(self.door.answer_room(model, is_gone, self.now))

    @rule(model=NAMES)
    def fall_asleep(self, model: str) -> None:
        if self.status[model] == "loaded" and model not in self.open.values():
            self._set(model, "sleeping")

    @rule(model=NAMES)
    def crash(self, model: str) -> None:
        if self.status[model] != "unloaded" and model != self.room:
            self._set(model, "unloaded")

    @rule(seconds=st.sampled_from((0.1, 3.0, 30.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self._promise()
        self._take(self.door.tick(self.now))

    @invariant()
    def bounds(self) -> None:
        assert self.door.parked <= LIMITS.parked_max
        assert self.door.parked_bytes <= LIMITS.parked_bytes_max
        assert self.door.parked == len(self.waiting), "nobody is forgotten"
        assert self.door.parked_bytes == sum(self.requests[number].size_bytes for number in self.waiting)
        for model in MODELS:
            assert self.door.count_in_flight(model) == list(self.open.values()).count(model)

    @invariant()
    def woken(self) -> None:
        if self.waiting:
            assert self.wake_at is not None, "whoever waits is looked after"

    def teardown(self) -> None:
        """When all that was promised is over, everybody who still waits gets a verdict."""
        self.holds.clear()
        self.pins = frozenset()
        self._promise()
        for model in list(self.closures):
            closure = self.closures.pop(model)
            self._take(self.door.reopen(model, closure, self.now))
        for _ in range(20):
            if self.load is not None:
                self.finish_load(True)
            if self.room is not None:
                self.finish_room(True)
            for number in list(self.open):
                self._take(self.door.leave(number, self.open.pop(number), self.now))
        self.now += 1000.0
        self._take(self.door.tick(self.now))
        assert not self.waiting
        assert self.door.parked == 0 and self.door.parked_bytes == 0


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

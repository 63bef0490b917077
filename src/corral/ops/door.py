"""Who may pass to the router, who waits and who is refused: the gateway's admission, per model, as a pure machine.

The door knows exactly what is in flight, because all of it went through. Its rules::

    no hold, no drain, no pin      everything goes on as the client sent it, as long as the router has room for it
    a drain                        the model's new requests wait for its end, in order
    a hold                         what is up goes on; whatever would load or wake a held model is refused
    any of the three               autoload=false everywhere, and the door has the loads made that are allowed,
                                   one at a time, after making room by unloading an idle model that is not pinned

so that while anything is promised no request makes the router load, wake or evict a model by itself.

Every method takes the time and returns effects, in the order in which they are to be done. Rule for whoever edits
this: requests of one model go on in the order in which they came, and every one that came gets exactly one verdict,
unless ``leave`` said that its client has gone.
"""

from __future__ import annotations

from corral.ops import admission
from corral.ops.admission import (
    CONTROL,
    LOAD,
    PROBE,
    STREAM,
    Admit,
    Closure,
    Held,
    Limits,
    MakeRoom,
    Refusal,
    Refuse,
    Request,
    WakeAt,
)
from corral.ops.line import CLOSED, COMING, HELD, WANTED, Go, Line, Parked, Wait
from corral.ops.places import Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from corral.ops.admission import Effect
    from corral.wire import Listing

_HELD_SLACK_S = 1.0


class Door:
    """Decides on every request; the caller does what is asked for and tells what it sees.

    Parameters:
        limits: the bounds of what waits.
        autoloads: whether the router loads what a request names, when that says nothing about it.
        models_max: the router's places; None or less than 1 is no limit.
    """

    def __init__(self, limits: Limits, *, autoloads: bool = True, models_max: int | None = None) -> None:
        self.limits = limits
        self.autoloads = autoloads
        self._lines: dict[str, Line] = {}
        self._places = Places(self._lines, models_max)
        self._holds: tuple[Held, ...] = ()
        self._pinned: frozenset[str] = frozenset()
        self._parked_in: dict[int, Line] = {}
        self._parked_bytes = 0
        self._closed = 0
        """How many drains there are."""
        self._is_shut = False

    # What is to be seen from outside.

    @property
    def models_max(self) -> int | None:
        """The router's places; None or less than 1 is no limit."""
        return self._places.models_max

    @models_max.setter
    def models_max(self, value: int | None) -> None:
        self._places.models_max = value

    @property
    def is_careful(self) -> bool:
        """Whether anything is promised, so that no request may make the router load or evict by itself."""
        return bool(self._holds or self._pinned or self._closed)

    @property
    def parked(self) -> int:
        """How many requests wait."""
        return len(self._parked_in)

    @property
    def parked_bytes(self) -> int:
        """What the waiting requests occupy."""
        return self._parked_bytes

    @property
    def holds(self) -> tuple[Held, ...]:
        """The holds in force."""
        return self._holds

    @property
    def pinned(self) -> frozenset[str]:
        """The pinned models."""
        return self._pinned

    def lines(self) -> Iterable[Line]:
        """All models that were ever seen or asked for."""
        return self._lines.values()

    def find_line(self, model: str) -> Line | None:
        """What is known of one model; None when nothing is."""
        return self._lines.get(model)

    def count_in_flight(self, model: str) -> int:
        """Requests of a model that went in and have not come out."""
        line = self._lines.get(model)
        return 0 if line is None else len(line.in_flight)

    def find_hold(self, model: str, now: float) -> Held | None:
        """Of the holds on a model the one that lasts longest; None when it is not held."""
        covering = [held for held in self._holds if held.ends_at > now and held.hold.covers(model)]
        return max(covering, key=lambda held: held.ends_at, default=None)

    def list_unsettled(self, now: float) -> tuple[str, ...]:
        """Held models that may still come up for what was let in, or begun, before they were held."""
        lines = (line for line in self._lines.values() if self.find_hold(line.model, now) is not None)
        # What is up may be on its way out for one that is queued, and what was let in to it would bring it back.
        evicts = self._places.may_evict or self._places.is_asking
        return tuple(
            line.model
            for line in lines
            if line.is_coming or self._places.is_loading(line.model) or (evicts and any(line.in_flight.values()))
        )

    # Requests.

    def arrive(self, request: Request, now: float) -> list[Effect]:
        """A request has come; without a verdict among the effects it waits."""
        if request.model is None or request.kind in (CONTROL, STREAM):
            if request.model is not None and request.kind == STREAM:
                self._find(request.model, now).in_flight[request.id] = False
            return [Admit(request.id, False if self.is_careful else None)]
        line = self._find(request.model, now)
        if request.kind == PROBE:
            return [self._judge_probe(line, request, now)]
        verdict = self._judge(line, request, now)
        if isinstance(verdict, Refusal):
            return [Refuse(request.id, verdict)]
        if isinstance(verdict, Go):
            if not line.parked:
                return [self._admit(line, request, verdict)]
            # What came first goes first: it joins the line, which moves on at once.
            verdict = Wait(line.parked[-1].reason, self.limits.load_park_s)
        return self._park(line, request, verdict, now)

    def enter(self, request_id: int, model: str, now: float) -> None:
        """A load is asked of the router directly: until ``leave`` it may evict for it."""
        self._find(model, now).in_flight[request_id] = True

    def leave(self, request_id: int, model: str | None, now: float) -> list[Effect]:
        """A request is over, or its client has gone; harmless for one that was refused."""
        line = self._parked_in.pop(request_id, None)
        if line is not None:
            parked = next(parked for parked in line.parked if parked.request.id == request_id)
            line.parked.remove(parked)
            self._parked_bytes -= parked.request.size_bytes
            return self._turn(now)
        line = self._lines.get(model) if model is not None else None
        if line is None or line.in_flight.pop(request_id, None) is None:
            return []
        line.idle_since = now
        return self._turn(now) if self._parked_in else []

    # What is seen of the router.

    def see(self, listing: Listing, asked_at: float, now: float) -> list[Effect]:
        """The router's list, asked for at ``asked_at``."""
        known = {model.id: model.status for model in listing.models}
        changed = [self._find(model_id, now).learn(status, asked_at) for model_id, status in known.items()]
        changed += [line.learn(None, asked_at) for line in self._lines.values() if line.model not in known]
        return self._turn(now) if any(changed) else []

    def hear(self, model: str, status: str, at: float, now: float) -> list[Effect]:
        """The router says, or whoever just looked, that a model has this status since ``at``."""
        return self._turn(now) if self._find(model, now).learn(status, at) else []

    def lose(self, now: float) -> list[Effect]:
        """The router does not answer: nothing is known any more."""
        changed = [line.learn(None, now) for line in self._lines.values()]
        return self._turn(now) if any(changed) else []

    # What is promised.

    def promise(self, holds: Sequence[Held], pinned: Collection[str], now: float) -> list[Effect]:
        """These holds and pins are in force from now on, and no others."""
        self._holds = tuple(held for held in holds if held.ends_at > now)
        self._pinned = frozenset(pinned)
        return self._turn(now)

    def close(self, model: str, closure: Closure, now: float) -> list[Effect]:
        """A drain begins: the model's new requests wait from now on."""
        self._find(model, now).closures.append(closure)
        self._closed += 1
        return self._turn(now)

    def reopen(self, model: str, closure: Closure, now: float) -> list[Effect]:
        """A drain is over, whatever came of it."""
        line = self._find(model, now)
        if closure in line.closures:
            line.closures.remove(closure)
            self._closed -= 1
        return self._turn(now)

    # What came of what was asked for.

    def answer_load(self, model: str, failure: str, now: float) -> list[Effect]:
        """A load is over, and the list was read since; ``failure`` is empty when the model came up."""
        self._places.finish_load(model)
        line = self._find(model, now)
        if not failure:
            return self._turn(now)
        effects = self._refuse_all(line, admission.refuse_failed(model, failure))
        return [*effects, *self._turn(now)]

    def answer_room(self, victim: str, is_gone: bool, now: float) -> list[Effect]:
        """The unload of a model for another one is over."""
        line = self._find(victim, now)
        if is_gone:
            line.learn("unloaded", now)
        else:
            line.spared_until = now + self.limits.spare_s
        closure = self._places.finish_room(victim)
        return self._turn(now) if closure is None else self.reopen(victim, closure, now)

    def tick(self, now: float) -> list[Effect]:
        """The time asked for has come."""
        return self._turn(now)

    def shut(self) -> list[Effect]:
        """The gateway stops: who waits is refused, and nobody is kept waiting any more."""
        self._is_shut = True
        lines = dict.fromkeys(self._parked_in.values())
        return [effect for line in lines for effect in self._refuse_all(line, admission.REFUSED_AT_STOP)]

    # Inside.

    def _find(self, model: str, now: float) -> Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = Line(model, now)
        return line

    def _admit(self, line: Line, request: Request, verdict: Go) -> Admit:
        if request.kind != LOAD:
            line.in_flight[request.id] = verdict.autoload is None and self._wants_load(request)
        return Admit(request.id, verdict.autoload)

    def _judge_probe(self, line: Line, request: Request, now: float) -> Admit | Refuse:
        """A look never waits; it must not wake what is held or meet a child that stops."""
        if not self.is_careful:
            return Admit(request.id, None)
        held, closure = self.find_hold(line.model, now), line.closure
        if closure is not None and (line.status == "sleeping" or not line.in_flight):
            return Refuse(request.id, admission.refuse_closed(line.model, closure, now))
        if held is not None and line.status == "sleeping":
            return Refuse(request.id, admission.refuse_held(line.model, held, now))
        return Admit(request.id, False)

    def _judge(self, line: Line, request: Request, now: float) -> Go | Wait | Refusal:
        """What becomes of a request that is first in its model's line."""
        if line.closure is not None:
            refusal = admission.refuse_closed(line.model, line.closure, now)
            wait = Wait(CLOSED, line.closure.park_s)
            return self._spare_chat(request, wait, refusal)
        if not self.is_careful and request.kind != LOAD and not self._needs_room(line, request):
            return Go(None)
        held = self.find_hold(line.model, now)
        if line.status == "loaded" or (line.status == "sleeping" and held is None):
            return self._judge_up(line, held)
        if line.status == "loading":
            return Wait(COMING, self.limits.settle_park_s)
        if line.status not in ("unloaded", "failed", "sleeping"):
            # Not listed, downloading, or a word not known yet: with autoload=false the router says what it is.
            return Go(False)
        if held is not None:
            return self._judge_held(line, request, held, now)
        wants = request.kind == LOAD or self._wants_load(request)
        return Wait(WANTED, self.limits.load_park_s) if wants else Go(False)

    def _needs_room(self, line: Line, request: Request) -> bool:
        """Whether the router would have to evict another model for this request.

        It is not left to do so even while nothing is promised: it may choose one whose request is just on its way
        (seen on b11434: "evicting idle LRU" and, in the same millisecond, "proxying request" to it; that one is cut).
        """
        is_up = line.is_resident or line.is_coming or line.status not in ("unloaded", "failed")
        return not is_up and self._wants_load(request) and self._places.is_full

    def _wants_load(self, request: Request) -> bool:
        return self.autoloads if request.autoload is None else request.autoload

    def _judge_up(self, line: Line, held: Held | None) -> Go | Wait:
        """A model that is up goes on serving, unless what was let in before may push it out just now.

        The router shows nothing of that, and what is in flight here may have ended there: so one that must not be
        loaded again waits until it is decided, and any other may be loaded again by whoever comes.
        """
        places = self._places
        if not (places.may_evict or places.is_asking):
            return Go(False)
        is_free = held is None and not self._pinned and places.may_evict
        return Go(None) if is_free else Wait(COMING, self.limits.settle_park_s)

    def _judge_held(self, line: Line, request: Request, held: Held, now: float) -> Wait | Refusal | Go:
        if request.autoload is False and line.status != "sleeping" and request.kind != LOAD:
            # It would not load anything anyway, and gets the router's own words.
            return Go(False)
        refusal = admission.refuse_held(line.model, held, now)
        left_s = held.ends_at - now
        if request.kind == LOAD or left_s > self.limits.held_park_s:
            return refusal
        return self._spare_chat(request, Wait(HELD, left_s + _HELD_SLACK_S), refusal)

    def _spare_chat(self, request: Request, wait: Wait, refusal: Refusal) -> Wait | Refusal:
        if request.is_task and self.limits.refuses_tasks:
            return admission.refuse_task(refusal)
        return wait if wait.limit_s > 0 else refusal

    def _park(self, line: Line, request: Request, wait: Wait, now: float) -> list[Effect]:
        limits = self.limits
        if self._is_shut:
            return [Refuse(request.id, admission.REFUSED_AT_STOP)]
        is_full = len(self._parked_in) >= limits.parked_max
        if is_full or self._parked_bytes + request.size_bytes > limits.parked_bytes_max:
            return [Refuse(request.id, admission.refuse_crowd(line.model, limits))]
        line.parked.append(Parked(request, wait, now))
        self._parked_in[request.id] = line
        self._parked_bytes += request.size_bytes
        return self._turn(now)

    def _turn(self, now: float) -> list[Effect]:
        """Let on whoever may go on, refuse whoever waited in vain, and see to the loads that are wanted."""
        effects: list[Effect] = []
        for line in dict.fromkeys(self._parked_in.values()):
            effects += self._serve(line, now)
        effects += self._pump(now)
        wake = self._find_wake(now)
        return effects if wake is None else [*effects, WakeAt(wake)]

    def _serve(self, line: Line, now: float) -> Iterator[Effect]:
        """The head of the line decides for all behind it, except that each has a time of its own."""
        head_waits: Wait | None = None
        for parked in list(line.parked):
            verdict = head_waits or self._judge(line, parked.request, now)
            if isinstance(verdict, Wait):
                parked.keep(verdict, now)
                if now < parked.deadline:
                    head_waits = verdict
                    continue
                verdict = self._explain_wait(line, parked, now)
            self._unpark(line, parked)
            if isinstance(verdict, Go):
                yield self._admit(line, parked.request, verdict)
            else:
                yield Refuse(parked.request.id, verdict)
        if head_waits is not None and head_waits.reason == WANTED:
            self._places.want(line.model)

    def _unpark(self, line: Line, parked: Parked) -> None:
        line.parked.remove(parked)
        del self._parked_in[parked.request.id]
        self._parked_bytes -= parked.request.size_bytes

    def _refuse_all(self, line: Line, refusal: Refusal) -> list[Effect]:
        effects: list[Effect] = []
        for parked in list(line.parked):
            self._unpark(line, parked)
            effects.append(Refuse(parked.request.id, refusal))
        return effects

    def _explain_wait(self, line: Line, parked: Parked, now: float) -> Refusal:
        """It waited as long as it may."""
        held = self.find_hold(line.model, now)
        if parked.reason == CLOSED and line.closure is not None:
            return admission.refuse_closed(line.model, line.closure, now)
        if parked.reason == HELD and held is not None:
            return admission.refuse_held(line.model, held, now)
        if parked.reason == WANTED and not self._places.is_loading(line.model) and self._places.is_full:
            busy = [other.model for other in self._lines.values() if other.is_resident]
            return admission.refuse_room(line.model, self.models_max or 0, busy)
        return admission.refuse_slow(line.model, now - parked.since)

    def _pump(self, now: float) -> list[Effect]:
        """See to the loads that are wanted."""
        found = self._places.next(now, self._pinned, lambda model: self.find_hold(model, now) is not None)
        if found is None:
            return []
        effect, closure = found
        if closure is not None and isinstance(effect, MakeRoom):
            self._lines[effect.victim].closures.append(closure)
            self._closed += 1
        return [effect]

    def _find_wake(self, now: float) -> float | None:
        if not self._parked_in:
            return None
        times = [parked.deadline for line in dict.fromkeys(self._parked_in.values()) for parked in line.parked]
        times += [held.ends_at for held in self._holds if held.ends_at > now]
        times += [line.spared_until for line in self._lines.values() if line.spared_until > now]
        return min(times, default=None)

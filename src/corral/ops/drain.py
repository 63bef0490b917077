"""Whose turn it is to be unloaded: a model goes when nothing is in flight, and no sooner unless forced.

Sources, best first: the connections to the child's port, which the machine shows and which touches nothing; the
child's own count through the router (``/metrics``, else ``/slots``, once a second), allowed because the model is
to go anyway. A sleeping model is idle. What no source shows is not waited for: it is refused, or forced at once.

Of the connections one look comes just before each request and one just after it: what slipped in between is
counted. Rule for whoever edits this: a look serves one request only, and only in the step that brings it.
"""

from __future__ import annotations

from corral.ops.protocol import Ask, Measure, WakeAt
from corral.wire import RefusedError, count_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from corral.ops.measurement import Child, Measurement
    from corral.ops.protocol import Effect
    from corral.ops.unload_target import UnloadTarget
    from corral.wire import CorralError, Listing, Model

LOOK_S = 0.05
"""Between two looks at connections."""
ASK_S = 1.0
"""Between two questions to a child."""
_ASKED_AT_ONCE = 4
"""So many children are asked at a time: of more, the first answer would be old when its turn to be used comes."""
MEMORY_S = 1.0
"""A measurement of memory that is older is made anew before the request."""

GO = "go"
GIVE_UP = "give_up"
WAIT = "wait"

_LONG_AGO = -1e9
_PASSING_S = 1.0
_NEVER_TOLD = (401, 403, 404, 405, 501)
"""Statuses that asking again would not change; others come from a child that starts, stops or is slow to answer."""
_CONNECTIONS = "connections"
_CHILD = "child"
_NOTHING = "nothing"


class Work:
    """What is known of the work in flight of one model."""

    __slots__ = ("asked_at", "has_failed", "in_flight", "is_fresh", "missing_since", "since", "source")

    def __init__(self, since: float, source: str | None) -> None:
        self.since = since
        """When the model could have gone but for its work."""
        self.source = source
        """Where the knowledge comes from; None before the first look."""
        self.in_flight: int | None = None
        self.is_fresh = False
        self.asked_at = _LONG_AGO
        self.has_failed = False
        """The newest question to its child was not answered."""
        self.missing_since: float | None = None
        """Since when the machine does not show its process, though it shows the router's."""


class Drain:
    """Decides for each model when it may be asked to unload, and which looks that takes.

    Parameters:
        grace_s: how long to wait for work in flight, for each model from the moment when it could go.
        force: whether what is still busy then goes all the same.
        settle_s: how long a model stays that could go, since what waited for it may reach it only now.
        needs_memory: whether what a model holds must be known before it goes.
    """

    def __init__(self, grace_s: float, *, force: bool, settle_s: float = 0.0, needs_memory: bool = True) -> None:
        self._settle_s = settle_s
        self._needs_memory = needs_memory
        self._grace_s = grace_s
        self._force = force
        self._work: dict[str, Work] = {}
        self._children: dict[str, Child] = {}
        self._after: dict[str, UnloadTarget] = {}
        """Asked to go, and still to be looked at once afterwards."""
        self._unanswered: set[str] = set()
        self._asking: set[str] = set()
        """Those whose child was asked and has not answered yet."""
        self._only: tuple[str, ...] = ()
        """Those that the newest look is about; all when empty."""
        self._is_blind = False
        self._looked_at = self._looked_at_all = self._measured_at = _LONG_AGO

    def know(self, measurement: Measurement, now: float) -> None:
        """The machine as it was before anything began: what models hold, but too old to say that one is idle."""
        self._measured_at = self._looked_at_all = now
        self._is_blind = bool(measurement.reason)
        for child in measurement.children:
            self._children[child.model] = child

    def forget(self, model_id: str) -> None:
        """A new child of this model is there: what was known of the old one says nothing."""
        self._work.pop(model_id, None)
        self._children.pop(model_id, None)

    def find_child(self, model_id: str) -> Child | None:
        """The process of a model as measured last; None when it was not seen."""
        return self._children.get(model_id)

    def in_flight(self, model_id: str) -> int | None:
        """Requests in flight at the last look; None when not visible."""
        work = self._work.get(model_id)
        return work.in_flight if work is not None else None

    def is_unseen(self, model_id: str) -> bool:
        """Whether no source shows what this model has in flight."""
        work = self._work.get(model_id)
        return work is not None and (work.source == _NOTHING or work.has_failed)

    @property
    def misses_child(self) -> bool:
        """Whether the machine does not show a process that the list tells of: one of them is not up to date."""
        return any(work.source is None and work.missing_since is not None for work in self._work.values())

    def describe(self, model_id: str) -> str:
        """What is waited for, in words; empty when nothing is in flight."""
        count = self.in_flight(model_id)
        return "" if not count else f"{count} request{'s' if count > 1 else ''} in flight"

    def judge(self, target: UnloadTarget, now: float) -> str:
        """Whether a model that is up goes now: GO, WAIT for another look, or GIVE_UP."""
        work = self._begin(target.model_id, now)
        if target.status == "loading":
            return GO
        if work.source == _CHILD and target.status == "sleeping":
            work.in_flight = 0
            return GO
        if work.source == _NOTHING:
            return GO if self._force else GIVE_UP
        if work.source == _CONNECTIONS and self._unanswered:
            return WAIT
        if work.has_failed and now >= work.since + self._grace_s:
            return GO if self._force else GIVE_UP
        if not work.is_fresh or (work.in_flight == 0 and self._is_memory_due(work, now)):
            return WAIT
        if work.in_flight == 0:
            return GO if now >= work.since + self._settle_s else WAIT
        if now < work.since + self._grace_s:
            return WAIT
        return GO if self._force else GIVE_UP

    def next(
        self,
        ready: Sequence[UnloadTarget],
        listing: Listing,
        now: float,
        *,
        may_measure: bool,
        except_for: Collection[str] = (),
    ) -> list[Effect]:
        """The looks that are due for the models that wait for their turn, and when to wake; nothing is fresh after.

        ``may_measure`` is False while a look at the machine is under way; ``except_for`` are ids that wait for
        something else.
        """
        for target in ready:
            if target.model_id in self._work:
                self._work[target.model_id].is_fresh = False
        waiting = [
            (target.model_id, self._work[target.model_id])
            for target in ready
            if target.model_id in self._work and target.model_id not in except_for
        ]
        effects: list[Effect] = []
        if may_measure:
            effects = self._look_at_connections(waiting, listing.models, now)
        if any(work.source in (None, _CONNECTIONS) for _, work in waiting):
            effects.append(WakeAt(self._looked_at + LOOK_S))
        for model_id, work in waiting:
            if work.source != _CHILD:
                continue
            if work.asked_at + ASK_S <= now:
                if len(self._asking) >= _ASKED_AT_ONCE or (model := listing.find(model_id)) is None:
                    continue
                work.asked_at = now
                self._asking.add(model_id)
                effects.append(Ask(model_id, count_requests(model)))
            effects.append(WakeAt(min(work.asked_at + ASK_S, max(now + LOOK_S, work.since + self._grace_s))))
        return effects

    def _look_at_connections(
        self, waiting: Iterable[tuple[str, Work]], models: tuple[Model, ...], now: float
    ) -> list[Effect]:
        seen = {name: work for name, work in waiting if work.source in (None, _CONNECTIONS)}
        if self._unanswered or not (seen or self._after):
            return []
        is_settling = all(now < work.since + self._settle_s for work in seen.values())
        is_idle = any(not work.in_flight and work.missing_since is None for work in seen.values())
        is_turn = bool(self._after) or (is_idle and not is_settling)
        if not is_turn and now < self._looked_at + LOOK_S:
            return []
        memory = any(not work.in_flight and self._is_memory_due(work, now) for work in seen.values())
        self._looked_at = now
        if memory or not is_turn or now >= self._looked_at_all + LOOK_S:
            self._looked_at_all, self._only = now, ()
        else:
            # One look serves one request: those asked last, and who comes next.
            idle = [name for name, work in seen.items() if self._was_idle(name, work)]
            self._only = (*self._after, *idle[:1])
        return [Measure(models, memory, only=self._only)]

    def _was_idle(self, model_id: str, work: Work) -> bool:
        """Whether nothing was in flight when it was looked at last, if only to measure its memory."""
        child = self._children.get(model_id)
        in_flight = work.in_flight if work.source is not None or child is None else child.in_flight
        return in_flight == 0 and work.missing_since is None

    def sent(self, target: UnloadTarget) -> None:
        """Its request is about to go out."""
        work = self._work[target.model_id]
        # A child that said 0 can't be asked again while it stops: what slipped in stays unknown.
        target.cut = work.in_flight if work.source == _CONNECTIONS else work.in_flight or None
        if work.source == _CONNECTIONS:
            self._unanswered.add(target.model_id)

    def answered(self, target: UnloadTarget) -> None:
        """Its request was answered, or never went out: the next look is the one just after it."""
        if target.model_id in self._unanswered:
            self._unanswered.discard(target.model_id)
            self._after[target.model_id] = target

    def measured(self, measurement: Measurement, ready: Iterable[UnloadTarget], *, memory: bool, now: float) -> None:
        """The machine was looked at."""
        if memory:
            self.know(measurement, now)
        for target in ready:
            if self._only and target.model_id not in self._only:
                continue
            work = self._begin(target.model_id, now)
            child = measurement.find(target.model_id)
            if child is not None and child.in_flight is not None:
                work.source, work.in_flight, work.is_fresh = _CONNECTIONS, child.in_flight, True
                work.missing_since = None
            elif work.source != _NOTHING and not (child is None and _is_passing(work, measurement, now)):
                work.source = _CHILD
        for target in self._after.values():
            child = measurement.find(target.model_id)
            if child is not None and child.in_flight is not None:
                target.cut = max(child.in_flight, target.cut or 0)
        self._after.clear()

    def told(self, model_id: str, value: int | None, error: CorralError | None) -> None:
        """A child, or the router in its place, has answered."""
        self._asking.discard(model_id)
        work = self._work.get(model_id)
        if work is None:
            return
        work.has_failed = value is None
        if value is not None:
            work.in_flight, work.is_fresh = value, True
        elif isinstance(error, RefusedError) and error.status in _NEVER_TOLD:
            work.source, work.in_flight = _NOTHING, None

    def _begin(self, model_id: str, now: float) -> Work:
        work = self._work.get(model_id)
        if work is None:
            work = self._work[model_id] = Work(now, _CHILD if self._is_blind else None)
        return work

    def _is_memory_due(self, work: Work, now: float) -> bool:
        return self._needs_memory and work.source != _CHILD and now - self._measured_at > MEMORY_S


def _is_passing(work: Work, measurement: Measurement, now: float) -> bool:
    """Whether a process may be missing only because it has just ended or begun: the list will show that."""
    if measurement.reason:
        return False
    if work.missing_since is None:
        work.missing_since = now
    return now - work.missing_since < _PASSING_S

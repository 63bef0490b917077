"""The idle keeper on a stock router: look from time to time, and unload what has been idle for too long.

It decides which and when (``corral.ops.idle``), and an Unload of its own does each eviction: without any grace, since
a model that is asked for at that moment is in use again and stays. Nothing here asks a model anything: what such an
Unload would ask where the machine shows nothing is not asked, and the model stays.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.guard_facts import RouterBack, RouterLost
from corral.ops.idle import LOOK_S, IdleLimits, IdleTimes, Verdict, judge
from corral.ops.pace import GIVE_UP_S
from corral.ops.protocol import (
    Ask,
    Done,
    Ended,
    Heard,
    Listed,
    Listen,
    Look,
    LookFailed,
    Measure,
    Measured,
    Protected,
    Say,
    StreamLost,
    StreamOpened,
    Told,
    WakeAt,
    arrange,
)
from corral.ops.selection import Selection, find_models
from corral.ops.unload import Unload
from corral.wire import CorralError, Listing, Record, RefusedError, UnreachableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.ops.measurement import Measurement
    from corral.ops.outcome import UnloadReport
    from corral.ops.protocol import Effect, Input

LEAST_STEP_S = 0.5
"""Between two looks that nothing hurries."""
SOON_S = 0.05
"""After an event, so that several that come together bring one look."""
RETRY_S = 1.0
"""Between two tries at a router that does not answer."""
BLIND_STEP_S = 0.25
"""Between two looks at a machine that shows nothing, which may be a matter of the moment."""
BLIND_LOOKS = 4
"""So many in a row are no matter of the moment."""
PUT_OFF_S = 60.0
"""A model that would not go is not asked for again before."""
_DONE = (words.UNLOADED, words.NOT_SEEN_FREE, words.CAME_BACK)
_GONE = (words.ALREADY_UNLOADED, words.VANISHED)
"""Somebody else was sooner."""
_UNASKED = RefusedError("A keeper asks no model.", status=501)

INTERRUPTED = "interrupted"
TIME_UP = "time_up"
BLIND = "blind"


class Looked(Record):
    """The router was looked at; what is protected may be told now, before anything is decided."""

    models: tuple[str, ...]
    """The ids of all that are resident."""


class Watching(Record):
    """The first look at router and machine was good: the watch begins."""

    verdicts: tuple[Verdict, ...]
    listing: Listing


class Evicting(Record):
    """These have been idle for too long, and are unloaded now if they still are."""

    verdicts: tuple[Verdict, ...]


class Evicted(Record):
    """What came of it; a model may have stayed because it was asked for at that moment."""

    report: UnloadReport
    verdicts: tuple[Verdict, ...]


class SightLost(Record):
    """The machine does not show any more what is in flight; nothing is unloaded until it does."""

    reason: str


class SightBack(Record):
    """It is shown again."""


class KeepReport(Record):
    """The result of a keeper, which had to be ended."""

    ended: str
    """``interrupted``, ``time_up``, or ``blind`` when what is in flight could not be seen from the start."""
    seconds: float
    unloaded: int
    """How many times a model was unloaded."""
    reason: str = ""
    """Why nothing could be seen."""


class Keep:
    """The verb; ``Done.report`` is a KeepReport. It ends at ``until``, by Ended, an interruption, or if it can't see.

    Parameters:
        limits: for how long models may be idle.
        never: ids or aliases that are left alone; looked up once.
        until: on the driver's clock; None is never.

    ``on`` raises UnknownModelError, and what the first look raises unless nothing answers: that, and everything later,
    is said once, and outlived. Pinned models come as Protected, best in answer to each Looked.
    """

    def __init__(self, limits: IdleLimits, *, never: tuple[str, ...] = (), until: float | None = None) -> None:
        self._limits = limits
        self._named = never
        self._until = until
        self._never: frozenset[str] = frozenset()
        self._pinned: frozenset[str] = frozenset()
        self._times = IdleTimes()
        self._listing: Listing | None = None
        self._unload: Unload | None = None
        self._evicting: tuple[Verdict, ...] = ()
        self._refused_until: dict[str, float] = {}
        self._is_looking = self._is_measuring = self._stream_open = self._has_news = False
        self._look_at = 0.0
        self._failing_since: float | None = None
        self._is_lost = False
        self._blind_looks = 0
        self._has_seen = False
        self._unloaded = 0
        self._started_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When it ends at the latest; None is never."""
        return self._until

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = self._look_at = now
        return self._go_on([], now)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        if isinstance(given, Protected):
            self._pinned = frozenset(given.models)
            return []
        if isinstance(given, Ended):
            return self.interrupt(now)
        if isinstance(given, StreamOpened | StreamLost):
            self._stream_open = isinstance(given, StreamOpened)
        if self._unload is not None:
            return self._go_on(self._continue_unload(self._unload, given, now), now)
        said: list[Effect] = []
        if isinstance(given, Listed) and self._is_looking:
            said = self._take_listing(given.listing)
        elif isinstance(given, LookFailed) and self._is_looking:
            said = self._take_failure(given.error, now)
        elif isinstance(given, Measured) and self._is_measuring:
            said = self._take_measurement(given.measurement, now)
        elif isinstance(given, StreamOpened) or (isinstance(given, Heard) and _is_news(given)):
            self._has_news = True
            self._look_at = min(self._look_at, now + SOON_S)
        return self._go_on(said, now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; an eviction that is under way is told as far as it came."""
        said: list[Effect] = []
        if self._unload is not None:
            said = self._pass_on(self._unload, self._unload.interrupt(now), now)
        return [*said, *self._finish(INTERRUPTED, now)]

    def _go_on(self, effects: list[Effect], now: float) -> list[Effect]:
        """What was decided, and the look that is due; the end when it has come."""
        if any(isinstance(effect, Done) for effect in effects):
            return effects
        if self._unload is not None:
            return arrange(effects)
        if self._until is not None and now >= self._until:
            return [*effects, *self._finish(TIME_UP, now)]
        if not (self._is_looking or self._is_measuring):
            if now >= self._look_at:
                self._is_looking, self._has_news = True, False
                return [*effects, Look()]
            effects = [*effects, WakeAt(self._look_at)]
        if self._until is not None:
            effects = [*effects, WakeAt(self._until)]
        return arrange(effects)

    def _take_listing(self, listing: Listing) -> list[Effect]:
        said: list[Effect] = [Say(RouterBack())] if self._is_lost else []
        self._is_looking = self._is_lost = False
        self._failing_since = None
        if self._listing is None:
            self._never = frozenset(model.id for model in find_models(listing, self._named))
            if listing.has_events is not False:
                said.append(Listen())
        self._listing = listing
        self._is_measuring = True
        residents = tuple(model.id for model in listing.models if model.is_resident)
        return [*said, Say(Looked(residents)), Measure(listing.models, memory=False, recent=True)]

    def _take_failure(self, error: CorralError, now: float) -> list[Effect]:
        is_first = self._listing is None
        if is_first and not isinstance(error, UnreachableError):
            raise error
        self._is_looking = False
        self._look_at = now + RETRY_S
        if self._failing_since is None:
            self._failing_since = now
        if self._is_lost or not (is_first or now - self._failing_since >= GIVE_UP_S):
            return []
        self._is_lost = True
        return [Say(RouterLost(error))]

    def _take_measurement(self, measurement: Measurement, now: float) -> list[Effect]:
        self._is_measuring = False
        assert self._listing is not None, "the list came first"
        reason = find_blindness(measurement)
        if reason:
            return self._take_blindness(reason, now)
        said: list[Effect] = [Say(SightBack())] if self._blind_looks >= BLIND_LOOKS else []
        self._blind_looks = 0
        self._times.take(self._listing, measurement, now)
        verdicts = judge(self._times.tell(now), self._limits, never=self._never, pinned=self._pinned)
        if not self._has_seen:
            self._has_seen = True
            said.append(Say(Watching(tuple(verdicts), self._listing)))
        self._refused_until = {name: at for name, at in self._refused_until.items() if at > now}
        due = [verdict for verdict in verdicts if verdict.is_due and verdict.model not in self._refused_until]
        if due:
            return [*said, *self._begin_unload(due, now)]
        self._plan_look(verdicts, now)
        return said

    def _take_blindness(self, reason: str, now: float) -> list[Effect]:
        """What is in flight cannot be seen: nothing may go, for this moment or for good."""
        self._blind_looks += 1
        self._look_at = now + (BLIND_STEP_S if self._blind_looks < BLIND_LOOKS else LOOK_S)
        if self._blind_looks != BLIND_LOOKS:
            return []
        return [Say(SightLost(reason))] if self._has_seen else self._finish(BLIND, now, reason)

    def _plan_look(self, verdicts: Sequence[Verdict], now: float) -> None:
        """Often enough to miss no request, and when the next model is due."""
        step_s = min(LOOK_S, (self._limits.shortest_s or LOOK_S) / 10)
        waits = [verdict.left_s for verdict in verdicts if verdict.left_s]
        self._look_at = now + (SOON_S if self._has_news else max(LEAST_STEP_S, min([step_s, *waits])))

    def _begin_unload(self, due: Sequence[Verdict], now: float) -> list[Effect]:
        self._evicting = tuple(due)
        unload = self._unload = Unload(Selection(tuple(verdict.model for verdict in due)), grace_s=0.0)
        return [Say(Evicting(self._evicting)), *self._pass_on(unload, unload.start(now), now)]

    def _continue_unload(self, unload: Unload, given: Input, now: float) -> list[Effect]:
        try:
            effects = unload.on(given, now)
        except CorralError as error:
            # Before anything was asked for: a model that is not listed any more, a router that went away.
            self._unload = None
            self._look_at = now + RETRY_S
            return self._take_failure(error, now) if isinstance(given, LookFailed) else []
        return self._pass_on(unload, effects, now)

    def _pass_on(self, unload: Unload, effects: Sequence[Effect], now: float) -> list[Effect]:
        """What an eviction asks for, but for what the keeper answers itself: it listens already, and asks no model."""
        passed: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Listen):
                given: Input = StreamOpened() if self._stream_open else StreamLost(None)
                passed += self._pass_on(unload, unload.on(given, now), now)
            elif isinstance(effect, Ask):
                passed += self._pass_on(unload, unload.on(Told(effect.tag, None, _UNASKED), now), now)
            elif isinstance(effect, Done):
                passed += self._take_report(effect.report, now)  # type: ignore[arg-type]  # it is an Unload's
            else:
                passed.append(effect)
        return passed

    def _take_report(self, report: UnloadReport, now: float) -> list[Effect]:
        self._unload = None
        self._look_at = now + LEAST_STEP_S
        for item in report.outcomes:
            if item.outcome in _DONE:
                self._unloaded += 1
            elif item.outcome == words.STILL_BUSY:
                self._times.put_off(item.model, now)
            elif item.outcome not in _GONE:
                self._refused_until[item.model] = now + PUT_OFF_S
        return [Say(Evicted(report, self._evicting))]

    def _finish(self, ended: str, now: float, reason: str = "") -> list[Effect]:
        return [Done(KeepReport(ended, now - self._started_at, self._unloaded, reason))]


def find_blindness(measurement: Measurement) -> str:
    """Why requests in flight cannot be seen at all; empty when they can."""
    if measurement.reason:
        return measurement.reason
    children = measurement.children
    if children and all(child.in_flight is None for child in children):
        return children[0].reasons[0] if children[0].reasons else "connections cannot be seen"
    return ""


def _is_news(heard: Heard) -> bool:
    return heard.event.status is not None and heard.event.progress is None

"""A direct hold: watch for models that should stay away, and see each one off as gently as it can be done.

From outside the request path a model cannot be kept from coming up: a client's request loads it. So what comes up
is let finish loading, the requests that waited for it are answered, and then it is drained and unloaded. Killing
it sooner would be worse: on a router with a queue that can hang the loading of every model (measured on b11434).

What was resident at the start stays until something else ends its process, unless ``takes_residents``.

Another may unload a model, or the router evict it, just before this does; then a client brings it up again, and the
request would kill it while it loads. So the list is read once more between finding a model idle and asking for its end.
"""

from __future__ import annotations

from corral.ops.coverage import Coverage
from corral.ops.drain import GIVE_UP, GO, Drain
from corral.ops.guard_facts import (
    EXPIRED,
    INTERRUPTED,
    CameUp,
    GuardReport,
    NotMoved,
    RouterBack,
    RouterLost,
    WentAgain,
    WorkUnseen,
)
from corral.ops.hidden import HiddenModels
from corral.ops.outcome import Requested, Waiting
from corral.ops.pace import RETRY_S, Pace
from corral.ops.protocol import (
    Answered,
    Done,
    Ended,
    Heard,
    LetOut,
    Listed,
    Listen,
    LookFailed,
    Measure,
    Measured,
    Outranked,
    Say,
    Send,
    StreamLost,
    StreamOpened,
    Told,
    Unsent,
    WakeAt,
    arrange,
)
from corral.ops.selection import Selection, check_selection
from corral.ops.unload_target import BACK, GONE, READY, SENT, VANISHED, WAITING, UnloadTarget
from corral.wire import EVERY_MODEL, CorralError, Listing, Model, Record, unload_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from corral.ops.promises import Hold
    from corral.ops.protocol import Effect, Input

SETTLE_S = 0.2
"""How long a model that has just come up is left alone: what waited for it reaches it a moment later."""
EVICTION_S = 15.0
"""A model that went so shortly before another came up may have been evicted for it."""
REFUSED_S = 2.0
"""A model that the router would not unload is asked for again after this time."""
CONFIRMED_S = 3.0
"""For so long it counts that the list was read after a model was found idle."""
MINUTE_S = 60.0
_FOREVER_S = 1e12


class Refusal(Record):
    """The router would not unload a model."""

    retry_at: float
    port: int | None
    """Of the child that it was about."""
    error: CorralError | None


class Guard:
    """The verb; ``Done.report`` is a GuardReport. It ends at ``until``, by an Ended input or an interruption.

    Parameters:
        selection: which models to keep away; names are resolved once, ``all`` also covers what appears later.
        until: on the driver's clock; None is never.
        takes_residents: also see off what is resident at the start,
        spared: but not these ids.
        grace_s: how long requests in flight are waited for; None is as long as they take.
        force: then unload all the same, which cuts them; also where they can't be seen.
        known: the list by which the start is judged, so that what comes up before the first look counts; None: the
            first look is the start.

    ``start`` and ``on`` raise what the start raises, UnknownModelError among it; later failures are said, and outlived.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        until: float | None = None,
        takes_residents: bool = False,
        spared: Collection[str] = (),
        grace_s: float | None = None,
        force: bool = False,
        known: Listing | None = None,
    ) -> None:
        check_selection(selection)
        self._coverage = Coverage(selection)
        self._until = until
        self._takes_residents = takes_residents
        self._spared = frozenset(spared)
        self._force = force
        self._pace = Pace()
        grace_s = grace_s if force and grace_s is not None else _FOREVER_S
        self._drain = Drain(grace_s, force=force, settle_s=SETTLE_S, needs_memory=False)
        self._known = known
        self._listing: Listing | None = None
        self._elders: tuple[Hold, ...] = ()
        """Older holds, which others see to."""
        self._targets: dict[str, UnloadTarget] = {}
        self._came_at: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}
        """Those that were found to be free to go, by when; they go when the list was read since."""
        self._unseen: set[str] = set()
        """Those of which it was said that their work can't be seen."""
        self._refused: dict[str, Refusal] = {}
        self._hidden = HiddenModels()
        self._left_at: dict[str, float] = {}
        self._loads: dict[str, int] = {}
        self._recent: list[float] = []
        self._measuring: Measure | None = None
        self._is_lost = False
        self._started_at = 0.0

    @property
    def deadline(self) -> float | None:
        """When it ends at the latest; None is never."""
        return self._until

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = now
        said: list[Effect] = []
        if self._known is not None:
            said = self._begin(self._known)
            self._listing = self._known
        return [*said, *self._pace.next(now, _FOREVER_S)]

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        said: list[Effect] = []
        if isinstance(given, Listed):
            was_failing = self._pace.error is not None
            self._pace.looked(now)
            said = self._take_listing(self._hidden.add_to(given.listing), now, is_continuous=not was_failing)
        elif isinstance(given, LookFailed):
            said = self._take_failure(given.error, now)
        elif isinstance(given, StreamOpened | StreamLost):
            self._pace.stream_open = isinstance(given, StreamOpened)
            self._hidden.forget()
            self._pace.hurry()
        elif isinstance(given, Heard):
            self._take_event(given)
        elif isinstance(given, Answered | Unsent) and given.tag in self._targets:
            self._take_answer(given, now)
        elif isinstance(given, Measured) and self._measuring is not None:
            asked, self._measuring = self._measuring, None
            self._drain.measured(given.measurement, self._find_ready(), memory=asked.memory, now=now)
        elif isinstance(given, Told):
            self._drain.told(given.tag, given.value, given.error)
        elif isinstance(given, LetOut | Outranked):
            said = self._take_word(given)
        ended = given.reason if isinstance(given, Ended) else EXPIRED
        if isinstance(given, Ended) or (self._until is not None and now >= self._until):
            return self._finish(ended, now)
        return self._go_on(said, now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; nothing more is asked of the router."""
        return self._finish(INTERRUPTED, now)

    def _take_word(self, given: LetOut | Outranked) -> list[Effect]:
        if isinstance(given, Outranked):
            self._elders = given.holds
            return []
        self._coverage.let_out(given.models)
        return [Say(given)]

    def _take_listing(self, listing: Listing, now: float, *, is_continuous: bool) -> list[Effect]:
        said: list[Effect] = [Say(RouterBack())] if self._is_lost else []
        self._is_lost = False
        before = self._listing
        if before is None:
            said += self._begin(listing)
        elif is_continuous:
            self._note_departures(before, listing, now)
        self._listing = listing
        for model in listing.models:
            if self._coverage.covers(model.id) or model.id in self._targets:
                said += self._see(model, now, has_come=before is not None and _has_come(model, before))
        known = {model.id for model in listing.models}
        for model_id in [model_id for model_id in self._targets if model_id not in known]:
            self._targets[model_id].see(None, self._pace.asked_at, now)
            said += self._settle(model_id, now)
        return said

    def _begin(self, listing: Listing) -> list[Effect]:
        """Learn what is meant, and what may stay."""
        self._coverage.resolve(listing)
        for model in listing.models:
            is_met = self._takes_residents and model.id not in self._spared
            if model.is_resident and self._coverage.covers(model.id) and not is_met:
                self._coverage.allow(model)
        return [Listen()] if listing.has_events is not False else []

    def _forget_let_out(self) -> None:
        """What is not covered any more is nobody's business; one that was asked to go is watched until it has gone."""
        for model_id, target in [*self._targets.items()]:
            if target.phase != SENT and not self._coverage.covers(model_id):
                del self._targets[model_id]
                del self._came_at[model_id]

    def _see(self, model: Model, now: float, *, has_come: bool) -> list[Effect]:
        target = self._targets.get(model.id)
        if target is not None:
            target.see(model, self._pace.asked_at, now)
            return self._settle(model.id, now)
        if not model.is_resident:
            self._coverage.forbid(model.id)
            self._refused.pop(model.id, None)
            return []
        if self._coverage.allows(model):
            return []
        self._coverage.forbid(model.id)
        refusal = self._refused.get(model.id)
        if refusal is None or refusal.port != model.port:
            self._refused.pop(model.id, None)
            return self._meet(model, now, is_load=has_come)
        return [] if now < refusal.retry_at else self._meet(model, now, is_load=False)

    def _meet(self, model: Model, now: float, *, is_load: bool) -> list[Effect]:
        """A covered model is up that should not be."""
        self._targets[model.id] = UnloadTarget(model, WAITING if model.status == "loading" else READY)
        self._drain.forget(model.id)
        self._idle_since.pop(model.id, None)
        self._unseen.discard(model.id)
        self._came_at[model.id] = now
        if not is_load:
            return []
        self._loads[model.id] = self._loads.get(model.id, 0) + 1
        self._recent = [at for at in self._recent if now - at < MINUTE_S] + [now]
        evicted = tuple(
            sorted(gone for gone, at in self._left_at.items() if now - at < EVICTION_S and gone != model.id)
        )
        self._left_at.clear()
        return [Say(CameUp(model.id, evicted, len(self._recent)))]

    def _settle(self, model_id: str, now: float) -> list[Effect]:
        """Draw the conclusion about one that was seen off, or would not go."""
        target = self._targets[model_id]
        if not target.is_settled:
            return []
        del self._targets[model_id]
        came_at = self._came_at.pop(model_id)
        model = self._listing.find(model_id) if self._listing is not None else None
        if target.phase == VANISHED:
            return []
        if target.phase not in (GONE, BACK):
            return self._refuse(Refusal(now + REFUSED_S, None if model is None else model.port, target.error), model_id)
        self._refused.pop(model_id, None)
        said: list[Effect] = [Say(WentAgain(model_id, max(0.0, (target.gone_at or now) - came_at), target.cut))]
        if target.phase == BACK and model is not None and self._coverage.covers(model_id):
            said += self._meet(model, now, is_load=True)
        return said

    def _refuse(self, refusal: Refusal, model_id: str) -> list[Effect]:
        """It is asked again later; the same answer is said once."""
        before = self._refused.get(model_id)
        self._refused[model_id] = refusal
        is_news = before is None or str(before.error) != str(refusal.error)
        return [Say(NotMoved(model_id, refusal.error))] if is_news else []

    def _note_departures(self, before: Listing, listing: Listing, now: float) -> None:
        """Remember who was resident and is no longer, other than by this hold or the unload that it began with."""
        resident = {model.id for model in listing.models if model.is_resident}
        for model in before.models:
            is_meant_to_go = self._coverage.covers(model.id) and not self._coverage.allows(model)
            if model.is_resident and model.id not in resident | self._targets.keys() and not is_meant_to_go:
                self._left_at[model.id] = now

    def _take_failure(self, error: CorralError, now: float) -> list[Effect]:
        if self._listing is None:
            raise error
        if self._pace.failed(error, now) and not self._is_lost:
            self._is_lost = True
            return [Say(RouterLost(error))]
        return []

    def _take_event(self, heard: Heard) -> None:
        event = heard.event
        target = self._targets.get(event.model)
        if target is not None:
            target.hear(event.status, heard.at)
        if event.status is not None and event.progress is None:
            if event.model in self._idle_since:
                # What the list said of it is old news.
                self._idle_since[event.model] = heard.at
            if self._listing is not None:
                self._hidden.hear(event, self._listing)
            self._pace.hurry()
        elif event.model == EVERY_MODEL:
            self._pace.hurry()

    def _take_answer(self, given: Answered | Unsent, now: float) -> None:
        target = self._targets[given.tag]
        if isinstance(given, Unsent):
            target.unsend()
            return
        target.answer(given.error, now)
        self._drain.answered(target)
        self._pace.restart()

    def _go_on(self, said: list[Effect], now: float) -> list[Effect]:
        if self._listing is None:
            return [*said, *self._pace.next(now, _FOREVER_S)]
        self._forget_let_out()
        effects: list[Effect] = [*said, *self._see_off(now)]
        if any(target.is_doubtful or target.gone_at is not None for target in self._targets.values()):
            self._pace.hurry()
        looks = self._pace.next(now, _FOREVER_S)
        ready = self._find_ready()
        unconfirmed = [target.model_id for target in ready if not self._is_confirmed(target.model_id)]
        effects += self._drain.next(
            ready, self._listing, now, may_measure=self._measuring is None, except_for=unconfirmed
        )
        if self._targets:
            effects.append(Say(self._describe(now)))
        effects += looks
        if self._until is not None:
            effects.append(WakeAt(max(self._until, now + RETRY_S) if now >= self._until else self._until))
        for effect in effects:
            if isinstance(effect, Measure):
                self._measuring = effect
        return arrange(effects)

    def _see_off(self, now: float) -> list[Effect]:
        """Ask for the end of those whose turn it is."""
        effects: list[Effect] = []
        for target in self._find_ready():
            verdict = self._drain.judge(target, now) if target.status != "loading" else ""
            if verdict == GIVE_UP and target.model_id not in self._unseen:
                self._unseen.add(target.model_id)
                effects.append(Say(WorkUnseen(target.model_id)))
            if verdict == GO and target.model_id not in self._idle_since:
                self._idle_since[target.model_id] = now
            if verdict == GO and self._is_confirmed(target.model_id):
                del self._idle_since[target.model_id]
                target.send(now)
                self._drain.sent(target)
                effects.append(Say(Requested(target.model_id, "unload")))
                effects.append(Send(target.model_id, unload_model(target.model_id)))
            elif verdict == GO:
                self._pace.hurry()
            elif now - self._idle_since.get(target.model_id, now) > CONFIRMED_S:
                del self._idle_since[target.model_id]
        return effects

    def _is_confirmed(self, model_id: str) -> bool:
        """Whether the list was read since the model was found idle, if it was."""
        since = self._idle_since.get(model_id)
        return since is None or self._pace.has_seen_since(since)

    def _describe(self, now: float) -> Waiting:
        """Who is up that is to go, and why it has not gone yet."""
        waiting = [
            (target.model_id, self._drain.describe(target.model_id) or target.describe_wait())
            for target in self._targets.values()
        ]
        return Waiting(tuple(waiting), (self._until if self._until is not None else _FOREVER_S) - now)

    def _find_ready(self) -> list[UnloadTarget]:
        return [target for target in self._targets.values() if target.phase == READY and not self._is_left(target)]

    def _is_left(self, target: UnloadTarget) -> bool:
        """Whether an older hold sees it off; not what that one may have met as a resident, and not by force."""
        is_newcomer = target.model_id in self._loads and not self._force
        return is_newcomer and any(hold.covers(target.model_id) for hold in self._elders)

    def _finish(self, reason: str, now: float) -> list[Effect]:
        models = self._listing.models if self._listing is not None else ()
        resident = tuple(model.id for model in models if model.is_resident and self._coverage.covers(model.id))
        stopping = tuple((target.model_id, target.cut) for target in self._targets.values() if target.phase == SENT)
        loads = tuple(sorted(self._loads.items()))
        return [Done(GuardReport(reason, now - self._started_at, loads, resident, stopping))]


def _has_come(model: Model, before: Listing) -> bool:
    """Whether this is another child than the one in the list before, or there was none."""
    old = before.find(model.id)
    return old is None or not old.is_resident or (None not in (old.port, model.port) and old.port != model.port)

"""Unload models and see it done: look, listen, look again, ask each when it is idle, watch until all are gone.

Nothing is concluded from the router's ``success`` or from an event alone: the last word is always a look at the
list, and after it one at the machine, where that shows the models' processes. The looks stop when every model is
settled or the time is up.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops import plan as plans
from corral.ops.conclusion import find_newcomers, tell_verified
from corral.ops.drain import GIVE_UP, GO, WAIT, Drain
from corral.ops.measurement import Measurement
from corral.ops.outcome import Outcome, Requested, UnloadReport, Waiting
from corral.ops.pace import STREAM_S, Pace
from corral.ops.plan import PlannedUnload, plan_unload
from corral.ops.proof import LOOK_S, Proof
from corral.ops.protocol import (
    Answered,
    Done,
    Ended,
    Heard,
    Listed,
    Listen,
    LookFailed,
    Measure,
    Measured,
    Say,
    Send,
    StreamLost,
    StreamOpened,
    Tick,
    Told,
    Unsent,
    WakeAt,
    arrange,
)
from corral.ops.selection import Selection, check_selection, select
from corral.ops.unload_target import BUSY, GONE, READY, SENT, WAITING, UnloadTarget
from corral.wire import DEFAULT_STOP_TIMEOUT_S, EVERY_MODEL, CorralError, Listing, Model, unload_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops.protocol import Effect, Input

MARGIN_S = 20.0
"""What the default time limit adds to the grace period and the longest stop-timeout known."""
SOON_S = 0.1
"""After one of several models is heard to have gone, the list is read within this time."""
DEFAULT_GRACE_S = 30.0
"""How long work in flight is waited for."""


class Unload:
    """The verb; ``Done.report`` is an UnloadReport.

    Parameters:
        selection: which models.
        grace_s: how long work in flight is waited for; None means 30 s, or not at all without ``wait``.
        force: when the grace is over, unload what is still busy, and count the requests that this cuts.
        at_once: no grace, with force; and kill what is still loading, instead of letting it come up first.
        wait: watch until each was seen unloaded; False ends when the router has accepted the requests.
        timeout_s: counted from the start; None means grace, longest stop-timeout of the models and 20 s.

    ``start`` and ``on`` raise BadArgumentError, UnknownModelError and, as long as nothing was asked of the
    router, whatever the first look raised.
    """

    def __init__(
        self,
        selection: Selection,
        *,
        grace_s: float | None = None,
        force: bool = False,
        at_once: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        check_selection(selection)
        self._selection = selection
        self._at_once = at_once
        self._wait = wait
        self._timeout_s = timeout_s
        self._grace_s = 0.0 if at_once else grace_s if grace_s is not None else DEFAULT_GRACE_S if wait else 0.0
        self._drain = Drain(self._grace_s, force=force or at_once)
        self._proof = Proof()
        self._pace = Pace()
        self._listing = Listing((), None)
        self._before: Measurement | None = None
        """The machine before anything was asked."""
        self._plan: list[PlannedUnload] = []
        self._hidden: list[Model] = []
        self._targets: dict[str, UnloadTarget] = {}
        self._downloads: set[str] = set()
        self._started_at = 0.0
        self._sent_at = 0.0
        self._deadline = 0.0
        self._longest_s = 0.0
        """The longest stop-timeout of the models."""
        self._measuring: Measure | None = None
        self._listening = False
        self._awaits_stream = False
        self._acting = False

    @property
    def deadline(self) -> float:
        """When it ends at the latest."""
        return self._deadline

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = self._sent_at = now
        self._deadline = now + (self._timeout_s if self._timeout_s is not None else self._grace_s + MARGIN_S)
        return self._pace.next(now, self._deadline)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        if isinstance(given, Listed | LookFailed):
            return self._take_look(given, now)
        if isinstance(given, Ended):
            return self.interrupt(now)
        if isinstance(given, StreamOpened | StreamLost):
            self._pace.stream_open = isinstance(given, StreamOpened)
            self._awaits_stream = False
            self._pace.hurry()
        elif isinstance(given, Unsent):
            self._targets[given.tag].unsend()
            return []
        elif isinstance(given, Heard):
            self._take_event(given, now)
        elif isinstance(given, Answered | Told):
            self._take_answer(given, now)
        elif isinstance(given, Measured):
            return self._take_measurement(given, now)
        elif isinstance(given, Tick) and now >= self._pace.asked_at + STREAM_S:
            # No word of the stream at all: go on without it.
            self._awaits_stream = False
        return self._go_on(now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; the report says for each model what was and was not done."""
        return self._finish(now, interrupted=True)

    def _take_look(self, given: Listed | LookFailed, now: float) -> list[Effect]:
        if isinstance(given, LookFailed):
            return self._take_failure(given.error, now)
        self._pace.looked(now)
        return self._take_listing(given.listing, now)

    def _take_listing(self, listing: Listing, now: float) -> list[Effect]:
        self._listing = listing
        if not self._acting:
            return self._prepare(listing, now)
        known = {model.id: model for model in listing.models}
        hidden = {model.id for model in self._hidden}
        for target in self._targets.values():
            if target.model_id not in hidden:
                target.see(known.get(target.model_id), self._pace.asked_at, now)
        return self._go_on(now)

    def _prepare(self, listing: Listing, now: float) -> list[Effect]:
        """The first look makes the plan and measures; the one after the stream opened makes it anew and starts it."""
        self._plan = plan_unload(listing, self._selection, at_once=self._at_once)
        active = self._find_active()
        self._longest_s = max((item.model.stop_timeout_s for item in active), default=0.0)
        if self._timeout_s is None:
            self._deadline = self._started_at + self._grace_s + self._longest_s + MARGIN_S
        if self._before is not None:
            return self._begin(now)
        if self._measuring is not None:
            return []
        effects: list[Effect] = []
        if active and self._wait and listing.has_events is not False:
            self._listening = self._awaits_stream = True
            effects += [Listen(), WakeAt(now + STREAM_S)]
        return self._arrange([*effects, Measure(listing.models, bool(active))])

    def _find_active(self) -> list[PlannedUnload]:
        return [item for item in self._plan if item.action != plans.LEAVE]

    def _find_hidden(self, measurement: Measurement) -> list[Model]:
        """Children that the list hides (``dedup-cache-models``) are taken by ``all``, under the name they run by."""
        if not self._selection.all or self._selection.tags or self._selection.patterns:
            return []
        hidden = [child for child in measurement.children if child.is_hidden]
        return [
            _imagine(child.model, "loaded", child.port)
            for child in hidden
            if child.model not in self._selection.excepted
        ]

    def _begin(self, now: float) -> list[Effect]:
        for item in self._find_active():
            waits = item.action == plans.WAIT_THEN_UNLOAD
            self._targets[item.model.id] = UnloadTarget(item.model, WAITING if waits else READY)
            if item.action == plans.CANCEL_DOWNLOAD:
                self._downloads.add(item.model.id)
        for model in self._hidden:
            self._targets[model.id] = UnloadTarget(model, READY)
        self._acting = True
        return self._go_on(now)

    def _take_measurement(self, given: Measured, now: float) -> list[Effect]:
        asked, self._measuring = self._measuring, None
        if asked is None:
            return []
        if self._before is None:
            self._before = given.measurement
            self._hidden = self._find_hidden(given.measurement)
            if not self._find_active() and not self._hidden:
                return self._finish(now)
            self._drain.know(given.measurement, now)
            # With a stream, the look that counts is one asked for after it opened.
            return self._go_on(now) if self._listening else self._begin(now)
        if asked.processes:
            self._proof.take(given.measurement, asked.processes, given.living, now)
            for model in self._hidden:
                # The list is silent about these: the end of the process stands in for it.
                target = self._targets[model.id]
                if target.phase == SENT and self._proof.is_dead(model.id):
                    target.see(_imagine(model.id, "unloaded", model.port), now, now)
        else:
            self._drain.measured(given.measurement, self._find_ready(), memory=asked.memory, now=now)
            if self._drain.misses_child:
                self._pace.hurry_within(SOON_S, now)
        return self._go_on(now)

    def _take_failure(self, error: CorralError, now: float) -> list[Effect]:
        if not self._acting:
            raise error
        if self._pace.failed(error, now) or now >= self._deadline:
            return self._finish(now, error=self._pace.find_culprit())
        return self._go_on(now)

    def _take_event(self, heard: Heard, now: float) -> None:
        target = self._targets.get(heard.event.model)
        if target is not None and heard.event.status == "unloaded":
            # The last one to go brings a look at once; this is for a report that ends before.
            self._pace.hurry_within(SOON_S, now)
        if heard.event.model == EVERY_MODEL or (target and target.hear(heard.event.status, heard.at)):
            self._pace.hurry()

    def _take_answer(self, given: Answered | Told, now: float) -> None:
        target = self._targets.get(given.tag)
        if target is None:
            return
        if isinstance(given, Told):
            self._drain.told(given.tag, given.value, given.error)
            return
        target.answer(given.error, now)
        self._drain.answered(target)
        if target.model_id in self._downloads:
            self._pace.hurry()

    def _go_on(self, now: float) -> list[Effect]:
        """Send what may go, end when all is settled, look when only a look can tell."""
        if not self._acting:
            is_waiting = self._awaits_stream or self._measuring is not None
            return [] if is_waiting else self._pace.next(now, self._deadline)
        sent = self._send_ready(now)
        if sent:
            self._pace.restart()
            self._sent_at = now
        if self._timeout_s is None and not any(t.phase in (READY, WAITING) for t in self._targets.values()):
            # The grace is not needed any more.
            self._deadline = min(self._deadline, self._sent_at + self._longest_s + MARGIN_S)
        open_targets = [target for target in self._targets.values() if not target.is_settled]
        if now >= self._deadline or (open_targets and not sent and self._is_accepted(open_targets)):
            return self._finish(now)
        may_measure = self._measuring is None
        gone = [target.model_id for target in self._targets.values() if target.phase == GONE]
        if not open_targets and not (self._wait and any(map(self._proof.is_open, gone))):
            return self._finish(now)
        if any(target.is_doubtful for target in open_targets) or (
            open_targets and all(target.gone_at is not None for target in open_targets)
        ):
            self._pace.hurry()
        looks = self._drain.next(self._find_ready(), self._listing, now, may_measure=may_measure)
        if self._wait and may_measure and not _has_measure(looks):
            looks += self._look_for_proof(bool(open_targets), now)
        # What a look is about to show is told after it.
        said = [] if sent or _has_measure(looks) else [Say(self._describe(open_targets, gone, now))]
        return self._arrange([*sent, *looks, *said, *self._pace.next(now, self._deadline)])

    def _look_for_proof(self, has_open: bool, now: float) -> list[Effect]:
        """The look that shows whether what has gone gave back what it held.

        While others are still to go there is a pause before it, so that it holds up none of many that go at once.
        """
        watched = [model.id for model in self._hidden if self._targets[model.id].phase == SENT]
        gone = [target for target in self._targets.values() if target.phase == GONE]
        due = max((target.gone_at or now for target in gone), default=now) + SOON_S
        if has_open and not watched and now < due:
            return [WakeAt(due)]
        ids = [*watched, *(target.model_id for target in gone)]
        return self._proof.next(ids, self._listing, now, every_s=SOON_S if has_open and not watched else LOOK_S)

    def _arrange(self, effects: list[Effect]) -> list[Effect]:
        """Keep the look at the machine in mind, and only the earliest waking."""
        for effect in effects:
            if isinstance(effect, Measure):
                self._measuring = effect
        return arrange(effects)

    def _send_ready(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if now >= self._deadline:
            return effects
        for target in self._find_ready():
            verdict = WAIT if target.model_id in self._downloads else self._drain.judge(target, now)
            if verdict == GIVE_UP:
                target.phase = BUSY
            if verdict == GO:
                self._drain.sent(target)
                child = self._drain.find_child(target.model_id)
                if child is not None:
                    self._proof.expect(target.model_id, child)
                effects += self._send(target, now)
        if all(target.model_id in self._downloads for target in self._find_ready()):
            # The call for a download blocks until that has ended, so these go last.
            for target in self._find_ready():
                effects += self._send(target, now, apart=True)
        return effects

    def _send(self, target: UnloadTarget, now: float, *, apart: bool = False) -> list[Effect]:
        target.send(now)
        call = unload_model(target.model_id)
        return [Say(Requested(target.model_id, "unload")), Send(target.model_id, call, apart)]

    def _find_ready(self) -> list[UnloadTarget]:
        return [target for target in self._targets.values() if target.phase == READY]

    def _describe(self, open_targets: list[UnloadTarget], gone: list[str], now: float) -> Waiting:
        waiting, lasting = [], []
        for target in open_targets:
            busy = self._drain.describe(target.model_id) if target.phase == READY else ""
            waiting.append((target.model_id, busy or target.describe_wait()))
            if busy or target.phase == WAITING:
                lasting.append(target.model_id)
        if not open_targets:
            waiting = [(model_id, "its memory is not back yet") for model_id in gone if self._proof.is_open(model_id)]
        return Waiting(tuple(waiting), max(0.0, self._deadline - now), tuple(lasting))

    def _is_accepted(self, open_targets: list[UnloadTarget]) -> bool:
        """Without waiting: whether every request that can go out has been answered."""
        if self._wait or any(target.is_doubtful for target in open_targets):
            return False
        return all(target.is_answered or target.phase == WAITING for target in open_targets)

    def _finish(self, now: float, *, interrupted: bool = False, error: CorralError | None = None) -> list[Effect]:
        outcomes = []
        for item in self._plan:
            target = self._targets.get(item.model.id)
            if target is not None:
                outcomes.append(self._conclude(target, interrupted=interrupted, is_lost=error is not None))
            elif item.action == plans.LEAVE:
                outcomes.append(Outcome(item.model.id, words.ALREADY_UNLOADED, item.model.status))
            else:
                outcomes.append(Outcome(item.model.id, words.NOT_REQUESTED, item.model.status))
        hidden = [self._targets[model.id] for model in self._hidden if model.id in self._targets]
        outcomes += [self._conclude(target, interrupted=interrupted, is_lost=error is not None) for target in hidden]
        if self._wait:
            meant = select(self._listing, self._selection) if self._acting and not self._selection.names else ()
            outcomes = find_newcomers(outcomes, self._listing, meant)
        verified = tell_verified(outcomes, self._proof) if self._wait else None
        reason = self._before.reason if self._before is not None else ""
        seconds = now - self._started_at
        return [Done(UnloadReport(tuple(outcomes), seconds, interrupted, error, verified, reason))]

    def _conclude(self, target: UnloadTarget, *, interrupted: bool, is_lost: bool) -> Outcome:
        model_id = target.model_id
        return target.conclude(
            waited=self._wait,
            interrupted=interrupted,
            is_lost=is_lost,
            in_flight=self._drain.in_flight(model_id),
            is_unseen=self._drain.is_unseen(model_id),
            freed_bytes=self._proof.freed_bytes(model_id),
            not_free=self._proof.explain(model_id) if self._proof.is_refuted(model_id) else "",
        )


def _has_measure(effects: list[Effect]) -> bool:
    return any(isinstance(effect, Measure) for effect in effects)


def _imagine(model_id: str, status: str, port: int | None) -> Model:
    """The entry that the list would have for a child that it hides."""
    return Model(model_id, status, (), (), port, None, DEFAULT_STOP_TIMEOUT_S, {})

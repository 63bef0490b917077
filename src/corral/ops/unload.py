"""Unload models and see it done: look, listen, look again, ask for all, then watch until the list says unloaded.

Nothing is concluded from the router's ``success`` or from an event alone: the last word is always a look at the
list. The looks stop when every model is settled or the time is up.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops import plan as plans
from corral.ops.outcome import Outcome, Requested, UnloadReport, Waiting
from corral.ops.pace import Pace
from corral.ops.plan import PlannedUnload, plan_unload
from corral.ops.protocol import (
    Answered,
    Done,
    Heard,
    Listed,
    Listen,
    LookFailed,
    Say,
    Send,
    StreamLost,
    StreamOpened,
    Unsent,
)
from corral.ops.selection import Selection, check_selection
from corral.ops.unload_target import READY, WAITING, UnloadTarget
from corral.wire import EVERY_MODEL, CorralError, Listing, unload_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops.protocol import Effect, Input

MARGIN_S = 20.0
"""What the default time limit adds to the longest stop-timeout known."""


class Unload:
    """The verb; ``Done.report`` is an UnloadReport.

    Parameters:
        selection: which models.
        at_once: also kill what is still loading, instead of letting it come up first.
        wait: watch until each was seen unloaded; False ends when the router has accepted the requests.
        timeout_s: counted from the start; None means the longest stop-timeout of the models plus 20 s.

    ``start`` and ``on`` raise BadArgumentError, UnknownModelError and, as long as nothing was asked of the
    router, whatever the first look raised.
    """

    def __init__(
        self, selection: Selection, *, at_once: bool = False, wait: bool = True, timeout_s: float | None = None
    ) -> None:
        check_selection(selection)
        self._selection = selection
        self._at_once = at_once
        self._wait = wait
        self._timeout_s = timeout_s
        self._pace = Pace()
        self._plan: list[PlannedUnload] = []
        self._targets: dict[str, UnloadTarget] = {}
        self._downloads: set[str] = set()
        self._started_at = 0.0
        self._deadline = 0.0
        self._listening = False
        self._acting = False

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = now
        self._deadline = now + (self._timeout_s if self._timeout_s is not None else MARGIN_S)
        return self._pace.next(now, self._deadline)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        if isinstance(given, Listed):
            self._pace.looked(now)
            return self._take_listing(given.listing, now)
        if isinstance(given, LookFailed):
            return self._take_failure(given.error, now)
        if isinstance(given, StreamOpened | StreamLost):
            return self._take_stream(isinstance(given, StreamOpened), now)
        if isinstance(given, Unsent):
            self._targets[given.tag].unsend()
            return []
        if isinstance(given, Heard):
            self._take_event(given)
        elif isinstance(given, Answered):
            self._take_answer(given, now)
        return self._go_on(now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; the report says for each model what was and was not done."""
        return self._finish(now, interrupted=True)

    def _take_listing(self, listing: Listing, now: float) -> list[Effect]:
        if not self._acting:
            return self._prepare(listing, now)
        known = {model.id: model for model in listing.models}
        for target in self._targets.values():
            target.see(known.get(target.model_id), self._pace.asked_at, now)
        return self._go_on(now)

    def _prepare(self, listing: Listing, now: float) -> list[Effect]:
        """The first look makes the plan; the one after the stream opened makes it anew and starts it."""
        self._plan = plan = plan_unload(listing, self._selection, at_once=self._at_once)
        active = [item for item in plan if item.action != plans.LEAVE]
        if not active:
            return self._finish(now)
        if self._timeout_s is None:
            self._deadline = self._started_at + max(item.model.stop_timeout_s for item in active) + MARGIN_S
        if self._wait and not self._listening and listing.has_events is not False:
            self._listening = True
            return [Listen()]
        self._acting = True
        for item in active:
            waits = item.action == plans.WAIT_THEN_UNLOAD
            self._targets[item.model.id] = UnloadTarget(item.model, WAITING if waits else READY)
            if item.action == plans.CANCEL_DOWNLOAD:
                self._downloads.add(item.model.id)
        return self._go_on(now)

    def _take_failure(self, error: CorralError, now: float) -> list[Effect]:
        if not self._acting:
            raise error
        if self._pace.failed(error, now) or now >= self._deadline:
            return self._finish(now, error=error)
        return self._go_on(now)

    def _take_stream(self, is_open: bool, now: float) -> list[Effect]:
        self._pace.stream_open = is_open
        self._pace.hurry()
        return self._go_on(now)

    def _take_event(self, heard: Heard) -> None:
        target = self._targets.get(heard.event.model)
        if heard.event.model == EVERY_MODEL or (target and target.hear(heard.event.status, heard.at)):
            self._pace.hurry()

    def _take_answer(self, answered: Answered, now: float) -> None:
        target = self._targets.get(answered.tag)
        if target is None:
            return
        target.answer(answered.error, now)
        if target.model_id in self._downloads:
            self._pace.hurry()

    def _go_on(self, now: float) -> list[Effect]:
        """Send what is ready, end when all is settled, look when only the list can tell."""
        if not self._acting:
            return self._pace.next(now, self._deadline)
        effects = self._send_ready(now)
        open_targets = [target for target in self._targets.values() if not target.is_settled]
        if effects:
            self._pace.restart()
            return [*effects, *self._pace.next(now, self._deadline)]
        if not open_targets or self._is_accepted(open_targets) or now >= self._deadline:
            return self._finish(now)
        if any(target.is_doubtful for target in open_targets) or all(t.gone_at is not None for t in open_targets):
            self._pace.hurry()
        waiting = tuple((target.model_id, target.describe_wait()) for target in open_targets)
        return [Say(Waiting(waiting, max(0.0, self._deadline - now))), *self._pace.next(now, self._deadline)]

    def _send_ready(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for target in self._targets.values():
            if target.phase == READY and now < self._deadline:
                target.send(now)
                effects.append(Say(Requested(target.model_id, "unload")))
                apart = target.model_id in self._downloads
                effects.append(Send(target.model_id, unload_model(target.model_id), apart))
        return effects

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
                outcomes.append(target.conclude(waited=self._wait, interrupted=interrupted))
            elif item.action == plans.LEAVE:
                outcomes.append(Outcome(item.model.id, words.ALREADY_UNLOADED, item.model.status))
            else:
                outcomes.append(Outcome(item.model.id, words.NOT_REQUESTED, item.model.status))
        return [Done(UnloadReport(tuple(outcomes), now - self._started_at, interrupted, error))]

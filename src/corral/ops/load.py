"""Load models one after another and see each of them up.

One at a time on purpose: two loads at once can push each other out at the router's maximum. What the router
unloads between the request and the model's start is reported as evicted for it. With a ``gate`` nothing is asked
for that the gate does not let through, so that a caller can keep the router from making room.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.outcome import LoadProgress, LoadReport, Outcome, Requested, Waiting
from corral.ops.pace import STREAM_S, Pace
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
    WakeAt,
)
from corral.ops.selection import find_models
from corral.wire import (
    AuthError,
    BadArgumentError,
    CorralError,
    Listing,
    Model,
    RefusedError,
    UnreachableError,
    load_model,
    says_already_running,
    says_not_found,
    show_name,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.ops.protocol import Effect, Input

    Gate = Callable[[Listing, Sequence[Outcome]], str]

DEFAULT_TIMEOUT_S = 600.0
_LOCKED = 423
"""What a gateway answers to the load of a model that is held."""
_MAX_TRIES = 2
_NEVER_STARTED_S = 5.0


class LoadTarget:
    """One model on its way up."""

    __slots__ = (
        "answered_at",
        "detail",
        "doubtful",
        "error",
        "exit_code",
        "model_id",
        "outcome",
        "port",
        "residents",
        "sent_at",
        "started_at",
        "status",
        "tries",
    )

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id
        self.status: str | None = None
        self.port: int | None = None
        self.residents: frozenset[str] = frozenset()
        """Who was resident when its request went out."""
        self.started_at: float | None = None
        """When a child of this load was first seen or heard of."""
        self.sent_at: float | None = None
        self.answered_at: float | None = None
        self.doubtful = False
        self.tries = 0
        self.error: CorralError | None = None
        self.exit_code: int | None = None
        self.outcome: str | None = None
        self.detail = ""
        """Why the gate did not let it through."""

    def see(self, model: Model | None, asked_at: float, now: float) -> None:
        """The list shows the model like this; decides the outcome where it can."""
        if model is None:
            self.status = None
            self.outcome = words.VANISHED if self.tries else None
            return
        self.status = model.status
        if self.sent_at is None:
            if model.is_resident and model.status != "loading":
                self.outcome = words.ALREADY_LOADED
            self.started_at = asked_at if model.status == "loading" else None
            self.port = model.port
            return
        if model.port is not None and model.port != self.port:
            self.begin(asked_at)
        if model.status == "loaded":
            self.outcome = words.LOADED
        elif model.is_resident or model.status == "downloading":
            self.begin(asked_at)
            self.doubtful = False
        elif self.started_at is not None and asked_at >= max(self.sent_at, self.started_at):
            self.outcome, self.exit_code = words.LOAD_FAILED, model.exit_code
        else:
            self._see_nothing_yet(asked_at, now)

    def begin(self, at: float) -> None:
        """A child of this load was seen or heard of."""
        if self.started_at is None:
            self.started_at = at

    def _see_nothing_yet(self, asked_at: float, now: float) -> None:
        """Asked for, and still as unloaded as before."""
        if self.answered_at is None or asked_at < self.answered_at:
            return
        if self.doubtful and self.tries >= _MAX_TRIES:
            self.outcome = words.UNREACHABLE
        elif not self.doubtful and now - self.answered_at >= _NEVER_STARTED_S:
            self.outcome = words.LOAD_FAILED

    def unsend(self) -> None:
        """Its request did not go out after all."""
        self.tries -= 1
        if self.tries == 0:
            self.sent_at = None

    def answer(self, error: CorralError | None, now: float) -> None:
        """The router answered its request, or the path failed."""
        self.answered_at = now
        self.error = error
        if error is None or (isinstance(error, RefusedError) and says_already_running(error)):
            self.error = None
        elif isinstance(error, UnreachableError):
            self.doubtful = True
        elif isinstance(error, AuthError):
            self.outcome = words.DENIED
        elif isinstance(error, RefusedError) and error.status == _LOCKED:
            self.outcome, self.detail = words.HELD, error.message.removeprefix("The router refuses: ")
        elif isinstance(error, RefusedError) and says_not_found(error):
            self.outcome = words.VANISHED
        else:
            self.outcome = words.REFUSED


class Load:
    """The verb; ``Done.report`` is a LoadReport. Errors are raised as by Unload.

    Parameters:
        names: ids or aliases, looked up once, in the first list.
        wait: watch until each was seen loaded; False ends when the router has accepted the requests.
        timeout_s: for all of them together; None means 600 s.
        each_s: so long one of them is waited for; then the next has its turn. None is no limit of its own.
        gate: called with a list that is newer than the end of the load before, and the outcomes so far; says why
            the model whose turn it is must not be asked for, or nothing.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        wait: bool = True,
        timeout_s: float | None = None,
        each_s: float | None = None,
        gate: Gate | None = None,
    ) -> None:
        if not names:
            raise BadArgumentError("No model was named.", "Name one or more models; 'corral ls' shows them.")
        self._names = tuple(names)
        self._wait = wait
        self._timeout_s = timeout_s if timeout_s is not None else DEFAULT_TIMEOUT_S
        self._each_s = each_s
        self._gate = gate
        self._pace = Pace()
        self._queue: list[LoadTarget] = []
        self._outcomes: list[Outcome] = []
        self._listing = Listing((), None)
        self._started_at = 0.0
        self._settled_at = 0.0
        """When the newest load ended; a list asked for before may not show what came of it."""
        self._deadline = 0.0
        self._listening = False
        self._acting = False

    @property
    def deadline(self) -> float:
        """When it ends at the latest."""
        return self._deadline

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = self._settled_at = now
        self._deadline = now + self._timeout_s
        return self._pace.next(now, self._deadline)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        said: list[Effect] = []
        if isinstance(given, Listed):
            self._pace.looked(now)
            return self._take_listing(given.listing, now)
        if isinstance(given, LookFailed):
            if not self._acting:
                raise given.error
            if self._pace.failed(given.error, now) or now >= self._deadline:
                return self._finish(now, error=self._pace.find_culprit())
        elif isinstance(given, StreamOpened | StreamLost):
            self._pace.stream_open = isinstance(given, StreamOpened)
            self._pace.hurry()
        elif isinstance(given, Unsent):
            self._queue[0].unsend()
            return []
        elif isinstance(given, Heard):
            said = self._take_event(given)
        elif isinstance(given, Answered) and self._queue and given.tag == self._queue[0].model_id:
            self._queue[0].answer(given.error, now)
            self._pace.hurry()
        return said + self._go_on(now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; a load that was asked for goes on in the router."""
        return self._finish(now, interrupted=True)

    def _take_listing(self, listing: Listing, now: float) -> list[Effect]:
        if not self._acting:
            if not self._queue:
                self._queue = [LoadTarget(model.id) for model in find_models(listing, self._names)]
            if self._wait and not self._listening and listing.has_events is not False:
                self._listening = True
                return [Listen(), WakeAt(now + STREAM_S)]
            self._acting = True
        self._listing = listing
        if self._queue:
            target = self._queue[0]
            target.see(listing.find(target.model_id), self._pace.asked_at, now)
        return self._go_on(now)

    def _take_event(self, heard: Heard) -> list[Effect]:
        event = heard.event
        if not self._queue or event.model != self._queue[0].model_id:
            return []
        target = self._queue[0]
        if target.sent_at is None or heard.at < target.sent_at:
            return []
        if event.status == "loading":
            target.begin(heard.at)
        if event.status == "loading" and (event.progress is not None or event.stage is not None):
            return [Say(LoadProgress(event.model, event.stage, event.progress))]
        if event.status is not None:
            self._pace.hurry()
        return []

    def _go_on(self, now: float) -> list[Effect]:
        if not self._acting:
            return self._pace.next(now, self._deadline)
        effects: list[Effect] = []
        while self._queue:
            target = self._queue[0]
            if target.outcome is None and not self._wait and target.answered_at is not None and not target.doubtful:
                target.outcome = words.REQUESTED
            if target.outcome is None and self._is_overdue(target, now):
                target.outcome = words.NOT_SEEN_LOADED
            if target.outcome is not None:
                self._settle(target, now)
                continue
            if target.sent_at is None or (target.doubtful and self._may_ask_again(target)):
                if self._may_send(target, now):
                    effects += self._send(target, now)
                elif target.outcome is not None:
                    continue
            break
        if not self._queue or now >= self._deadline:
            return effects + self._finish(now)
        reason = self._queue[0].status or "not in the list"
        waiting = Waiting(((self._queue[0].model_id, reason),), max(0.0, self._deadline - now))
        return [*effects, Say(waiting), *self._pace.next(now, self._deadline)]

    def _is_overdue(self, target: LoadTarget, now: float) -> bool:
        return self._each_s is not None and target.sent_at is not None and now - target.sent_at >= self._each_s

    def _may_send(self, target: LoadTarget, now: float) -> bool:
        """Whether its request may go out now; if not, it has an outcome, or a newer list is needed to tell."""
        if target.status is None:
            # Its turn has just come: what the newest list says decides whether to ask at all.
            target.see(self._listing.find(target.model_id), self._pace.asked_at, now)
            if target.outcome is not None:
                return False
        if target.status == "downloading" and target.sent_at is None:
            # The router would say yes to a load, and do nothing.
            target.outcome = None if self._wait else words.NOT_REQUESTED
            target.detail = _DOWNLOADING
            return False
        target.detail = ""
        if self._gate is None or target.started_at is not None:
            return True
        if not self._pace.has_seen_since(self._settled_at):
            self._pace.hurry()
            return False
        target.detail = self._gate(self._listing, self._outcomes)
        target.outcome = words.NO_ROOM if target.detail else None
        return not target.detail

    def _may_ask_again(self, target: LoadTarget) -> bool:
        """After a broken request: only when a later look shows that nothing came of it."""
        if target.answered_at is None or not self._pace.has_seen_since(target.answered_at):
            return False
        return target.tries < _MAX_TRIES and target.started_at is None

    def _send(self, target: LoadTarget, now: float) -> list[Effect]:
        if target.sent_at is None:
            target.residents = frozenset(model.id for model in self._listing.models if model.is_resident)
        target.sent_at = now
        target.answered_at = None
        target.doubtful = False
        if target.started_at is not None and not target.tries:
            # Somebody else's load is under way: watching it is enough.
            target.answered_at = now
            target.tries = 1
            self._pace.hurry()
            return []
        target.tries += 1
        self._pace.restart()
        return [
            Say(Requested(target.model_id, "load")),
            Send(target.model_id, load_model(target.model_id), apart=self._wait),
        ]

    def _settle(self, target: LoadTarget, now: float) -> None:
        self._queue.pop(0)
        self._settled_at = now
        self._outcomes.append(self._conclude(target, now))

    def _conclude(self, target: LoadTarget, now: float) -> Outcome:
        name = target.outcome or words.NOT_SEEN_LOADED
        seconds = now - target.sent_at if target.sent_at is not None and name == words.LOADED else None
        resident = {model.id for model in self._listing.models if model.is_resident}
        evicted = tuple(sorted(target.residents - resident - {target.model_id})) if name != words.REQUESTED else ()
        error = target.error if name in (words.REFUSED, words.DENIED, words.UNREACHABLE) else None
        detail = error.message if error is not None else target.detail or _DETAILS.get(name, "")
        if name == words.ALREADY_LOADED and target.status != "loaded":
            detail = f"it is {target.status}"
        return Outcome(
            target.model_id, name, target.status, seconds, target.exit_code, detail, error=error, evicted=evicted
        )

    def _check_again(self, item: Outcome) -> Outcome:
        """A model that came up first may have had to go for one that was loaded after it."""
        model = self._listing.find(item.model)
        if item.outcome not in (words.LOADED, words.ALREADY_LOADED) or model is None or model.is_resident:
            return item
        by = [other.model for other in self._outcomes if item.model in other.evicted]
        detail = (
            f"it was loaded, and went when {show_name(by[0])} was loaded" if by else "it was loaded, and went again"
        )
        return Outcome(item.model, words.GONE_AGAIN, model.status, None, model.exit_code, detail)

    def _finish(self, now: float, *, interrupted: bool = False, error: CorralError | None = None) -> list[Effect]:
        for target in self._queue:
            if target.outcome is None:
                left_off = words.REQUESTED if interrupted else words.NOT_SEEN_LOADED
                target.outcome = left_off if target.sent_at is not None else words.NOT_REQUESTED
            self._outcomes.append(self._conclude(target, now))
        self._queue = []
        if self._wait and self._acting:
            self._outcomes = [self._check_again(item) for item in self._outcomes]
        return [Done(LoadReport(tuple(self._outcomes), now - self._started_at, interrupted, error))]


_DOWNLOADING = "it is downloading, and the router loads it only when that has ended"
_DETAILS = {
    words.LOAD_FAILED: "it failed to load, or was stopped while loading; the router's log says why",
    words.VANISHED: "it is no longer in the router's list",
    words.NOT_SEEN_LOADED: "it was asked for, and was not seen loaded in time",
}

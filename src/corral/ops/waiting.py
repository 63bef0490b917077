"""Wait until models reach a state, asking nothing of the router but its list and its events."""

from __future__ import annotations

from corral.ops.outcome import Waiting, WaitReport
from corral.ops.pace import Pace
from corral.ops.protocol import Done, Heard, Listed, Listen, LookFailed, Say, StreamLost, StreamOpened
from corral.ops.selection import find_models
from corral.wire import BadArgumentError, CorralError, Listing, Model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.ops.protocol import Effect, Input

STATES = ("unloaded", "loading", "loaded", "sleeping", "resident", "downloading")
"""What can be waited for: the router's own status words, and ``resident`` for any with a child process."""
DEFAULT_TIMEOUT_S = 600.0


class WaitFor:
    """The verb; ``Done.report`` is a WaitReport. Raises what the first look raised."""

    def __init__(self, names: Sequence[str], state: str, *, timeout_s: float | None = None) -> None:
        if not names:
            raise BadArgumentError("No model was named.", "Name one or more models; 'corral ls' shows them.")
        if state not in STATES:
            raise BadArgumentError(f"There is no state {state!r}.", f"Choose one of {', '.join(STATES)}.")
        self._names = tuple(names)
        self._state = state
        self._timeout_s = timeout_s if timeout_s is not None else DEFAULT_TIMEOUT_S
        self._pace = Pace()
        self._ids: tuple[str, ...] = ()
        self._statuses: dict[str, str | None] = {}
        """What the newest look showed."""
        self._reached: tuple[str, ...] = ()
        """Those that were in the state in the newest look."""
        self._started_at = 0.0
        self._deadline = 0.0
        self._listening = False

    @property
    def deadline(self) -> float:
        """When it ends at the latest."""
        return self._deadline

    def start(self, now: float) -> list[Effect]:
        """Begin with a look."""
        self._started_at = now
        self._deadline = now + self._timeout_s
        return self._pace.next(now, self._deadline)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input and say what to do next."""
        if isinstance(given, Listed):
            self._pace.looked(now)
            self._take_listing(given.listing)
            if not self._is_done() and not self._listening and given.listing.has_events is not False:
                self._listening = True
                return [Listen(), *self._pace.next(now, self._deadline)]
        elif isinstance(given, LookFailed):
            if not self._ids:
                raise given.error
            if self._pace.failed(given.error, now) or now >= self._deadline:
                return self._finish(now, error=self._pace.find_culprit())
        elif isinstance(given, StreamOpened | StreamLost):
            self._pace.stream_open = isinstance(given, StreamOpened)
            self._pace.hurry()
        elif isinstance(given, Heard) and given.event.model in self._statuses:
            self._pace.hurry()
        if self._is_done() or (self._ids and now >= self._deadline):
            return self._finish(now)
        waiting = tuple((name, status or "not in the list") for name, status in self._find_missing())
        return [Say(Waiting(waiting, max(0.0, self._deadline - now))), *self._pace.next(now, self._deadline)]

    def interrupt(self, now: float) -> list[Effect]:
        """Stop; the report says who has not come so far."""
        return self._finish(now, interrupted=True)

    def _take_listing(self, listing: Listing) -> None:
        if not self._ids:
            self._ids = tuple(model.id for model in find_models(listing, self._names))
            self._statuses = dict.fromkeys(self._ids)
        known = {model.id: model for model in listing.models}
        found = {model_id: known.get(model_id) for model_id in self._ids}
        self._statuses = {model_id: model.status if model else None for model_id, model in found.items()}
        self._reached = tuple(model_id for model_id, model in found.items() if model and self._is_reached(model))

    def _is_done(self) -> bool:
        """All in the state in one and the same look: one that has left it again is waited for once more."""
        return bool(self._ids) and len(self._reached) == len(self._ids)

    def _find_missing(self) -> tuple[tuple[str, str | None], ...]:
        return tuple((name, status) for name, status in self._statuses.items() if name not in self._reached)

    def _is_reached(self, model: Model) -> bool:
        if self._state == "resident":
            return model.is_resident
        return model.is_gone if self._state == "unloaded" else model.status == self._state

    def _finish(self, now: float, *, interrupted: bool = False, error: CorralError | None = None) -> list[Effect]:
        seconds = now - self._started_at
        return [Done(WaitReport(self._state, self._reached, self._find_missing(), seconds, interrupted, error))]

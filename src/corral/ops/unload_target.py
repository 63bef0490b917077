"""One model on its way out: what is known about it, and what that means.

The states, and what moves a target on (``see`` is the list, ``hear`` the event stream, ``answer`` the POST)::

    WAITING --see: no longer loading--> READY --(sent)--> SENT --hear or see: gone--> SENT, gone_at set
    SENT --see: gone, in a look asked for afterwards--> GONE
    SENT, GONE --see: resident again, or under another port--> BACK
    SENT --answer: not running, or the path broke--> DOUBT --see: same child--> READY once more, then REFUSED
    SENT --answer: no--> REFUSED, unless a look finds it gone all the same

Rule for whoever edits this: only ``see`` may conclude that a model is unloaded.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.outcome import Outcome
from corral.wire import (
    AuthError,
    CorralError,
    Model,
    RefusedError,
    UnreachableError,
    says_not_found,
    says_not_running,
)

WAITING = "waiting"
READY = "ready"
SENT = "sent"
DOUBT = "doubt"
GONE = "gone"
BACK = "back"
REFUSED = "refused"

_MAX_TRIES = 2
_VANISHED_S = 1.0


class UnloadTarget:
    """The newest knowledge about one model that is to be unloaded."""

    __slots__ = (
        "_answered_at",
        "_error",
        "_exit_code",
        "_missing_since",
        "_note",
        "_port",
        "_seen",
        "gone_at",
        "model_id",
        "phase",
        "sent_at",
        "status",
        "tries",
    )

    def __init__(self, model: Model, phase: str) -> None:
        self.model_id = model.id
        self.phase = phase
        self.status: str | None = model.status
        self.tries = 0
        self.sent_at: float | None = None
        self.gone_at: float | None = None
        self._port = model.port
        self._answered_at: float | None = None
        self._seen = False
        self._exit_code: int | None = None
        self._missing_since: float | None = None
        self._error: CorralError | None = None
        self._note = ""

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is expected of this model."""
        return self.phase in (GONE, BACK) or (self.phase == REFUSED and self._seen)

    @property
    def is_answered(self) -> bool:
        """Whether the router has answered its newest request."""
        return self._answered_at is not None

    @property
    def is_doubtful(self) -> bool:
        """Whether its request failed and only the list can say what comes next."""
        return self.phase in (DOUBT, REFUSED) and not self.is_settled and self._missing_since is None

    def send(self, now: float) -> None:
        """Its request goes out now."""
        self.phase = SENT
        self.sent_at = self.sent_at if self.sent_at is not None else now
        self.tries += 1
        self._answered_at = None
        self._error = None
        if self.status == "loading":
            self._note = words.KILLED_WHILE_LOADING

    def unsend(self) -> None:
        """Its request did not go out after all."""
        self.tries -= 1
        self.phase = READY if self.tries == 0 else SENT
        if self.tries == 0:
            self.sent_at = None

    def answer(self, error: CorralError | None, now: float) -> None:
        """The router answered its request, or the path failed."""
        self._answered_at = now
        if error is None or self.phase != SENT:
            return
        self._error = error
        self._seen = False
        no_child = isinstance(error, RefusedError) and (says_not_running(error) or says_not_found(error))
        self.phase = DOUBT if no_child or isinstance(error, UnreachableError) else REFUSED

    def hear(self, status: str | None, at: float) -> bool:
        """The stream told a new status; True when a look is worth while because of it."""
        if self.phase == WAITING:
            return status not in (None, "loading")
        if self.phase not in (SENT, DOUBT) or self.sent_at is None or at < self.sent_at:
            return False
        if status == "unloaded" and self.gone_at is None:
            self.gone_at = at
        # A status that follows means that it is coming back: the look that is due anyway will show it.
        return False

    def see(self, model: Model | None, asked_at: float, now: float) -> None:
        """The list shows the model like this (None: not listed); it was asked for at ``asked_at``."""
        if model is None:
            self.status = None
            self._miss(now)
            return
        self._missing_since = None
        self.status = model.status
        self._seen = True
        if self.phase == WAITING:
            self._see_waiting(model, now)
        elif self.phase in (SENT, DOUBT, GONE, REFUSED) and self.sent_at is not None:
            self._see_sent(model, asked_at, now)
        elif self.phase == READY:
            self._port = model.port

    def _see_waiting(self, model: Model, now: float) -> None:
        if model.is_gone:
            self.phase = GONE
            self.gone_at = now
            self._exit_code = model.exit_code
            self._note = "its load ended before it was asked to unload"
        elif model.status != "loading":
            self.phase = READY
        self._port = model.port

    def _see_sent(self, model: Model, asked_at: float, now: float) -> None:
        if model.is_gone:
            if self.gone_at is None:
                self.gone_at = now
            self._exit_code = model.exit_code
            self.phase = GONE
            return
        new_child = model.port is not None and self._port is not None and model.port != self._port
        if new_child or (self.gone_at is not None and asked_at >= self.gone_at):
            if self.gone_at is None:
                self.gone_at = now
            self.phase = BACK
        elif self.phase == DOUBT and self._answered_at is not None and asked_at >= self._answered_at:
            self._decide(model)

    def _decide(self, model: Model) -> None:
        """The request failed and the same child is still there."""
        if model.status == "loading":
            self.phase = WAITING
        elif not model.is_resident:
            self.phase = REFUSED
        else:
            self.phase = READY if self.tries < _MAX_TRIES else REFUSED

    def _miss(self, now: float) -> None:
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since >= _VANISHED_S and self.phase not in (GONE, BACK):
            # Heard to end and then taken off the list: that is as good as seen.
            self.phase = GONE if self.gone_at is not None else REFUSED
            self._seen = True

    def describe_wait(self) -> str:
        """Why this model is still waited for."""
        if self.phase == WAITING:
            return "loading; it will be unloaded when it is up"
        if self._missing_since is not None:
            return "not in the list any more"
        return "stopping" if self.phase == SENT else "asking again"

    def conclude(self, *, waited: bool, interrupted: bool) -> Outcome:
        """The outcome as things stand now."""
        name, detail = self._name_outcome(waited=waited, interrupted=interrupted)
        seconds = None
        if self.gone_at is not None and self.sent_at is not None and name in (words.UNLOADED, words.CAME_BACK):
            seconds = max(0.0, self.gone_at - self.sent_at)
        error = self._error if name in (words.REFUSED, words.DENIED, words.UNREACHABLE) else None
        return Outcome(self.model_id, name, self.status, seconds, self._exit_code, detail, error)

    def _name_outcome(self, *, waited: bool, interrupted: bool) -> tuple[str, str]:
        if self.phase == GONE:
            killed = f"the router killed its child (exit code {self._exit_code}); an answer being written then was cut"
            return words.UNLOADED, self._note or (killed if self._exit_code is not None else "")
        if self.phase == BACK:
            return words.CAME_BACK, "it was unloaded, and something asked for it again"
        if self.phase == REFUSED and self._missing_since is not None:
            return words.VANISHED, "it is no longer in the router's list, so nothing can be said about its memory"
        if self.phase in (REFUSED, DOUBT) and self._error is not None:
            return _name_error(self._error), self._error.message
        if self.phase == SENT:
            if interrupted or not waited:
                return words.REQUESTED, "the router was asked; Corral did not wait to see it unloaded"
            return words.NOT_SEEN_UNLOADED, f"the router was asked, but it is still {self.status or 'not listed'}"
        if interrupted or self.phase == READY:
            return words.NOT_REQUESTED, "" if interrupted else "the time was up before it could be asked for"
        late = "it did not come up in time" if waited else "it is loading"
        return words.STILL_LOADING, f"{late}; nothing was asked of the router"


def _name_error(error: CorralError) -> str:
    if isinstance(error, AuthError):
        return words.DENIED
    return words.UNREACHABLE if isinstance(error, UnreachableError) else words.REFUSED

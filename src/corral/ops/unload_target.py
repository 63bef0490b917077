"""One model on its way out: what is known about it, and what that means.

The states, and what moves a target on (``see`` is the list, ``hear`` the event stream, ``answer`` the POST)::

    WAITING --see: no longer loading--> READY --(idle, or forced: sent)--> SENT --hear or see: gone--> SENT, gone_at set
    READY --see: loading--> WAITING, --see: gone--> GONE, --(grace over)--> BUSY
    SENT --see: gone, in a look asked for afterwards--> GONE
    SENT, GONE --see: resident again, or under another port--> BACK
    SENT --answer: not running, or the path broke--> DOUBT --see: same child--> READY once more, then REFUSED
    SENT --answer: no--> REFUSED, unless a look finds it gone all the same
    any --see: not listed for a second--> VANISHED --see: listed again--> what it was before

Rule for whoever edits this: only ``see`` may conclude that a model is unloaded.
"""

from __future__ import annotations

from corral.ops import outcome as words
from corral.ops.outcome import Outcome
from corral.wire import (
    AuthError,
    BrokenCallError,
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
BUSY = "busy"
VANISHED = "vanished"

_MAX_TRIES = 2
_VANISHED_S = 1.0
_KILLED = (1, 99)
"""What the router lists for a child that it killed itself: 1 on POSIX, 99 on Windows."""


class UnloadTarget:
    """The newest knowledge about one model that is to be unloaded."""

    __slots__ = (
        "_answered_at",
        "_before_vanishing",
        "_error",
        "_exit_code",
        "_missing_since",
        "_note",
        "_port",
        "_seen",
        "cut",
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
        self.cut: int | None = None
        """Requests in flight when it was asked to go, those that slipped in included; None when not visible."""
        self._port = model.port
        self._answered_at: float | None = None
        self._seen = False
        self._exit_code: int | None = None
        self._missing_since: float | None = None
        self._before_vanishing = phase
        self._error: CorralError | None = None
        self._note = ""

    @property
    def is_settled(self) -> bool:
        """Whether nothing more is expected of this model."""
        return self.phase in (GONE, BACK, BUSY, VANISHED) or (self.phase == REFUSED and self._seen)

    @property
    def error(self) -> CorralError | None:
        """What the router or the path said to its newest request; None when nothing was wrong."""
        return self._error

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
        if self.phase == READY:
            return status is not None
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
        if self.phase == VANISHED:
            self.phase = self._before_vanishing
        if self.phase == WAITING:
            self._see_waiting(model, now)
        elif self.phase == GONE or (self.phase in (SENT, DOUBT, REFUSED) and self.sent_at is not None):
            self._see_sent(model, asked_at, now)
        elif self.phase == READY:
            self._see_ready(model, now)

    def _see_waiting(self, model: Model, now: float) -> None:
        if model.is_gone:
            self.phase = GONE
            self.gone_at = now
            self._exit_code = model.exit_code
            self._note = "its load ended before it was asked to unload"
        elif model.status != "loading":
            self.phase = READY
        self._port = model.port

    def _see_ready(self, model: Model, now: float) -> None:
        """While it waited for its work to end, somebody else may have unloaded it, or loaded it anew."""
        new_child = model.port is not None and self._port is not None and model.port != self._port
        if model.is_gone:
            self.phase = GONE
            self.gone_at = now
            self._note = "it ended before it was asked to unload"
        elif model.status == "loading" and new_child:
            self.phase = WAITING
        self._port = model.port

    def _see_sent(self, model: Model, asked_at: float, now: float) -> None:
        if model.is_gone:
            if self.gone_at is None:
                self.gone_at = now
            self._exit_code = model.exit_code
            if model.port is None and self._port is not None and self.phase != GONE:
                self._note = _RESTARTED
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
        elif self.tries < _MAX_TRIES:
            self.phase = READY
        else:
            # A request that broke on the way may have been acted on: its stop takes its time.
            self.phase = SENT if isinstance(self._error, BrokenCallError) else REFUSED

    def _miss(self, now: float) -> None:
        if self._missing_since is None:
            self._missing_since = now
        if now - self._missing_since >= _VANISHED_S and self.phase not in (GONE, BACK, VANISHED):
            # Heard to end and then taken off the list: that is as good as seen.
            self._before_vanishing = self.phase
            self.phase = GONE if self.gone_at is not None else VANISHED

    def describe_wait(self) -> str:
        """Why this model is still waited for."""
        if self.phase == WAITING:
            return "loading; it will be unloaded when it is up"
        if self._missing_since is not None:
            return "not in the list any more"
        if self.phase == READY and not self.tries:
            return "about to be asked"
        return "stopping" if self.phase == SENT else "asking again"

    def conclude(
        self,
        *,
        waited: bool,
        interrupted: bool,
        is_lost: bool = False,
        in_flight: int | None = None,
        is_unseen: bool = False,
        freed_bytes: int | None = None,
        not_free: str = "",
    ) -> Outcome:
        """The outcome as things stand now.

        ``is_lost`` says that the router no longer answers; ``in_flight`` and ``is_unseen`` what was known of its work
        at the last look; ``not_free`` why its memory was not seen to come back, empty when it was or when nothing of
        it is visible.
        """
        name, detail = self._name_outcome(waited=waited, interrupted=interrupted)
        seconds = None
        if self.gone_at is not None and self.sent_at is not None and name in (words.UNLOADED, words.CAME_BACK):
            seconds = max(0.0, self.gone_at - self.sent_at)
        if name == words.UNLOADED and not_free and waited:
            name, detail = words.NOT_SEEN_FREE, not_free
        if name == words.UNLOADED and detail == _RESTARTED and freed_bytes is None:
            detail += "; a child that hung may have outlived it"
        if is_lost and self.phase in (READY, WAITING):
            name, detail = words.NOT_REQUESTED, "the router went away before it could be asked for"
        elif name == words.NOT_REQUESTED and not interrupted and (is_unseen or in_flight):
            name, detail = _name_busy(in_flight, "the grace period ended" if self.phase == BUSY else "the time was up")
        error = self._error if name in (words.REFUSED, words.DENIED, words.UNREACHABLE) else None
        return Outcome(
            self.model_id,
            name,
            self.status,
            seconds,
            self._exit_code,
            detail,
            error,
            in_flight=in_flight if self.sent_at is None else None,
            cut=self.cut if self.sent_at is not None else None,
            freed_bytes=freed_bytes if name == words.UNLOADED else None,
        )

    def _tell_cut(self) -> str:
        if self.cut:
            return f"{self.cut} {'request was' if self.cut == 1 else 'requests were'} cut"
        if self._exit_code in (None, *_KILLED):
            # That nothing was in flight was seen; where it could not be, the kill is all there is to tell.
            is_told = self._exit_code is None or self.cut == 0
            return "" if is_told else "the router killed its child; an answer being written then would have been cut"
        return f"its child ended with exit code {self._exit_code}"

    def _name_outcome(self, *, waited: bool, interrupted: bool) -> tuple[str, str]:
        if self.phase == GONE:
            return words.UNLOADED, self._note or self._tell_cut()
        if self.phase == BACK:
            return words.CAME_BACK, "it was unloaded, and something asked for it again"
        if self.phase == VANISHED:
            return words.VANISHED, "it is no longer in the router's list, so nothing can be said about its memory"
        if self.phase in (REFUSED, DOUBT) and self._error is not None:
            return _name_error(self._error), self._error.message
        if self.phase == SENT:
            if interrupted or not waited:
                return words.REQUESTED, "the router was asked; Corral did not wait to see it unloaded"
            broken = f"; its answer was lost: {self._error.message}" if self._error is not None else ""
            seen = f"it was last seen {self.status}" if self.status else "it is not listed"
            return words.NOT_SEEN_UNLOADED, f"the router was asked, but {seen}{broken}"
        if interrupted or self.phase in (READY, BUSY):
            return words.NOT_REQUESTED, "" if interrupted else "the time was up before it could be asked for"
        late = "it did not come up in time" if waited else "it is loading"
        return words.STILL_LOADING, f"{late}; nothing was asked of the router"


_RESTARTED = "the router itself was restarted meanwhile"


def _name_busy(in_flight: int | None, ended: str) -> tuple[str, str]:
    if in_flight is None:
        return words.WORK_UNSEEN, "whether it is answering requests can't be seen; nothing was asked of the router"
    count = f"{in_flight} request{'s' if in_flight > 1 else ''}"
    return words.STILL_BUSY, f"{count} in flight when {ended}; nothing was cut"


def _name_error(error: CorralError) -> str:
    if isinstance(error, AuthError):
        return words.DENIED
    return words.UNREACHABLE if isinstance(error, UnreachableError) else words.REFUSED

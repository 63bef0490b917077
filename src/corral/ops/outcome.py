"""What was seen to happen to each model: the words of every report."""

from __future__ import annotations

from corral.wire import CorralError, Record

UNLOADED = "unloaded"
"""Seen unloaded in the list after the request."""
ALREADY_UNLOADED = "already_unloaded"
"""Named, but not resident when Corral looked."""
STILL_BUSY = "still_busy"
"""Requests were in flight when the grace period or the time ended; nothing was asked of the router, and nothing cut."""
WORK_UNSEEN = "work_unseen"
"""Whether requests are in flight can't be seen; nothing was asked of the router."""
NOT_SEEN_FREE = "not_seen_free"
"""Seen unloaded, but its memory was not seen to come back in time."""
REQUESTED = "requested"
"""The router accepted the request; the rest was not waited for."""
CAME_BACK = "came_back"
"""Its child was seen to end, and then a new one came: a client asked for it again."""
STILL_LOADING = "still_loading"
"""It did not come up in time, and was not killed while loading."""
NOT_SEEN_UNLOADED = "not_seen_unloaded"
"""The router accepted the request, but the model was still listed as resident when time was up."""
VANISHED = "vanished"
"""It is no longer in the list, so nothing can be said about it."""
REFUSED = "refused"
"""The router said no."""
DENIED = "denied"
"""The router wants an API key, or another one."""
UNREACHABLE = "unreachable"
"""The router did not answer, or no longer does."""
NOT_REQUESTED = "not_requested"
"""Nothing was asked of the router for it: Corral was stopped before."""
LOADED = "loaded"
"""Seen loaded in the list after the request."""
ALREADY_LOADED = "already_loaded"
"""Resident before Corral asked."""
LOAD_FAILED = "load_failed"
"""Its child was started and ended again."""
GONE_AGAIN = "gone_again"
"""It was seen loaded, and was not resident any more at the end."""
NOT_SEEN_LOADED = "not_seen_loaded"
"""Not seen loaded when time was up."""
NO_ROOM = "no_room"
"""Nothing was asked of the router for it: at its maximum the router would have unloaded another one."""
HELD = "held"
"""Nothing was asked of the router for it: somebody keeps it from coming up."""


KILLED_WHILE_LOADING = "killed while it was loading"
"""The ``detail`` of a model that ``at_once`` killed before it was up."""


class Outcome(Record):
    """What happened to one model."""

    model: str
    outcome: str
    status: str | None
    """The router's newest word for it; None when it is not listed."""
    seconds: float | None = None
    """From the request to the moment it was seen done; None when it was not seen, or nothing was asked."""
    exit_code: int | None = None
    """How its child ended, when the router calls that a failure. 1 may be the router's own SIGKILL."""
    detail: str = ""
    """A sentence for a person, when the outcome's name does not say everything."""
    error: CorralError | None = None
    """What the server or the path said, when the outcome is an error."""
    evicted: tuple[str, ...] = ()
    """Models that the router unloaded to make room for this one."""
    in_flight: int | None = None
    """Requests being answered at the last look, for a model that was left alone; None when not visible."""
    cut: int | None = None
    """Requests in flight when it was asked to unload, or just after: the router cuts them. None when not visible."""
    freed_bytes: int | None = None
    """What its end gave back, on host and devices: measured before, and seen gone. None when not visible."""


BY_MEMORY = "memory"
"""How an unload was verified: the list says so, and the machine shows that the memory is back."""
BY_STATUS = "status only"
"""How an unload was verified: the list says so, and the machine shows nothing of it."""


class UnloadReport(Record):
    """The result of an unload."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    """From the first look to the last."""
    interrupted: bool = False
    error: CorralError | None = None
    """Why Corral stopped before the end, such as a router that went away; None when it did not."""
    verified: str | None = None
    """``memory``, ``status only`` when the memory of any model was not visible, None when nothing was unloaded."""
    unseen_reason: str = ""
    """Why the machine showed nothing; empty when it did."""

    @property
    def freed_bytes(self) -> int | None:
        """What all of them gave back; None when that is not known of any."""
        known = [item.freed_bytes for item in self.outcomes if item.freed_bytes is not None]
        return sum(known) if known else None

    @property
    def ok(self) -> bool:
        """Whether every model was seen unloaded (or, without waiting, its request accepted)."""
        good = (UNLOADED, ALREADY_UNLOADED, REQUESTED)
        return not self.interrupted and self.error is None and all(o.outcome in good for o in self.outcomes)


class LoadReport(Record):
    """The result of a load."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    interrupted: bool = False
    error: CorralError | None = None

    @property
    def ok(self) -> bool:
        """Whether every model was seen loaded (or, without waiting, its request accepted)."""
        good = (LOADED, ALREADY_LOADED, REQUESTED)
        return not self.interrupted and self.error is None and all(o.outcome in good for o in self.outcomes)


class WaitReport(Record):
    """The result of waiting for models to reach a state."""

    state: str
    reached: tuple[str, ...]
    missing: tuple[tuple[str, str | None], ...]
    """The models that did not reach it, with their newest status (None: not listed)."""
    seconds: float
    interrupted: bool = False
    error: CorralError | None = None

    @property
    def ok(self) -> bool:
        """Whether every model reached the state."""
        return not self.missing and not self.interrupted and self.error is None


# Facts for the person who waits (the Say effect).


class Requested(Record):
    """A request is going out for this model; ``verb`` is ``unload`` or ``load``."""

    model: str
    verb: str


class Waiting(Record):
    """What is still waited for, and how long at most."""

    models: tuple[tuple[str, str], ...]
    """Pairs of model id and reason, such as ``("a", "loading")``."""
    left_s: float
    lasting: tuple[str, ...] = ()
    """The ids of those that are let finish, an answer or a load, before anything is asked of the router."""


class LoadProgress(Record):
    """How far a load has come, by the router's event stream."""

    model: str
    stage: str | None
    fraction: float | None
    """0 to 1 within the stage; None when the router does not say."""

"""What was seen to happen to each model: the words of every report."""

from __future__ import annotations

from corral.wire import CorralError, Record

UNLOADED = "unloaded"
"""Seen unloaded in the list after the request."""
ALREADY_UNLOADED = "already_unloaded"
"""Named, but not resident when Corral looked."""
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
NOT_SEEN_LOADED = "not_seen_loaded"
"""Not seen loaded when time was up."""


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


class UnloadReport(Record):
    """The result of an unload."""

    outcomes: tuple[Outcome, ...]
    seconds: float
    """From the first look to the last."""
    interrupted: bool = False
    error: CorralError | None = None
    """Why Corral stopped before the end, such as a router that went away; None when it did not."""

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


class LoadProgress(Record):
    """How far a load has come, by the router's event stream."""

    model: str
    stage: str | None
    fraction: float | None
    """0 to 1 within the stage; None when the router does not say."""

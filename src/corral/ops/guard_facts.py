"""What a direct hold says while it lasts, and its report."""

from __future__ import annotations

from corral.wire import CorralError, Record

EXPIRED = "expired"
RELEASED = "released"
INTERRUPTED = "interrupted"


class CameUp(Record):
    """A held model has come up: somebody asked for it."""

    model: str
    evicted: tuple[str, ...]
    """Models that went just before, not by this hold: the router may have made room."""
    per_minute: int
    """Loads of held models within the last minute, this one included."""


class WentAgain(Record):
    """A held model that had come up was unloaded again."""

    model: str
    seconds: float
    """From the look that first showed it."""
    cut: int | None
    """Requests that slipped in and were cut; None when not visible."""


class NotMoved(Record):
    """The router refused to unload a held model; it is asked again."""

    model: str
    error: CorralError | None


class WorkUnseen(Record):
    """Whether a held model that has come up is answering can't be seen, so it is not unloaded."""

    model: str


class RouterLost(Record):
    """The router does not answer; the hold goes on and so do the looks."""

    error: CorralError


class RouterBack(Record):
    """The router answers again."""


class GuardReport(Record):
    """The result of a direct hold."""

    ended: str
    """``expired``, ``released`` or ``interrupted``."""
    seconds: float
    loads: tuple[tuple[str, int], ...]
    """How often each held model came up."""
    resident: tuple[str, ...]
    """Held models that were up at the end."""
    stopping: tuple[tuple[str, int | None], ...] = ()
    """Those of them that were being unloaded just then, with the requests that this cuts; None when not visible."""

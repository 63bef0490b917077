"""One model at the gateway's door: who is inside, who waits, and what keeps them waiting."""

from __future__ import annotations

from collections import deque

from corral.ops.admission import Request
from corral.wire import NOT_RESIDENT, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops.admission import Closure

_LONG_AGO = -1e18

# Why a request waits.

CLOSED = "closed"
"""Its model is being drained."""
HELD = "held"
"""Its model is held, for a short while only."""
COMING = "coming"
"""Its model is loading, by itself or for somebody else."""
WANTED = "wanted"
"""The gateway is to load its model."""


class Go(Record):
    """It may go on."""

    autoload: bool | None


class Wait(Record):
    """It must wait."""

    reason: str
    limit_s: float
    """How long at most, from when this reason began."""


class Parked:
    """A request that waits."""

    __slots__ = ("deadline", "reason", "request", "since")

    def __init__(self, request: Request, wait: Wait, now: float) -> None:
        self.request = request
        self.reason = ""
        self.since = self.deadline = now
        self.keep(wait, now)

    def keep(self, wait: Wait, now: float) -> None:
        """It goes on waiting; another reason has a time of its own."""
        if wait.reason != self.reason:
            self.reason, self.since, self.deadline = wait.reason, now, now + wait.limit_s


class Line:
    """What the door knows of one model."""

    __slots__ = ("closures", "idle_since", "in_flight", "model", "parked", "spared_until", "status", "status_at")

    def __init__(self, model: str, now: float) -> None:
        self.model = model
        self.status: str | None = None
        """The router's newest word; None when it is not known."""
        self.status_at = _LONG_AGO
        self.in_flight: dict[int, bool] = {}
        """Requests that went in and have not come out; True for those that may make the router load the model."""
        self.parked: deque[Parked] = deque()
        self.closures: list[Closure] = []
        self.idle_since = now
        """When the last answer ended, or since when it has been up."""
        self.spared_until = _LONG_AGO

    @property
    def is_resident(self) -> bool:
        """Whether it takes one of the router's places, as far as is known."""
        return self.status is not None and self.status not in NOT_RESIDENT

    @property
    def is_up(self) -> bool:
        """Whether its child takes requests."""
        return self.is_resident and self.status != "loading"

    @property
    def is_coming(self) -> bool:
        """Whether a request that went in openly may yet make the router load it."""
        return not self.is_up and any(self.in_flight.values())

    @property
    def is_queued(self) -> bool:
        """Whether the router may be about to evict another model for this one."""
        return not self.is_resident and any(self.in_flight.values())

    def may_go(self, now: float) -> bool:
        """Whether it is up and idle, so that its place can be taken."""
        return self.is_up and not (self.in_flight or self.parked or self.closures) and now >= self.spared_until

    @property
    def closure(self) -> Closure | None:
        """The drain that lasts longest; None when it takes requests."""
        return max(self.closures, key=lambda closure: closure.ends_at, default=None)

    def learn(self, status: str | None, at: float) -> bool:
        """The newest word about it was said at ``at``; False when an older one comes late or nothing is new."""
        if at < self.status_at:
            return False
        self.status_at = at
        if status == self.status:
            return False
        was_up, self.status = self.is_up, status
        if self.is_up and not was_up:
            self.idle_since = max(self.idle_since, at)
        return True

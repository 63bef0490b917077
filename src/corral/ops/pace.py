"""When to look at the list again: the rules that every verb shares.

The event stream is a hint and the list is the truth. With a stream the list is read when an event calls for it
and at least every 2 s; without one, in steps that grow from 30 ms to half a second. Looks that fail are repeated
for 5 s, long enough for a router that is being restarted.
"""

from __future__ import annotations

from corral.ops.protocol import Look, WakeAt
from corral.wire import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops.protocol import Effect


WITH_STREAM_S = 2.0
LEAST_STEP_S = 0.002
FIRST_STEP_S = 0.03
LAST_STEP_S = 0.5
LAST_LOOK_S = 0.1
RETRY_S = 0.25
GIVE_UP_S = 5.0
FAIR_S = 0.5
"""A look that had this long and failed says something of the router; a shorter one may just have had no time left."""
STREAM_S = 3.0
"""How long a verb that has asked for the event stream waits for word of it; drivers give up sooner."""


class Pace:
    """Keeps count of looks: one at a time, the next when due; no clock of its own."""

    __slots__ = (
        "_by",
        "_due",
        "_failing_since",
        "_looked_at",
        "_step_s",
        "asked_at",
        "error",
        "is_looking",
        "stream_open",
    )

    def __init__(self) -> None:
        self.is_looking = False
        self.asked_at = 0.0
        """When the newest look was asked for."""
        self.stream_open = False
        self.error: CorralError | None = None
        """Why the newest look failed; None when it did not."""
        self._due = True
        self._by: float | None = None
        self._looked_at = -LEAST_STEP_S
        self._step_s = FIRST_STEP_S
        self._failing_since: float | None = None

    def hurry(self) -> None:
        """Something happened: look as soon as the look under way, if any, is back."""
        self._due = True

    def hurry_within(self, limit_s: float, now: float) -> None:
        """Something happened that may be the first of several: look soon, and once for all of them."""
        self._by = min(self._by, now + limit_s) if self._by is not None else now + limit_s

    def restart(self) -> None:
        """Something was asked of the router: begin again with the short steps."""
        self._step_s = FIRST_STEP_S

    def looked(self, now: float) -> None:
        """A look came back."""
        self.is_looking = False
        self._looked_at = now
        self._failing_since = self.error = None
        self._step_s = min(self._step_s * 1.3, LAST_STEP_S)

    def failed(self, error: CorralError, now: float) -> bool:
        """A look did not come back; True when it is time to give up."""
        self.is_looking = False
        self._looked_at = now
        self.error = error
        if self._failing_since is None:
            self._failing_since = now
        return now - self._failing_since >= GIVE_UP_S

    def find_culprit(self) -> CorralError | None:
        """The error to blame for an end without success; None for one look that only had no time left."""
        is_repeated = self._failing_since is not None and self._failing_since < self._looked_at
        return self.error if is_repeated or self._looked_at - self.asked_at >= FAIR_S else None

    def has_seen_since(self, at: float) -> bool:
        """Whether the newest look came back, and was asked for at this time or later."""
        return not self.is_looking and self.error is None and self.asked_at >= at

    def next(self, now: float, deadline: float) -> list[Effect]:
        """The look that is due now, and when to wake for the next."""
        if self.is_looking:
            return [WakeAt(max(deadline, now + RETRY_S))]
        at = self._next_at()
        if self._looked_at < deadline - LAST_LOOK_S:
            # The last word belongs to the list: one more look just before the time is up.
            at = min(at, deadline - LAST_LOOK_S)
        if at <= now:
            self._due = False
            self._by = None
            self.is_looking = True
            self.asked_at = now
            return [Look(), WakeAt(max(deadline, now + RETRY_S))]
        return [WakeAt(min(at, deadline))]

    def _next_at(self) -> float:
        if self.error is not None:
            return self._looked_at + RETRY_S
        if self._due:
            return self._looked_at + LEAST_STEP_S
        usual = self._looked_at + (WITH_STREAM_S if self.stream_open else self._step_s)
        return usual if self._by is None else min(usual, max(self._by, self._looked_at + LEAST_STEP_S))

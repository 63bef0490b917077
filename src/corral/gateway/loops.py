"""Notices a router's address that leads back to this gateway, through another gateway or a proxy.

Without that each request would come back as another one until no connection is left. What the gateway asks for itself
carries a mark; where that comes in again, nothing more is forwarded for a while. It asks at least every two seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic

from corral.gateway.admission import Refusal

MARK_HEADER = "Corral-Asked-By"
_REMEMBERED_S = 5.0


class Loop:
    """Whether what is sent to one router comes back."""

    def __init__(self, mark: str, clock: Callable[[], float] = monotonic) -> None:
        self.mark = mark
        self._clock = clock
        self._until: float | None = None

    def check(self, headers: Mapping[str, str]) -> Refusal | None:
        """Refuse a request that came back, and all others soon after one has."""
        if self.mark and headers.get(MARK_HEADER) == self.mark:
            self._until = self._clock() + _REMEMBERED_S
        if self._until is None:
            return None
        if self._clock() >= self._until:
            self._until = None
            return None
        message = "The address of this gateway's router leads back to this gateway."
        return Refusal(508, message, "loop", should_retry=False, kind="server_error")

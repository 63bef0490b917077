"""Signals that end a command as Ctrl-C does, and the exit code that tells which of them came.

SIGTERM and SIGHUP (a terminal that was closed, a connection that was lost) raise KeyboardInterrupt where the command
is; so each ends with its report and leaves nothing behind.
"""

from __future__ import annotations

import signal

from corral.faces.cli.exits import INTERRUPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Signals:
    """What came to end this run."""

    def __init__(self) -> None:
        self.received: int | None = None
        """The first signal of those caught here; None when there was none, or only Ctrl-C."""
        self._previous: dict[int, Any] = {}

    def catch(self) -> None:
        """From now on they end the command; one that the parent ignores, as nohup does, stays ignored."""
        try:
            for number in _ENDING:
                if signal.getsignal(number) is signal.SIG_DFL:
                    self._previous[number] = signal.signal(number, self._stop)
        except ValueError:
            # Not the main thread: signals are somebody else's business.
            return

    def release(self) -> None:
        """As it was before."""
        while self._previous:
            signal.signal(*self._previous.popitem())

    def settle(self, code: int) -> int:
        """The exit code that the process will have: that of an interruption tells what interrupted."""
        return 128 + self.received if code == INTERRUPTED and self.received is not None else code

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGHUP:
            # Both the shell and the kernel tell of a closed terminal: the second must not disturb the report.
            return
        self.received = self.received or number
        raise KeyboardInterrupt

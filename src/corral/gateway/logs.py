"""The gateway's log: one line for each thing an operator asked for, and for what went wrong; none for each request."""

from __future__ import annotations

import logging
from collections.abc import Callable

from corral.wire import escape_controls

log = logging.getLogger("corral.gateway")


def log_action(who: str, action: str, outcome: str) -> None:
    """Say who asked for what and what came of it, on one line whatever the names hold."""
    log.info("%s: %s: %s", escape_controls(who), escape_controls(action), escape_controls(outcome))


class LineHandler(logging.Handler):
    """Hands each line to ``write``; with ``shows_time`` it begins with the time, which a journal adds by itself."""

    def __init__(self, write: Callable[[str], None], *, shows_time: bool) -> None:
        super().__init__()
        self._write = write
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s" if shows_time else "%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; an exception in a few words, since a traceback is of no use to whoever runs this."""
        found, record.exc_info = record.exc_info, None
        error = found[1] if found else None
        self._write(self.format(record) + ("" if error is None else f": {type(error).__name__}: {error}"))

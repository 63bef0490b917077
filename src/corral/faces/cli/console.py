"""The two streams of a command: results on stdout, talk on stderr, and a status line on a terminal.

Writing never raises. A stdout that is gone is remembered and told once at the end, so that a command that has
changed something still finishes and keeps its own exit code; a stderr that is gone is simply not written to.
"""

from __future__ import annotations

import os
import sys
from errno import EBADF, EPIPE

from corral.faces.cli.columns import cut_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from corral.faces.cli.signals import Signals

BROKEN_PIPE = 141
"""What a shell reports for a program that a closed pipe ended."""


class Console:
    """Where a command writes."""

    def __init__(self, signals: Signals | None = None) -> None:
        self.signals = signals
        """What may end this run; None where nobody listens."""
        self.quiet = False
        """No talk; warnings and errors are still said."""
        self.wrote = False
        """Whether anything went to stdout."""
        self.is_stream = False
        """Whether stdout takes documents line by line, so that one about an error may follow others."""
        self.is_whole = True
        """Whether every piece went out whole; False when an interruption tore one."""
        self._lost: OSError | None = None
        self._status = ""
        self._out = _prepare(sys.stdout)
        self._err = _prepare(sys.stderr)
        self._is_live = _is_terminal(self._err)

    def write(self, text: str) -> bool:
        """Write a piece of the result; False when stdout takes no more."""
        self._clear()
        if self._out is None:
            self._lost = self._lost or OSError(EBADF, os.strerror(EBADF))
        if self._lost is None and self._out is not None:
            self.wrote, self.is_whole = True, False
            try:
                self._out.write(text)
                self.is_whole = True
            except (OSError, ValueError) as error:
                self._lose(error)
        return self._lost is None

    def line(self, text: str) -> bool:
        """Write one line of the result."""
        return self.write(f"{text}\n")

    def flush(self) -> bool:
        """Hand over what was written; False when stdout takes no more."""
        if self._lost is None and self._out is not None:
            try:
                self._out.flush()
            except (OSError, ValueError) as error:
                self._lose(error)
        return self._lost is None

    def say(self, text: str) -> None:
        """Talk to the person who waits: one sentence on stderr, unless quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """One sentence on stderr, quiet or not."""
        # What was printed first should be seen first where both streams lead to one place.
        self.flush()
        self._clear()
        self._put(f"{text}\n")

    @property
    def is_live(self) -> bool:
        """Whether a status line is seen: stderr is a terminal."""
        return self._is_live

    def status(self, text: str) -> None:
        """Show what is going on, on a terminal only; the next output takes its place."""
        if self.quiet or not self._is_live:
            return
        shown = cut_text(text, _columns() - 1)
        if shown != self._status:
            self._clear()
            self._put(shown)
            self._status = shown

    def settle(self, code: int) -> int:
        """The exit code as it will be, for a document that tells it before the end."""
        return code if self.signals is None else self.signals.settle(code)

    def finish(self, code: int) -> int:
        """Flush, tell of a lost stdout, and return the exit code: the command's own, unless that was success."""
        self.flush()
        self._clear()
        if self._lost is None:
            return code
        if self._lost.errno == EPIPE:
            return code or BROKEN_PIPE
        self.warn(f"corral: Cannot write the result: {self._lost.strerror or 'it is closed'}.")
        self.warn("Check where standard output leads; what was asked of the router was done all the same.")
        return code or 1

    def _lose(self, error: OSError | ValueError) -> None:
        self._lost = error if isinstance(error, OSError) else OSError(EBADF, os.strerror(EBADF))
        _silence(self._out)

    def _clear(self) -> None:
        if self._status:
            self._status = ""
            self._put("\r\x1b[K")

    def _put(self, text: str) -> None:
        if self._err is None:
            return
        try:
            self._err.write(text)
            self._err.flush()
        except (OSError, ValueError):
            _silence(self._err)
            self._err = None


def _prepare(stream: TextIO | None) -> TextIO | None:
    """Whatever the locale, a character that it lacks is shown as an escape and never an error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        try:
            reconfigure(errors="backslashreplace")
        except (OSError, ValueError):
            return None
    return stream


def _is_terminal(stream: TextIO | None) -> bool:
    if stream is None or os.environ.get("TERM") == "dumb":
        return False
    try:
        return stream.isatty()
    except ValueError:
        return False


def _columns() -> int:
    """How wide the terminal is that stderr leads to; 80 where there is none."""
    try:
        return os.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def _silence(stream: TextIO | None) -> None:
    """Python flushes once more at exit and would complain; let that go nowhere."""
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError):
        return
    os.dup2(nowhere, descriptor)
    os.close(nowhere)

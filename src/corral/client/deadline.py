"""A socket whose every read and write ends in time, however slowly the other side drips.

``socket.settimeout`` bounds one operation; a server that sends a byte a second would hold a caller for ever.
Here the time left until a total deadline bounds each operation as well.
"""

from __future__ import annotations

import io
import socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer


class DeadlineSocket:
    """What ``http.client`` needs of a socket: ``makefile``, ``sendall`` and ``close``; ``on_send`` is called before."""

    def __init__(self, inner: socket.socket, read_s: float | None, on_send: Callable[[], None]) -> None:
        self.inner = inner
        self._on_send = on_send
        self._pending: list[bytes] = []
        self._file: socket.SocketIO | None = None
        self.read_s = read_s
        """How long one read may wait; None for ever."""
        self.deadline: float | None = None
        """When all reads and writes must be over, on the monotonic clock; None never."""
        self.is_shut = False
        """Whether somebody here has ended it, rather than the other side."""

    def _arm(self) -> None:
        waits = [] if self.read_s is None else [self.read_s]
        if self.deadline is not None:
            left = self.deadline - monotonic()
            if left <= 0:
                raise TimeoutError("the time for this call is over")
            waits.append(left)
        self.inner.settimeout(min(waits) if waits else None)

    def sendall(self, data: bytes) -> None:
        """Keep it until ``flush``: http.client hands over head and body one after the other."""
        self._pending.append(data)

    def flush(self) -> None:
        """Send all that was handed over in one write, so that a request goes out whole or not at all.

        Raises TimeoutError or OSError.
        """
        self._arm()
        data = b"".join(self._pending)
        self._pending.clear()
        self._on_send()
        self.inner.sendall(data)

    def makefile(self, mode: str = "rb") -> io.BufferedReader:
        """A buffered reader whose reads obey both limits."""
        # This file keeps the descriptor alive when http.client closes the socket before the body is read.
        self._file = self.inner.makefile("rb", buffering=0)
        return io.BufferedReader(_Raw(self._file, self._arm))

    def shut(self) -> None:
        """Wake whoever is reading, from any thread."""
        self.is_shut = True
        try:
            self.inner.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Already closed by the other side: nobody is left to wake.
            return

    def close(self) -> None:
        """Close the socket; what is being read from it can be read to its end."""
        self.inner.close()

    def abort(self) -> None:
        """Close the socket for certain, whoever may still hold a reader of it."""
        if self._file is not None:
            self._file.close()
        self.inner.close()


class _Raw(io.RawIOBase):
    def __init__(self, inner: socket.SocketIO, arm: Callable[[], None]) -> None:
        self._inner = inner
        self._arm = arm

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int | None:
        self._arm()
        return self._inner.readinto(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()

"""A socket whose every read and write ends in time, however slowly the other side drips.

``socket.settimeout`` bounds one operation; a server that sends a byte a second would hold a caller for ever.
Here the time left until a total deadline bounds each operation as well.
"""

from __future__ import annotations

import socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class DeadlineSocket:
    """A connected socket with limits; ``on_send`` is called before each write."""

    def __init__(self, inner: socket.socket, read_s: float | None, on_send: Callable[[], None] | None = None) -> None:
        self.inner = inner
        self._on_send = on_send
        self.read_s = read_s
        """How long one operation may wait; None for ever."""
        self.deadline: float | None = None
        """When all reads and writes must be over, on the monotonic clock; None never."""
        self.is_shut = False
        """Whether somebody here has ended it, rather than the other side."""

    def send(self, data: bytes) -> None:
        """Send all of it in one write, so that a request goes out whole or not at all.

        Raises TimeoutError or OSError.
        """
        self._arm()
        if self._on_send is not None:
            self._on_send()
        self.inner.sendall(data)

    def receive(self, limit: int) -> bytes:
        """At most so many bytes, as soon as there are some; none when the other side has ended it.

        Raises TimeoutError or OSError.
        """
        self._arm()
        return self.inner.recv(limit)

    def shut(self) -> None:
        """Wake whoever is reading, from any thread."""
        self.is_shut = True
        try:
            self.inner.shutdown(socket.SHUT_RDWR)
        except OSError:
            # Already closed by the other side: nobody is left to wake.
            return

    def close(self) -> None:
        """Close the socket."""
        self.inner.close()

    def _arm(self) -> None:
        waits = [] if self.read_s is None else [self.read_s]
        if self.deadline is not None:
            left = self.deadline - monotonic()
            if left <= 0:
                raise TimeoutError("the time for this call is over")
            waits.append(left)
        self.inner.settimeout(min(waits) if waits else None)

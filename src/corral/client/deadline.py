"""A socket whose every step ends in time, however slowly the other side drips, and which another thread can end.

``socket.settimeout`` bounds one operation; a server that sends a byte a second would hold a caller for ever.
Here the time left until a total deadline bounds each operation as well, from the connecting on.
"""

from __future__ import annotations

import selectors
import socket
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

# Where there is no poll, as on Windows, select has no limit on the numbers of sockets.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class DeadlineSocket:
    """One connection, from its making to its end."""

    def __init__(self, family: int, limit_s: float | None, deadline: float | None) -> None:
        self._inner = socket.socket(family, socket.SOCK_STREAM)
        self.on_send: Callable[[], None] | None = None
        """Called when bytes are just about to go out."""
        self.limit_s = limit_s
        """How long one operation may wait; None for ever."""
        self.deadline = deadline
        """When all operations must be over, on the monotonic clock; None never."""
        self.is_shut = False
        """Whether somebody here has ended it, rather than the other side."""

    def connect(self, address: object) -> None:
        """Connect; raises TimeoutError or OSError, as all below does."""
        self._arm()
        self._inner.connect(address)  # type: ignore[arg-type]  # as getaddrinfo gives it, or a path
        if self._inner.family != getattr(socket, "AF_UNIX", None):
            self._inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, tls: ssl.SSLContext, name: str) -> None:
        """Speak TLS from here on, with the server of this name."""
        self._arm()
        wrapped = tls.wrap_socket(self._inner, server_hostname=name, do_handshake_on_connect=False)
        # Before the handshake, so that another thread can end that too.
        self._inner = wrapped
        self._arm()
        wrapped.do_handshake()

    def send(self, data: bytes) -> None:
        """Send all of it in one write, so that a request goes out whole or not at all."""
        self._arm()
        if self.on_send is not None:
            self.on_send()
        self._inner.sendall(data)

    def receive(self, limit: int) -> bytes:
        """At most so many bytes, as soon as there are some; none when the other side has ended it."""
        self._arm()
        data = self._inner.recv(limit)
        if self.is_shut:
            raise _ended()
        return data

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody has asked for; the end of the connection is something."""
        with _Selector() as selector:
            selector.register(self._inner, selectors.EVENT_READ)
            return not selector.select(0)

    def shut(self) -> None:
        """Wake whoever waits for it, from any thread; nothing goes out or comes in any more."""
        self.is_shut = True
        try:
            # That of a TLS socket would first take the encryption away, under the hands of whoever reads.
            socket.socket.shutdown(self._inner, socket.SHUT_RDWR)
        except OSError:
            # Already closed by the other side: nobody is left to wake.
            return

    def close(self) -> None:
        """Close the socket."""
        self._inner.close()

    def _arm(self) -> None:
        if self.is_shut:
            raise _ended()
        waits = [] if self.limit_s is None else [self.limit_s]
        if self.deadline is not None:
            left = self.deadline - monotonic()
            if left <= 0:
                raise TimeoutError("the time for this call is over")
            waits.append(left)
        self._inner.settimeout(min(waits) if waits else None)


def _ended() -> ConnectionAbortedError:
    return ConnectionAbortedError("it was broken off here")

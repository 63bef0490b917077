"""The router's event stream, read by one thread and reopened when it breaks."""

from __future__ import annotations

from threading import Event as Flag
from threading import Thread
from time import monotonic

from corral.ops import Heard, StreamLost, StreamOpened
from corral.wire import BadArgumentError, CorralError, RefusedError, SseDecoder, follow_events, read_event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client.router import Router
    from corral.client.transport import Transport

HEADERS_S = 2.0
"""How long the stream's head may take: the router sends it at once, so a later one means trouble."""
FIRST_PAUSE_S = 0.25
LAST_PAUSE_S = 5.0


_NO_THREAD = BadArgumentError(
    "The system allows this user no further thread, which the router's event stream needs.",
    "Raise the limit (ulimit -u, or TasksMax= of a systemd unit), or end other programs of this user.",
)


class EventThread:
    """Puts StreamOpened, Heard and StreamLost into ``put``; the first is always one of the outer two."""

    def __init__(self, router: Router, put: Callable[[StreamOpened | Heard | StreamLost], None]) -> None:
        self._router = router
        self._put = put
        self._closed = Flag()
        self._transport: Transport | None = None
        self._thread = Thread(target=self._run, name="corral-events", daemon=True)

    def start(self) -> None:
        """Open the stream; returns at once."""
        try:
            self._thread.start()
        except RuntimeError:
            # The stream is a hint; whoever needs it learns why there is none.
            self._put(StreamLost(_NO_THREAD))

    def close(self) -> None:
        """End the stream and the thread."""
        self._closed.set()
        if self._transport is not None:
            self._transport.shut()
        if self._thread.ident is not None:
            # An interruption may come between making the thread and starting it.
            self._thread.join(0.2)

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._closed.is_set():
            opened_at = monotonic()
            error = self._follow()
            if self._closed.is_set():
                return
            self._put(StreamLost(error))
            if isinstance(error, RefusedError) and error.status in (401, 403, 404, 501):
                # This build has no event stream, or not for us: asking again would not change that.
                return
            pause_s = FIRST_PAUSE_S if monotonic() - opened_at > LAST_PAUSE_S else min(pause_s * 2, LAST_PAUSE_S)
            self._closed.wait(pause_s)

    def _follow(self) -> CorralError | None:
        """One connection's life; the error that ended it, or None when the server ended it in order."""
        try:
            self._transport, response = self._router.open_stream(follow_events(), HEADERS_S)
        except CorralError as error:
            return error
        try:
            self._put(StreamOpened())
            decoder = SseDecoder()
            while not self._closed.is_set():
                data = response.read()
                if not data:
                    return None
                now = monotonic()
                for message in decoder.feed(data):
                    event = read_event(message.data)
                    if event is not None:
                        self._put(Heard(event, now))
        except (OSError, ValueError):
            # A cut stream is expected: the router went away, or close() woke this thread.
            return None
        finally:
            self._transport.close()
        return None

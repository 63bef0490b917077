"""Runs a verb, blocking: one connection for its calls, one thread for events, a queue's timeout as its clock."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from corral.client.events import EventThread
from corral.ops import Answered, Done, Listed, Listen, Look, LookFailed, Say, Send, Tick, Unsent, WakeAt
from corral.wire import Call, CorralError, list_models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client.router import Router
    from corral.ops.protocol import Effect, Input, Verb


class Engine:
    """One run of one verb."""

    def __init__(self, router: Router, verb: Verb, say: Callable[[object], None] | None) -> None:
        self._router = router
        self._verb = verb
        self._say = say
        self._inbox: SimpleQueue[Input] = SimpleQueue()
        self._effects: deque[Effect] = deque()
        self._events: EventThread | None = None
        self._wake_at: float | None = None
        self._report: object = None

    def run(self) -> object:
        """Run the verb to its Done and return the report.

        KeyboardInterrupt ends the verb early; its report then says so.
        """
        try:
            try:
                self._effects.extend(self._verb.start(monotonic()))
                self._loop()
            except KeyboardInterrupt:
                for effect in [effect for effect in self._effects if isinstance(effect, Send)]:
                    self._verb.on(Unsent(effect.tag), monotonic())
                self._effects = deque(self._verb.interrupt(monotonic()))
                self._loop()
        finally:
            if self._events is not None:
                self._events.close()
        return self._report

    def _loop(self) -> None:
        while True:
            while self._effects:
                effect = self._effects.popleft()
                if isinstance(effect, Done):
                    self._report = effect.report
                    return
                self._perform(effect)
                self._take_waiting()
            self._feed(self._wait())

    def _feed(self, given: Input) -> None:
        self._effects.extend(self._verb.on(given, monotonic()))

    def _take_waiting(self) -> None:
        """Events that came while calls were under way are taken between two of them."""
        while not self._inbox.empty():
            self._feed(self._inbox.get_nowait())

    def _wait(self) -> Input:
        timeout = None if self._wake_at is None else max(0.0, self._wake_at - monotonic())
        try:
            return self._inbox.get(timeout=timeout)
        except Empty:
            self._wake_at = None
            return Tick()

    def _perform(self, effect: Effect) -> None:
        if isinstance(effect, Look):
            self._feed(self._look())
        elif isinstance(effect, Send) and effect.apart:
            Thread(target=self._send_apart, args=(effect.tag, effect.call), daemon=True).start()
        elif isinstance(effect, Send):
            try:
                error = self._try(effect.call)
            except KeyboardInterrupt:
                if not self._router.is_sent:
                    self._effects.appendleft(effect)
                raise
            self._feed(Answered(effect.tag, error))
        elif isinstance(effect, Listen):
            self._events = EventThread(self._router, self._inbox.put)
            self._events.start()
        elif isinstance(effect, WakeAt):
            self._wake_at = effect.at
        elif isinstance(effect, Say) and self._say is not None:
            self._say(effect.fact)

    def _look(self) -> Input:
        try:
            return Listed(self._router.send(list_models()))
        except CorralError as error:
            return LookFailed(error)

    def _try(self, call: Call) -> CorralError | None:
        try:
            self._router.send(call)
        except CorralError as error:
            return error
        return None

    def _send_apart(self, tag: str, call: Call) -> None:
        """In a thread of its own: a call that may block for as long as the model's stop takes."""
        error: CorralError | None = None
        try:
            self._router.send_apart(call)
        except CorralError as refusal:
            error = refusal
        self._inbox.put(Answered(tag, error))

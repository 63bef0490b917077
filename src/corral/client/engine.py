"""Runs a verb, blocking: one connection for its calls, one thread for events, a queue's timeout as its clock."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic

from corral.client.events import EventThread
from corral.ops import (
    Answered,
    Ask,
    Done,
    Ended,
    Listed,
    Listen,
    Look,
    LookFailed,
    Measure,
    Measured,
    Say,
    Send,
    Tick,
    Told,
    Unsent,
    WakeAt,
)
from corral.ops.measurement import Measurement
from corral.wire import Call, CorralError, list_models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client.router import Router
    from corral.ops.measurement import Meter
    from corral.ops.protocol import Effect, Input, Verb


def measure(meter: Meter | None, effect: Measure) -> Measured:
    """Look at the machine; without a meter it shows nothing."""
    if meter is None:
        return Measured(Measurement((), reason="this program does not look at the machine"))
    living = meter.find_living(effect.processes) if effect.processes else ()
    return Measured(meter.measure(effect.models, memory=effect.memory, recent=effect.recent, only=effect.only), living)


class Engine:
    """One run of one verb; ``inbox`` may be given inputs by other threads, such as Ended."""

    def __init__(
        self,
        router: Router,
        verb: Verb,
        say: Callable[[object], None] | None,
        inbox: SimpleQueue[Input] | None = None,
    ) -> None:
        self._router = router
        self._verb = verb
        self._say = say
        self._inbox: SimpleQueue[Input] = SimpleQueue() if inbox is None else inbox
        self._effects: deque[Effect] = deque()
        self._events: EventThread | None = None
        self._under_way: Send | None = None
        """The newest call that changes something, and how often bytes had gone out before it."""
        self._writes_before = 0
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
                self._drop_sends()
                self._effects = deque(self._verb.interrupt(monotonic()))
                self._loop()
        finally:
            if self._events is not None:
                self._events.close()
        return self._report

    def _loop(self) -> None:
        while True:
            while self._effects:
                effect = self._effects[0]
                if isinstance(effect, Done):
                    self._report = effect.report
                    return
                if isinstance(effect, Send):
                    # It takes itself out of what is to be done, when that is certain.
                    self._send(effect)
                else:
                    self._perform(self._effects.popleft())
                self._take_waiting()
            self._feed(self._wait())

    def _drop_sends(self) -> None:
        """What was still to be sent is not, and the verb hears of it; what was under way may have gone out."""
        sends = [effect for effect in self._effects if isinstance(effect, Send)]
        for effect in sends:
            if effect is not self._under_way or self._router.writes == self._writes_before:
                self._verb.on(Unsent(effect.tag), monotonic())

    def _feed(self, given: Input) -> None:
        if isinstance(given, Ended):
            # Whoever ended the verb is obeyed before the next request goes out.
            self._drop_sends()
            self._effects.clear()
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
        if isinstance(effect, Listen):
            self._events = EventThread(self._router, self._inbox.put)
            self._events.start()
        elif isinstance(effect, WakeAt):
            self._wake_at = effect.at
        elif isinstance(effect, Say) and self._say is not None:
            self._say(effect.fact)
        elif isinstance(effect, Look):
            self._take_look(self._look())
        elif isinstance(effect, Ask):
            self._feed(self._ask(effect))
        elif isinstance(effect, Measure):
            self._feed(measure(self._router.meter, effect))

    def _send(self, effect: Send) -> None:
        if self._is_over():
            self._effects.popleft()
            self._verb.on(Unsent(effect.tag), monotonic())
            return
        if effect.apart:
            self._effects.popleft()
            try:
                Thread(target=self._send_apart, args=(effect.tag, effect.call), daemon=True).start()
            except RuntimeError:
                # A limit on threads: such calls come last, so that this one may hold up the rest.
                self._send_apart(effect.tag, effect.call)
            return
        # In this order, and the effect stays where it is: wherever Ctrl-C comes, it is known whether anything went out.
        self._writes_before, self._under_way = self._router.writes, effect
        error = self._try(effect.call)
        self._effects.popleft()
        self._feed(Answered(effect.tag, error))

    def _is_over(self) -> bool:
        return self._verb.deadline is not None and monotonic() >= self._verb.deadline

    def _take_look(self, given: Input) -> None:
        if isinstance(given, LookFailed):
            # Whoever ended the verb may have broken the look off: the end goes before the failure.
            self._take_waiting()
            if any(isinstance(effect, Done) for effect in self._effects):
                return
        self._feed(given)

    def _look(self) -> Input:
        try:
            return Listed(self._router.send(list_models(), self._verb.deadline))
        except CorralError as error:
            return LookFailed(error)

    def _ask(self, effect: Ask) -> Told:
        try:
            return Told(effect.tag, self._router.send(effect.call, self._verb.deadline))
        except CorralError as error:
            return Told(effect.tag, None, error)

    def _try(self, call: Call) -> CorralError | None:
        try:
            self._router.send(call, self._verb.deadline)
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

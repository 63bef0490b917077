"""A verb's counterpart in tests: it takes effects and gives inputs, without sockets, threads or a clock."""

from __future__ import annotations

from typing import Any

from corral.ops import (
    Answered,
    Ask,
    Done,
    Heard,
    Listed,
    Listen,
    Look,
    LookFailed,
    Measure,
    Measured,
    Say,
    Send,
    StreamOpened,
    Tick,
    Told,
    WakeAt,
)
from corral.ops.measurement import Child, Device, Measurement, Process
from corral.ops.protocol import Effect, Input, Verb
from corral.wire import CorralError, Event, Listing, Model, read_model


def model(
    model_id: str,
    status: str = "loaded",
    port: int | None = 1000,
    *,
    exit_code: int | None = None,
    aliases: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    stop_timeout: int = 10,
) -> Model:
    """A model as the list shows it."""
    inner: dict[str, Any] = {
        "value": status,
        "args": ["--port", str(port or 0)],
        "preset": f"stop-timeout = {stop_timeout}",
    }
    if exit_code is not None:
        inner.update(failed=True, exit_code=exit_code)
    read = read_model({"id": model_id, "aliases": list(aliases), "tags": list(tags), "status": inner})
    assert read is not None
    return read


def listing(*models: Model, has_events: bool | None = True) -> Listing:
    """A look at these models."""
    return Listing(models, has_events)


def event(model_id: str, status: str, **fields: Any) -> Event:
    """A status event."""
    values: dict[str, Any] = {"progress": None, "stage": None, "exit_code": None, "raw": {}, **fields}
    return Event(model_id, "status_change", status, **values)


class Machine:
    """The router's machine: each listed resident has a process, and holds and answers what the test says."""

    def __init__(self) -> None:
        self.in_flight: dict[str, int | None] = {}
        self.held_bytes: dict[str, int] = {}
        self.last_active_s: dict[str, float] = {}
        self.absent: set[str] = set()
        """Models whose process is not shown."""
        self.undead: set[str] = set()
        """Models whose process outlives its listing."""
        self.hidden: dict[str, int] = {}
        """Children that the list does not show, by port."""
        self.devices: tuple[Device, ...] = ()
        self.looks: list[Measure] = []

    def measure(self, effect: Measure) -> Measured:
        """One look."""
        self.looks.append(effect)
        residents = [
            found for found in effect.models if found.is_resident and found.port and found.id not in self.absent
        ]
        children = tuple(self.build_child(found.id, found.port or 0) for found in residents)
        children += tuple(self.build_child(name, port, is_hidden=True) for name, port in self.hidden.items())
        children = tuple(child for child in children if not effect.only or child.model in effect.only)
        living = {child.process for child in children}
        living |= {process for process in effect.processes if process.name in self.undead}
        return Measured(
            Measurement(children, self.devices), tuple(found for found in effect.processes if found in living)
        )

    def build_child(self, model_id: str, port: int, *, is_hidden: bool = False) -> Child:
        """The process of a model."""
        process = Process(port + 5000, 1, model_id)
        busy, held = self.in_flight.get(model_id, 0), self.held_bytes.get(model_id)
        active_s = self.last_active_s.get(model_id)
        return Child(model_id, process, port, busy, held, is_hidden=is_hidden, last_active_s=active_s)


class World:
    """Runs a verb by hand; ``sent`` are the tags of all calls so far.

    Without a ``machine`` the router is elsewhere, and children tell ``in_flight`` themselves when asked.
    """

    def __init__(self, verb: Verb, machine: Machine | None = None) -> None:
        self.verb = verb
        self.machine = machine
        self.in_flight: dict[str, int | CorralError] = {}
        self.answers: dict[str, int | CorralError | None] = {}
        """What other questions are answered with, by tag."""
        self.asked: list[str] = []
        self.now = 100.0
        self.sent: list[str] = []
        self.calls: list[tuple[str, str]] = []
        """What was asked and sent, in order."""
        self.said: list[object] = []
        self.looks = 0
        self.wake_at: float | None = None
        self.report: Any = None
        self.listens = 0
        self._take(verb.start(self.now))

    def give(self, given: Input, after_s: float = 0.001) -> None:
        """Let time pass and give the verb one input."""
        assert self.report is None, "the verb is done"
        self.now += after_s
        self._take(self.verb.on(given, self.now))

    def show(self, *models: Model, has_events: bool | None = True) -> None:
        """Answer the look that was asked for, waking the verb until it asks or ends."""
        while not self.looks:
            self.tick()
            if self.report is not None:
                return
        assert self.looks == 1, "exactly one look at a time"
        self.looks = 0
        self.give(Listed(listing(*models, has_events=has_events)))

    def fail_look(self, error: CorralError) -> None:
        """The look that was asked for fails."""
        while not self.looks:
            self.tick()
            if self.report is not None:
                return
        self.looks = 0
        self.give(LookFailed(error))

    def open_stream(self) -> None:
        """The event stream opens."""
        assert self.listens == 1
        self.give(StreamOpened())

    def hear(self, model_id: str, status: str, **fields: Any) -> None:
        """The stream says something now."""
        self.give(Heard(event(model_id, status, **fields), self.now + 0.001))

    def answer(self, tag: str, error: CorralError | None = None) -> None:
        """The router answers a call."""
        self.give(Answered(tag, error))

    def tick(self) -> None:
        """Let time pass until the verb wants to be woken."""
        assert self.wake_at is not None, "the verb waits for nothing"
        self.now = max(self.now, self.wake_at)
        self.wake_at = None
        self._take(self.verb.on(Tick(), self.now))

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._take(self.verb.interrupt(self.now))

    def outcome(self, model_id: str) -> str:
        """What the report says of one model."""
        found: dict[str, str] = {item.model: item.outcome for item in self.report.outcomes}
        return found[model_id]

    def _take(self, effects: list[Effect]) -> None:
        due = list(effects)
        while due:
            effect = due.pop(0)
            assert self.report is None, "nothing comes after Done"
            if isinstance(effect, Look):
                self.looks += 1
            elif isinstance(effect, Send):
                self.sent.append(effect.tag)
                self.calls.append(("unload", effect.tag))
            elif isinstance(effect, Ask):
                self.asked.append(effect.tag)
                self.calls.append(("ask", effect.tag))
                told = self.answers.get(effect.tag, self.in_flight.get(effect.tag, 0))
                answer = Told(effect.tag, None, told) if isinstance(told, CorralError) else Told(effect.tag, told)
                due += self.verb.on(answer, self.now)
            elif isinstance(effect, Measure):
                nothing = Measured(Measurement((), reason="the router is on another host"))
                due += self.verb.on(self.machine.measure(effect) if self.machine else nothing, self.now)
            elif isinstance(effect, Listen):
                self.listens += 1
            elif isinstance(effect, WakeAt):
                self.wake_at = effect.at
            elif isinstance(effect, Say):
                self.said.append(effect.fact)
            elif isinstance(effect, Done):
                self.report = effect.report

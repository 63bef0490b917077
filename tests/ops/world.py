"""A verb's counterpart in tests: it takes effects and gives inputs, without sockets, threads or a clock."""

from __future__ import annotations

from typing import Any

from corral.ops import Answered, Done, Heard, Listed, Listen, Look, LookFailed, Say, Send, StreamOpened, Tick, WakeAt
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


class World:
    """Runs a verb by hand; ``effects`` are the newest, ``sent`` the tags of all calls so far."""

    def __init__(self, verb: Verb) -> None:
        self.verb = verb
        self.now = 100.0
        self.sent: list[str] = []
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
        for effect in effects:
            assert self.report is None, "nothing comes after Done"
            if isinstance(effect, Look):
                self.looks += 1
            elif isinstance(effect, Send):
                self.sent.append(effect.tag)
            elif isinstance(effect, Listen):
                self.listens += 1
            elif isinstance(effect, WakeAt):
                self.wake_at = effect.at
            elif isinstance(effect, Say):
                self.said.append(effect.fact)
            elif isinstance(effect, Done):
                self.report = effect.report

"""Idle times by connections, and the rule that says which models have been idle for too long."""

from __future__ import annotations

from typing import Any

from corral.ops.idle import (
    BUSY,
    LOADING,
    NEVER,
    NO_LIMIT,
    NOT_VISIBLE,
    NOT_YET,
    PINNED,
    Idle,
    IdleLimits,
    IdleTimes,
    judge,
)
from corral.ops.measurement import Child, Measurement, Process
from corral.wire import Listing, Model, read_model


def model(name: str = "a", status: str = "loaded", sleep_s: int | None = None, **fields: Any) -> Model:
    """A model as the list shows it."""
    args = ["--port", "5000", *([] if sleep_s is None else ["--sleep-idle-seconds", str(sleep_s)])]
    read = read_model({"id": name, "status": {"value": status, "args": args}, **fields})
    assert read is not None
    return read


def child(name: str = "a", *, started: int = 1, in_flight: int | None = 0, ago: float | None = None) -> Child:
    """Its process; ``ago`` is when a connection last ended or it was started, None more than a minute ago."""
    return Child(name, Process(7, started), 5000, in_flight, reasons=("no rights",), last_active_s=ago)


class Watch:
    """Looks at one model from time to time."""

    def __init__(self) -> None:
        self.times, self.now = IdleTimes(), 1000.0

    def look(self, after_s: float, found: Child | None, entry: Model | None = None) -> float | None:
        """Look again after some time; the idle time that is told then."""
        self.now += after_s
        children = () if found is None else (found,)
        self.times.take(Listing((model() if entry is None else entry,), True), Measurement(children), self.now)
        return self.times.tell(self.now)[0].idle_s


# Idle times.


def test_rest_counts_from_the_end_of_the_last_answer() -> None:
    """Between two looks an answer that ended starts the count anew, from its end; looks themselves do not."""
    watch = Watch()

    assert watch.look(0, child(ago=10)) == 10
    assert watch.look(30, child(ago=40)) == 40
    assert watch.look(30, child()) == 70
    assert watch.look(30, child(ago=4)) == 4
    assert watch.look(30, child(in_flight=1, ago=0)) == 0
    assert watch.look(30, child(ago=30)) == 30


def test_what_was_before_the_first_look_is_not_assumed() -> None:
    """Of a process that was quiet for the last minute only the look is sure: it may have come up just then."""
    watch = Watch()

    assert watch.look(0, child()) == 0
    assert watch.look(30, child()) == 30


def test_fresh_model_counts_from_its_coming_up() -> None:
    """A model that has loaded counts from when it was seen up, and a new process has no past."""
    watch = Watch()

    assert watch.look(0, child(ago=5)) == 5
    assert watch.look(30, child(started=2, ago=3)) == 3
    assert watch.look(20, child(started=2, ago=23), model(status="loading")) == 0
    assert watch.look(30, child(started=2, ago=53)) == 0, "it has come up just now"
    assert watch.look(30, child(started=2)) == 30


def test_long_gap_is_no_rest() -> None:
    """After a time without looks, as when the router was away, it may have answered up to a minute ago."""
    watch = Watch()
    watch.look(0, child(ago=50))

    assert watch.look(600, child()) == 55
    assert watch.look(30, child()) == 85


def test_sleep_tells_of_rest() -> None:
    """A model that sleeps has rested for at least as long as it takes to fall asleep."""
    watch = Watch()

    assert watch.look(0, child(), model(status="sleeping", sleep_s=900)) == 900
    assert watch.look(30, child(), model(status="sleeping", sleep_s=900)) == 930


def test_connection_that_wakes_nothing_is_no_use() -> None:
    """A monitor that asks a sleeping model for its properties does not keep it, and one that woke it does."""
    watch, asleep = Watch(), model(status="sleeping", sleep_s=60)
    watch.look(0, child(), asleep)

    assert watch.look(30, child(ago=2), asleep) == 90, "it slept through"
    assert watch.look(61, child(ago=50), asleep) == 60, "it may have woken and fallen asleep again"
    assert watch.look(1, child(ago=0.5)) == 0.5


def test_unknown_sleep_limit() -> None:
    """Of a sleeping model whose limit is not told, only connections count."""
    watch = Watch()

    assert watch.look(0, child(ago=20), model(status="sleeping")) == 20


def test_what_is_not_seen_is_unknown() -> None:
    """Without its process or its connections nothing is known, and what was known before does not come back."""
    watch = Watch()
    watch.look(0, child(ago=50))

    assert watch.look(30, None) is None
    assert watch.times.tell(watch.now)[0].note == "its process is not seen"
    assert watch.look(30, child(in_flight=None)) is None
    assert watch.times.tell(watch.now)[0].note == "no rights"
    assert watch.look(30, child()) == 0


def test_model_that_went_is_forgotten() -> None:
    """What is not resident has no idle time."""
    watch = Watch()
    watch.look(0, child())
    watch.times.take(Listing((model(status="unloaded"),), True), Measurement(()), 1001)

    assert watch.times.tell(1001) == []


def test_putting_off() -> None:
    """A model that was found at work counts from then on."""
    watch = Watch()
    watch.look(0, child(ago=50))
    watch.times.put_off("a", watch.now + 1)

    assert watch.times.tell(watch.now + 5)[0].idle_s == 4


# The rule.


def test_first_pattern_that_matches_counts() -> None:
    """Patterns are tried in their order, on id and aliases; where none matches the usual limit holds."""
    limits = IdleLimits(60, (("qwen*", 10.0), ("*8b", 20.0)))

    assert limits.find(model("qwen3-8b")) == (10.0, "qwen*")
    assert limits.find(model("llama-8b")) == (20.0, "*8b")
    assert limits.find(model("x", aliases=["qwen-x"])) == (10.0, "qwen*")
    assert limits.find(model("y")) == (60, "")
    assert (10.0, None) == (limits.shortest_s, IdleLimits().shortest_s)


def test_verdicts() -> None:
    """What has been idle for its limit is due; everything else has its reason, and when it will be due."""
    table = [
        Idle(model("due"), 60.0, 0),
        Idle(model("over"), 99.0, 0),
        Idle(model("soon"), 45.0, 0),
        Idle(model("busy"), 0.0, 2),
        Idle(model("up", status="loading"), 0.0, 0),
        Idle(model("dark"), None, note="no rights"),
        Idle(model("pinned"), 99.0, 0),
        Idle(model("never"), 99.0, 0),
        Idle(model("free-1"), 99.0, 0),
    ]
    limits = IdleLimits(60)
    found = {verdict.model: verdict for verdict in judge(table, limits, never=["never"], pinned=["pinned"])}
    unlimited = judge(table, IdleLimits(None, (("free*", 100.0),)))

    assert [name for name, verdict in found.items() if verdict.is_due] == ["due", "over", "free-1"]
    assert {name: verdict.stays for name, verdict in found.items() if not verdict.is_due} == {
        "soon": NOT_YET,
        "busy": BUSY,
        "up": LOADING,
        "dark": NOT_VISIBLE,
        "pinned": PINNED,
        "never": NEVER,
    }
    assert (15.0, 60.0, None) == (found["soon"].left_s, found["busy"].left_s, found["pinned"].left_s)
    assert [NO_LIMIT] * 8 + [NOT_YET] == [verdict.stays for verdict in unlimited]
    assert (1.0, "free*", "no rights") == (unlimited[-1].left_s, unlimited[-1].pattern, found["dark"].note)

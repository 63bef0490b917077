"""What passes between the gateway's door and whoever stands at it: requests, verdicts, and why one must wait.

Pure values and sentences; ``corral.ops.door`` decides.
"""

from __future__ import annotations

from corral.ops.promises import Hold
from corral.wire import Record, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

# Kinds of requests.

WORK = "work"
"""Wants an answer of its model, which the router loads or wakes for it."""
PROBE = "probe"
"""Looks at its model (``/slots``, ``/metrics``, ``/props``); never waits, and loads and wakes nothing that is held."""
STREAM = "stream"
"""Reads more of an answer that is under way; in flight while it lasts, and never waits."""
CONTROL = "control"
"""Stops or asks about a stream; passes a drain, because it may be what ends it."""
LOAD = "load"
"""An operator wants the model up; never counts as in flight."""


class Request(Record):
    """One request at the door."""

    id: int
    model: str | None
    """The canonical id; None when it names none, or none that is known."""
    kind: str = WORK
    size_bytes: int = 0
    """What it occupies while it waits."""
    autoload: bool | None = None
    """What the client says of autoload; None when it says nothing."""
    is_task: bool = False
    """A client's background task, which nobody waits for."""
    label: str = ""
    """Who sent it, for people."""


# Verdicts.


class Admit(Record):
    """The request goes on now."""

    id: int
    autoload: bool | None
    """None: as the client sent it; False: the client's ``autoload`` is taken out and ``autoload=false`` put in."""


class Refusal(Record):
    """Why a request does not go on, in a form that becomes an HTTP answer."""

    status: int
    message: str
    code: str
    retry_after_s: float | None = None
    """When asking again may help; None when that is not known."""
    should_retry: bool = False
    """Whether trying again soon can help."""


class Refuse(Record):
    """The request does not go on."""

    id: int
    refusal: Refusal


# What the door asks for besides.


class StartLoad(Record):
    """Load this model, and say with ``answer_load`` what came of it."""

    model: str


class MakeRoom(Record):
    """Unload ``victim`` if it is idle, for ``wanted``, and say with ``answer_room`` whether it went."""

    victim: str
    wanted: str


class WakeAt(Record):
    """Call ``tick`` at this time; replaces the earlier one."""

    at: float


Effect: TypeAlias = Admit | Refuse | StartLoad | MakeRoom | WakeAt


# What keeps a model's requests waiting.


class Held(Record):
    """A hold in force, on the door's clock."""

    hold: Hold
    ends_at: float
    until: str
    """When it ends, for people."""


class Closure(Record):
    """A model that takes no new requests for a while: a drain."""

    who: str
    why: str
    """In words, such as ``is being unloaded``."""
    ends_at: float
    """When it is over at the latest."""
    park_s: float
    """How long a request waits for its end."""


class Limits(Record):
    """The bounds of what waits at the door."""

    parked_max: int = 512
    """So many requests may wait, all models together."""
    parked_bytes_max: int = 256 << 20
    """So much may they occupy."""
    load_park_s: float = 600.0
    """How long a request waits for its model to come up."""
    settle_park_s: float = 600.0
    """How long a request waits for a model that is loading by itself."""
    held_park_s: float = 30.0
    """A request for a held model waits when the hold ends within this time; else it is refused at once."""
    refuses_tasks: bool = True
    """Background tasks are refused where a chat would wait for a drain or a hold."""
    spare_s: float = 5.0
    """How long a model that would not go for another is left alone."""


REFUSED_AT_STOP = Refusal(503, "The gateway is stopping.", "stopping", 5.0, True)
SOON_S = 60.0
"""A retry within this time is worth while."""


def refuse_held(model: str, held: Held, now: float) -> Refusal:
    """The model is held: by whom, why and until when."""
    left_s = max(0.0, held.ends_at - now)
    hold = held.hold
    reason = f": {escape_controls(hold.reason)}" if hold.reason else ""
    return Refusal(
        503,
        f"Model {show_name(model)} is held by {escape_controls(hold.owner.label)} until {held.until} "
        f"({tell_left(left_s)} left){reason}. 'corral release {hold.id}' ends the hold.",
        "model_held",
        left_s,
        left_s <= SOON_S,
    )


def refuse_closed(model: str, closure: Closure, now: float) -> Refusal:
    """The model is being unloaded."""
    left_s = max(1.0, closure.ends_at - now)
    return Refusal(
        503,
        f"Model {show_name(model)} {closure.why} by {escape_controls(closure.who)}; "
        f"it takes requests again in {tell_left(left_s)} at the latest.",
        "model_draining",
        left_s,
        left_s <= SOON_S,
    )


def refuse_slow(model: str, waited_s: float) -> Refusal:
    """The model did not come up in time."""
    return Refusal(
        503,
        f"Model {show_name(model)} did not come up within {tell_left(waited_s)}; the router's log may say why.",
        "model_not_up",
        5.0,
        True,
    )


def refuse_room(model: str, models_max: int, busy: list[str]) -> Refusal:
    """There is no place for the model."""
    names = ", ".join(show_name(name, 60) for name in busy[:5]) or "others"
    return Refusal(
        503,
        f"Model {show_name(model)} cannot be loaded: the router's {models_max} places are taken by models that are "
        f"busy or pinned ({names}). Try again when one is idle, unload one, or raise --models-max.",
        "no_room",
        10.0,
        True,
    )


def refuse_failed(model: str, said: str) -> Refusal:
    """The gateway tried to load the model for this request, and it did not come up."""
    return Refusal(
        500, f"Model {show_name(model)} failed to load: {escape_controls(said)}.", "load_failed", None, False
    )


def refuse_crowd(model: str, limits: Limits) -> Refusal:
    """Too many wait already."""
    return Refusal(
        503,
        f"Too many requests wait at the gateway (at most {limits.parked_max}, or {limits.parked_bytes_max >> 20} MiB), "
        f"so none more for {show_name(model)} now.",
        "too_many_waiting",
        10.0,
        True,
    )


def refuse_task(refusal: Refusal) -> Refusal:
    """A background task is refused where a chat would wait."""
    message = f"{refusal.message} Background tasks are not kept waiting for that."
    return Refusal(refusal.status, message, refusal.code, refusal.retry_after_s, False)


def tell_left(seconds: float) -> str:
    """A time that is left, for people: ``45 s``, ``12 min``, ``1 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")

"""How a verb talks to the world: inputs come in, effects go out, and time is an argument.

A verb is an object with ``start(now)``, ``on(input, now)`` and ``interrupt(now)``, each returning effects. It
holds no clock, socket or thread, so the same verb runs under the blocking driver, the async one and in tests.

Rule for drivers: perform effects in the order given; feed each result back through ``on``; when nothing is
left to do, wait for an event or for the newest ``WakeAt``, then feed ``Tick``. ``now`` never runs backwards.
"""

from __future__ import annotations

from corral.wire import Call, CorralError, Event, Listing, Model, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol, TypeAlias

    from corral.ops.measurement import Measurement, Process
    from corral.ops.promises import Hold
else:

    class Protocol:
        """Stands in at run time, where ``typing`` would cost start-up time."""


# What a verb is told.


class Listed(Record):
    """A look at the router came back."""

    listing: Listing


class LookFailed(Record):
    """A look at the router did not come back."""

    error: CorralError


class Answered(Record):
    """A call that was sent is over: ``error`` is None, or what the server or the path said."""

    tag: str
    error: CorralError | None


class Unsent(Record):
    """A call that was asked for never went out: the driver was interrupted before. Nothing more will be sent."""

    tag: str


class Heard(Record):
    """The event stream said something."""

    event: Event
    at: float
    """When the bytes arrived, on the driver's clock; it may lie a little before ``now``."""


class StreamOpened(Record):
    """The event stream's headers are here: every event from now on will be seen."""


class StreamLost(Record):
    """There is no event stream now: it ended, broke or is not offered. The driver keeps trying to reopen it."""

    error: CorralError | None


class Told(Record):
    """What was asked with Ask was answered, or not."""

    tag: str
    value: int | None
    """What the call's reader made of the reply; None with an error."""
    error: CorralError | None = None


class Measured(Record):
    """A look at the machine came back."""

    measurement: Measurement
    living: tuple[Process, ...] = ()
    """Those of the processes asked about that have not ended."""


class Ended(Record):
    """Somebody else ends this verb: a hold was released."""

    reason: str


class LetOut(Record):
    """Somebody else takes models out of what this verb is about: they were released from a hold."""

    models: tuple[str, ...]


class Protected(Record):
    """Somebody else says what no rule may choose: these models from now on, and no others."""

    models: tuple[str, ...]


class Outranked(Record):
    """These older holds are seen to by others: what comes up of theirs is left to them.

    Two that unload the same model get into each other's way: the later request may hit it while it loads again.
    """

    holds: tuple[Hold, ...]


class Tick(Record):
    """The time asked for with WakeAt has come."""


# What a verb asks for.


class Look(Record):
    """Read the list of models."""


class Send(Record):
    """Send a call once; never again without a new Send."""

    tag: str
    call: Call
    apart: bool = False
    """The call may block for long: give it a connection of its own and go on with the rest."""


class Ask(Record):
    """Send a call that reads a number and changes nothing."""

    tag: str
    call: Call


class Measure(Record):
    """Look at the machine: the children of these models, with ``memory`` what they hold, and who still lives."""

    models: tuple[Model, ...]
    memory: bool
    processes: tuple[Process, ...] = ()
    recent: bool = False
    """Also how long ago each child was last active."""
    only: tuple[str, ...] = ()
    """Of these models alone, which is quicker; all when empty."""


class Listen(Record):
    """Open the event stream, and reopen it when it breaks, until the verb is done."""


class WakeAt(Record):
    """Feed a Tick at this time unless something else comes first; replaces the earlier WakeAt."""

    at: float


class Say(Record):
    """Tell the person who waits; ``fact`` is one of the verb's public values."""

    fact: object


class Done(Record):
    """The verb is over; ``report`` is its result."""

    report: object


Input: TypeAlias = (
    Listed
    | LookFailed
    | Answered
    | Unsent
    | Heard
    | StreamOpened
    | StreamLost
    | Told
    | Measured
    | Ended
    | LetOut
    | Outranked
    | Protected
    | Tick
)
Effect: TypeAlias = Look | Send | Ask | Measure | Listen | WakeAt | Say | Done


class Verb(Protocol):
    """What a driver runs."""

    @property
    def deadline(self) -> float | None:
        """When the verb ends at the latest, on the driver's clock, known from ``start`` on; None is never.

        A driver lets no call last longer than this, and begins none afterwards: what was still to be sent then is
        Unsent, and that is fed before anything else is.
        """

    def start(self, now: float) -> list[Effect]:
        """Begin."""

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input."""

    def interrupt(self, now: float) -> list[Effect]:
        """Stop at once: the effects end with Done, whose report says what was and was not done."""


def arrange(effects: list[Effect]) -> list[Effect]:
    """The effects in their order, with only the earliest waking, at the end."""
    wakes = [effect for effect in effects if isinstance(effect, WakeAt)]
    others: list[Effect] = [effect for effect in effects if not isinstance(effect, WakeAt)]
    if wakes:
        others.append(min(wakes, key=lambda wake: wake.at))
    return others

"""What the gateway does by itself, where one may choose; ``docs/gateway-api.md`` lists the settings."""

from __future__ import annotations

from corral.ops.admission import Limits
from corral.ops.idle import IdleLimits
from corral.wire import Record


class Rules(Record):
    """How the door decides, how long is waited for what, and what goes when it is idle."""

    limits: Limits = Limits()
    grace_s: float = 30.0
    """How long an unload waits for what is in flight, when it is not told."""
    eject_s: float = 25.0
    """How long an Eject is kept waiting for its answer; Open WebUI gives up after 30 s."""
    eject_grace_s: float = 600.0
    """How long the drain that it began goes on."""
    settle_s: float = 10.0
    """How long a new hold waits for what was let in before it."""
    idle: IdleLimits = IdleLimits()
    """What is unloaded after which idle time."""
    idle_never: tuple[str, ...] = ()
    """Ids and aliases that are not."""

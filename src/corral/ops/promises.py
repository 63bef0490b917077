"""What is promised and what was done, as values: holds, pins, sets, leases, log entries, and the rules on them.

``corral.ledger`` remembers them; the verbs decide by them and the faces show them. Nothing here reads a clock or a
process table: ``now`` is a Moment that the caller read, ``living`` the processes that it saw alive.

A hold's time is counted so that no clock that jumps makes it longer: within one boot by the boot clock alone, after
a reboot by whichever says more, the wall clock or the time since that boot.
"""

from __future__ import annotations

from corral.ops.measurement import Process
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


class RouterKey(Record):
    """Which router a promise is about; two keys mean the same router when either part is the same.

    An address may change under a name (DHCP, mDNS), and one address may have two names; a pin must survive both.
    """

    key: str
    """Scheme, resolved address, port and prefix, such as ``http://127.0.0.1:8080/llm``, or a socket's path."""
    label: str
    """The URL as its user wrote it: what people are shown."""

    def matches(self, other: RouterKey) -> bool:
        """Whether both mean the same router."""
        return self.key == other.key or self.label == other.label


_LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = frozenset({"localhost", "ip6-localhost", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", _LOOPBACK})


def is_loopback_name(host: str) -> bool:
    """Whether a host is this machine by its form alone, so that nothing need be resolved."""
    name = host.lower().rstrip(".")
    return name in _LOOPBACK_NAMES or name.endswith(".localhost")


def build_router_key(
    label: str,
    *,
    scheme: str,
    host: str = "",
    port: int = 0,
    prefix: str = "",
    path: str = "",
    addresses: Sequence[str],
) -> RouterKey:
    """The key of a router at a URL taken apart.

    ``addresses`` is what the host resolves to, in any order; empty when it does not, and the name stands in. ``path``
    is that of a unix socket. ``localhost``, ``127.0.0.1`` and ``::1`` are one machine.
    """
    if scheme == "unix":
        from os.path import normpath

        clean = normpath(path).encode("utf-8", "backslashreplace").decode()
        return RouterKey(f"unix:{clean}{f'?prefix={prefix}' if prefix else ''}", label)
    name = host.lower().rstrip(".")
    if is_loopback_name(name) or any(is_loopback_name(address) for address in addresses):
        address = _LOOPBACK
    else:
        # The resolver's order changes from call to call; IPv4 first, because IPv6 addresses are often temporary.
        address = min(addresses, key=lambda found: (":" in found, found), default=name)
    shown = f"[{address}]" if ":" in address else address
    return RouterKey(f"{scheme}://{shown}:{port}{prefix}", label)


class Moment(Record):
    """One reading of the clocks."""

    wall: float
    """Seconds since 1970, by the wall clock, which may jump."""
    boot_s: float | None = None
    """Seconds since boot, suspend included (CLOCK_BOOTTIME), which does not; None where there is no such clock."""
    boot_id: str = ""
    """Names this boot of this machine; empty when unknown."""
    host: str = ""
    """The machine's name: two machines may share a home."""


def count_elapsed(since: Moment, now: Moment) -> float:
    """Seconds from one moment to another, never negative, whatever the wall clock did in between."""
    if since.boot_id and since.boot_id == now.boot_id and since.boot_s is not None and now.boot_s is not None:
        return max(0.0, now.boot_s - since.boot_s)
    by_wall = max(0.0, now.wall - since.wall)
    is_later_boot = bool(since.boot_id and now.boot_id) and since.host == now.host
    return max(by_wall, now.boot_s or 0.0) if is_later_boot else by_wall


class Owner(Record):
    """Who did or wants something."""

    user: str
    host: str

    @property
    def label(self) -> str:
        """``user@host``."""
        return f"{self.user}@{self.host}"


class Actor(Record):
    """A process, for certain, across boots."""

    process: Process
    boot_id: str


class Hold(Record):
    """Models that are to be kept from coming up."""

    id: str
    """Short and typeable, such as ``h1``; never used twice."""
    router: RouterKey
    models: tuple[str, ...] | None
    """Ids; None means all."""
    owner: Owner
    created: Moment
    duration_s: float
    reason: str = ""
    excepted: tuple[str, ...] = ()
    """Ids that were released from it one by one."""
    enforcer: Actor | None = None
    """The process that sees to it; None when nobody does."""
    released_wall: float | None = None
    """When it was released, by the wall clock; None when it was not."""
    unloaded: tuple[str, ...] = ()
    """What was unloaded when it began, in the order in which it is to be loaded again."""

    def covers(self, model: str) -> bool:
        """Whether it is about this model."""
        return (self.models is None or model in self.models) and model not in self.excepted


def count_left(hold: Hold, now: Moment) -> float:
    """Seconds until a hold ends by itself; 0 when it has ended or was released."""
    if hold.released_wall is not None:
        return 0.0
    return max(0.0, hold.duration_s - count_elapsed(hold.created, now))


def is_in_force(hold: Hold, now: Moment) -> bool:
    """Whether a hold counts now, enforced or not."""
    return count_left(hold, now) > 0 and (hold.models is None or any(map(hold.covers, hold.models)))


def find_hold(holds: Sequence[Hold], model: str, now: Moment) -> Hold | None:
    """Of the holds in force that cover a model, the one that lasts longest; None when the model is not held."""
    covering = [hold for hold in holds if hold.covers(model) and is_in_force(hold, now)]
    return max(covering, key=lambda hold: count_left(hold, now), default=None)


def is_alive(actor: Actor, host: str, now: Moment, living: Collection[Process]) -> bool | None:
    """Whether a process of ``host`` still runs, ``living`` being those that were seen; None for another's."""
    if actor.boot_id == now.boot_id and (actor.boot_id or host == now.host):
        return any((process.pid, process.started) == (actor.process.pid, actor.process.started) for process in living)
    return False if host == now.host else None


def is_enforced(hold: Hold, now: Moment, living: Collection[Process]) -> bool | None:
    """Whether somebody sees to a hold; None when that runs on another machine."""
    return False if hold.enforcer is None else is_alive(hold.enforcer, hold.owner.host, now, living)


def list_elders(hold: Hold, holds: Sequence[Hold], now: Moment, living: Collection[Process]) -> tuple[Hold, ...]:
    """Of these holds the ones of the same router that began before this one, and that somebody here sees to."""
    return tuple(
        other
        for other in holds
        if int(other.id[1:]) < int(hold.id[1:])
        and other.router.matches(hold.router)
        and is_in_force(other, now)
        and is_enforced(other, now, living)
    )


class Pin(Record):
    """A model that no rule may choose; only its name or ``--include-pinned`` does."""

    router: RouterKey
    model: str
    owner: Owner
    pinned_wall: float


class SavedSet(Record):
    """Models to be put back, in order."""

    name: str
    router: RouterKey
    models: tuple[str, ...]
    owner: Owner
    saved_wall: float


# The steps of a lease, in order. Each is written before what it names is done.

SAVED = "saved"
"""The set is remembered; nothing was touched."""
HELD = "held"
"""The hold is in force."""
DRAINING = "draining"
"""Unloads may have been asked for."""
FREED = "freed"
"""The memory was seen to be free; the command may be about to start."""
RUNNING = "running"
"""The command was started."""
RESTORING = "restoring"
"""The command has ended, or was not started: the hold goes and the set comes back."""
STEPS = (SAVED, HELD, DRAINING, FREED, RUNNING, RESTORING)


class Lease(Record):
    """One ``corral run``: what it took away and owes back."""

    id: str
    """Short and typeable, such as ``r1``; never used twice."""
    router: RouterKey
    owner: Owner
    created: Moment
    step: str
    models: tuple[str, ...]
    """The set: what was resident before, in order."""
    corral: Actor
    """The Corral that is responsible for it now."""
    command: Actor | None = None
    """The command it was taken for; None before that was started."""
    unloaded: tuple[str, ...] = ()
    """What was asked to unload for it; from step ``freed`` on, what was seen unloaded."""
    hold: str | None = None
    """The id of its hold; None before there is one."""
    restores: bool = True
    """Whether the set is to come back in the end (not with ``--no-restore``)."""
    ended_wall: float | None = None
    """When all was put back; None while something is owed."""


AT_WORK = "at_work"
"""The Corral that took it lives: leave it alone."""
COMMAND_LIVES = "command_lives"
"""That Corral is gone, but the command still uses what was freed."""
LEFT_BEHIND = "left_behind"
"""Nobody is left to put back what is owed."""
ELSEWHERE = "elsewhere"
"""It was taken on another machine, whose processes cannot be seen from here."""
OVER = "over"
"""Nothing is owed."""


def judge_lease(lease: Lease, now: Moment, living: Collection[Process]) -> str:
    """What has become of a lease: ``over``, ``at_work``, ``command_lives``, ``left_behind`` or ``elsewhere``."""
    if lease.ended_wall is not None:
        return OVER
    corral_lives = is_alive(lease.corral, lease.owner.host, now, living)
    if corral_lives is None:
        return ELSEWHERE
    if corral_lives:
        return AT_WORK
    if lease.command is not None and is_alive(lease.command, lease.owner.host, now, living):
        return COMMAND_LIVES
    return LEFT_BEHIND


def list_owed(lease: Lease) -> tuple[str, ...]:
    """The models that a lease has to put back, in order; those that are resident all the same need nothing.

    Before all was seen to be free that is what was asked to unload, which is written down before it is asked; from
    then on it is the set.
    """
    if lease.ended_wall is not None or not lease.restores:
        return ()
    if lease.step in (SAVED, HELD, DRAINING):
        return tuple(model for model in lease.models if model in lease.unloaded)
    return lease.models


class Promises(Record):
    """What the ledger promises now."""

    holds: tuple[Hold, ...] = ()
    """Those in force."""
    pins: tuple[Pin, ...] = ()
    leases: tuple[Lease, ...] = ()
    """Those that are not over."""

    def select(self, router: RouterKey) -> Promises:
        """Those about one router."""
        return Promises(
            tuple(hold for hold in self.holds if hold.router.matches(router)),
            tuple(pin for pin in self.pins if pin.router.matches(router)),
            tuple(lease for lease in self.leases if lease.router.matches(router)),
        )


class LogEntry(Record):
    """One thing that was done, or tried, and what was seen to come of it."""

    id: str
    """Unique; says nothing else."""
    wall: float
    router: RouterKey
    owner: Owner
    command: str
    """The command's name, such as ``unload``; never its arguments."""
    verb: str
    model: str
    """The model's id; empty when it is about none, the set's name when it is about a set."""
    outcome: str
    freed_bytes: int | None = None
    """Memory that was seen to come back; None when that was not measured."""
    reason: str = ""

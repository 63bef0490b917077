"""Making room: which models to unload so that so much memory is free on a device, and no more of them than needed.

Pure: the caller has looked at the list and at the machine, and unloads what was chosen. Only what was measured counts;
of a model whose share cannot be seen nothing is promised.
"""

from __future__ import annotations

from itertools import combinations
from math import comb

from corral.ops.measurement import Device
from corral.ops.selection import find_models
from corral.wire import BadArgumentError, CorralError, Record, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from corral.ops.measurement import Child, HostMemory, Measurement
    from corral.wire import Listing, Model

HOST = "host"
"""The ``id`` of the machine's own memory, taken as a device."""
_MOST_SUBSETS = 20_000
"""Up to so many are compared to break ties; beyond, the number of models stays minimal and ties are broken roughly."""
_REMEMBERED_S = 60.0
"""A child without a connection that ended within this time has been idle for at least as long."""

# Why a model is left alone.

NOT_NEEDED = "not_needed"
EXCEPTED = "excepted"
PINNED = "pinned"
BUSY = "busy"
LOADING = "loading"
NOTHING_THERE = "nothing_there"
NOT_VISIBLE = "not_visible"
HIDDEN = "hidden"


class Share(Record):
    """What one model holds on the device, and whether it may go."""

    model: str
    used_bytes: int | None
    """None when that cannot be seen."""
    reason: str
    """In words, why it goes or stays."""
    stays: str = ""
    """Why it stays, as one of the words above; empty when it is to go."""
    idle_s: float | None = None
    """For how long it has been idle at least; None when that is not known."""


class RoomPlan(Record):
    """What would be done, and what it adds up to. Whether it is enough says ``is_reachable``."""

    device: Device
    wanted_bytes: int
    free_bytes: int
    unload: tuple[Share, ...]
    """What is to go; all that may go when even that is not enough."""
    leave: tuple[Share, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The ids of the models that are to go."""
        return tuple(share.model for share in self.unload)

    @property
    def missing_bytes(self) -> int:
        """What has to come free; 0 when there is room already."""
        return max(0, self.wanted_bytes - self.free_bytes)

    @property
    def promised_bytes(self) -> int:
        """What the end of the chosen models gives back."""
        return sum(share.used_bytes or 0 for share in self.unload)

    @property
    def short_bytes(self) -> int:
        """By how much it is not enough; 0 when it is."""
        return max(0, self.missing_bytes - self.promised_bytes)

    @property
    def is_reachable(self) -> bool:
        """Whether so much will be free when the chosen models have gone."""
        return self.short_bytes == 0

    @property
    def obstacle(self) -> str:
        """What stands in the way: ``busy`` models, else ``pinned`` ones too; empty when not even all would do."""
        left = self.short_bytes
        for kinds, word in (((BUSY, LOADING), BUSY), ((PINNED,), PINNED)):
            left -= sum(share.used_bytes or 0 for share in self.leave if share.stays in kinds)
            if 0 < self.short_bytes and left <= 0:
                return word
        return ""


def choose(
    wanted_bytes: int,
    listing: Listing,
    measurement: Measurement,
    *,
    device: str | None = None,
    pinned: Collection[str] = (),
    excepted: Sequence[str] = (),
) -> RoomPlan:
    """Choose the fewest idle models whose end makes ``wanted_bytes`` free on a device.

    Among as few, those that have been idle for longest, then those that free the least beyond what is wanted.
    ``measurement`` has memory and what was recent in it; ``device`` is as for ``pick_device``; ``pinned`` are ids,
    ``excepted`` ids or aliases.

    Raises CorralError when memory cannot be seen, BadArgumentError for a device that is none, UnknownModelError.
    """
    place = pick_device(measurement, device)
    if place.free_bytes is None:
        raise _explain_blindness(f"How much is free on {escape_controls(place.name)} cannot be seen", place.reason)
    protected = frozenset(model.id for model in find_models(listing, excepted))
    shares = [_weigh(model, measurement, place.id, pinned, protected) for model in listing.models if model.is_resident]
    shares += [_weigh_hidden(child, place.id) for child in measurement.children if child.is_hidden]
    able = [share for share in shares if not share.stays]
    missing = max(0, wanted_bytes - place.free_bytes)
    chosen = pick_fewest(able, missing)
    spared = [_spare(share) for share in able if share not in chosen]
    leave = (*spared, *(share for share in shares if share.stays))
    return RoomPlan(place, wanted_bytes, place.free_bytes, tuple(chosen), leave)


def pick_device(measurement: Measurement, wanted: str | None = None) -> Device:
    """The device that is meant: by its id or its place in the list, ``host`` for the machine's memory.

    None means the only one with memory of its own, of several the first on which a child holds some, else the first;
    the host where there is none. Raises CorralError when nothing can be seen, BadArgumentError for no such device.
    """
    if measurement.reason:
        raise _explain_blindness("Memory cannot be seen", measurement.reason)
    devices = measurement.devices
    if wanted is None:
        used = {use.device for child in measurement.children for use in child.devices or () if use.used_bytes != 0}
        own = [device for device in devices if not device.is_lent]
        wanted = next((device.id for device in own if device.id in used), own[0].id if own else HOST)
    if wanted == HOST:
        return describe_host(measurement.host)
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 4 and int(wanted) < len(devices):
        return devices[int(wanted)]
    for device in devices:
        if device.id == wanted:
            return device
    known = ", ".join([*(f"{at} ({device.id})" for at, device in enumerate(devices)), HOST])
    raise BadArgumentError(f"There is no device {escape_controls(wanted)[:80]}.", f"Say one of {known}.")


def describe_host(host: HostMemory | None) -> Device:
    """The machine's own memory as a device; what is available counts as free."""
    total, free = (None, None) if host is None else (host.total_bytes, host.available_bytes)
    used = None if total is None or free is None else max(0, total - free)
    reason = "" if free is not None else "the system does not tell how much memory is available"
    return Device(HOST, "host memory", total, used, free, None, reason)


def find_share(child: Child, device_id: str) -> int | None:
    """What a child holds on a device; None when that cannot be seen."""
    if device_id == HOST:
        return child.host_bytes
    if child.devices is None:
        return None
    amounts = [use.used_bytes for use in child.devices if use.device == device_id]
    return None if None in amounts else sum(amount or 0 for amount in amounts)


def find_idle_s(model: Model, child: Child) -> float | None:
    """For how long a model has been idle at least, as far as one look that asked for what was recent tells."""
    by_sleep = read_sleep_idle_s(model) if model.status == "sleeping" else None
    if child.in_flight is None:
        return by_sleep
    by_connections = _REMEMBERED_S if child.last_active_s is None else child.last_active_s
    return by_connections if by_sleep is None else max(by_connections, by_sleep)


def read_sleep_idle_s(model: Model) -> float | None:
    """After how many idle seconds the model falls asleep, by its arguments; None when it never does."""
    status = model.raw.get("status")
    args = status.get("args") if isinstance(status, dict) else None
    if not isinstance(args, list) or "--sleep-idle-seconds" not in args[:-1]:
        return None
    text = str(args[args.index("--sleep-idle-seconds") + 1])
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def pick_fewest(shares: Sequence[Share], missing_bytes: int) -> list[Share]:
    """The fewest shares that come to ``missing_bytes``, in their order; all of them when even those do not.

    The number is minimal because the k largest reach it if any k do. Ties are broken exactly as long as there are
    few subsets of that size, else by exchanging one for one.
    """
    largest = sorted((share for share in shares if share.used_bytes), key=_by_size)
    count, reached = 0, 0
    while reached < missing_bytes and count < len(largest):
        reached += largest[count].used_bytes or 0
        count += 1
    if reached < missing_bytes or count in (0, len(largest)):
        best: Collection[Share] = largest[:count]
    elif comb(len(largest), count) <= _MOST_SUBSETS:
        enough = (group for group in combinations(largest, count) if _add_up(group) >= missing_bytes)
        best = max(enough, key=_rate)
    else:
        best = _exchange(largest[:count], largest[count:], missing_bytes)
    return [share for share in shares if share in best]


def _exchange(chosen: list[Share], others: list[Share], missing_bytes: int) -> list[Share]:
    """Replace each, the most recently used first, by one that has been idle for longer and still suffices."""
    chosen, others = sorted(chosen, key=_get_idle), list(others)
    for at, share in enumerate(chosen):
        least = (share.used_bytes or 0) - (_add_up(chosen) - missing_bytes)
        able = [other for other in others if (other.used_bytes or 0) >= least]
        best = max([share, *able], key=lambda one: (_get_idle(one), -(one.used_bytes or 0)))
        if best is not share:
            others[others.index(best)], chosen[at] = share, best
    return chosen


def _rate(group: Iterable[Share]) -> tuple[list[float], int]:
    """Better is larger: the one that was used last has been idle for longest, then the next; then less is freed."""
    members = list(group)
    return sorted(map(_get_idle, members)), -_add_up(members)


def _add_up(shares: Iterable[Share]) -> int:
    return sum(share.used_bytes or 0 for share in shares)


def _get_idle(share: Share) -> float:
    return -1.0 if share.idle_s is None else share.idle_s


def _by_size(share: Share) -> int:
    return -(share.used_bytes or 0)


def _weigh(
    model: Model, measurement: Measurement, device_id: str, pinned: Collection[str], protected: Collection[str]
) -> Share:
    child = measurement.find(model.id)
    if child is None:
        reason = "it is loading" if model.status == "loading" else "its process is not seen on this machine"
        return Share(model.id, None, reason, LOADING if model.status == "loading" else NOT_VISIBLE)
    used, idle_s = find_share(child, device_id), find_idle_s(model, child)
    stays, reason = _find_obstacle(model, child, used, pinned, protected)
    return Share(model.id, used, reason, stays, idle_s)


def _find_obstacle(
    model: Model, child: Child, used: int | None, pinned: Collection[str], protected: Collection[str]
) -> tuple[str, str]:
    """Why a model stays; the first word is empty when it may go."""
    is_asleep = model.status == "sleeping"
    if model.id in protected:
        return EXCEPTED, "it is excepted"
    if model.id in pinned:
        return PINNED, "it is pinned"
    if used is None:
        return NOT_VISIBLE, "what it holds there cannot be seen" + _add_reasons(child.reasons)
    if used == 0:
        return NOTHING_THERE, "it holds nothing there"
    if model.status == "loading":
        return LOADING, "it is loading"
    if child.in_flight:
        return BUSY, f"{child.in_flight} request{'s' if child.in_flight > 1 else ''} in flight"
    if child.in_flight is None and not is_asleep:
        return NOT_VISIBLE, "whether it is answering requests cannot be seen" + _add_reasons(child.reasons)
    return "", "it is asleep" if is_asleep else "it is idle"


def _weigh_hidden(child: Child, device_id: str) -> Share:
    """The router lists no state for these, so that no rule can choose them."""
    reason = "the router's list hides it; 'corral unload --all' takes it"
    return Share(child.model, find_share(child, device_id), reason, HIDDEN)


def _spare(share: Share) -> Share:
    return Share(share.model, share.used_bytes, f"{share.reason}, and not needed", NOT_NEEDED, share.idle_s)


def _add_reasons(reasons: Sequence[str]) -> str:
    return f": {'; '.join(reasons)}" if reasons else ""


def _explain_blindness(what: str, reason: str) -> CorralError:
    hint = "Run corral on the router's own machine, as the router's user; 'corral doctor' says what is visible."
    return CorralError(f"{what}{': ' if reason else ''}{reason}.", hint)

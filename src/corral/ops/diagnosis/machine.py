"""What the router's own machine shows: processes, memory, devices, clients, orphans."""

from __future__ import annotations

from corral.ops.diagnosis.facts import ROUTER, Facts
from corral.ops.diagnosis.finding import Finding, name_some, ok, tell_bytes, tell_count, warn
from corral.ops.measurement import Device, Measurement, Orphan, Peer
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_THERE = "Run 'corral doctor' on the router's own machine, as the router's user or as root."


def check_memory(facts: Facts) -> Iterator[Finding]:
    """Whether the memory of the router's models can be measured from here."""
    if facts.host is None or facts.answer.found != ROUTER:
        return
    seen = facts.host.measurement
    if seen.reason:
        yield warn("memory", f"The memory of the models cannot be seen: {escape_controls(seen.reason)}.", _THERE)
        return
    blind = [child.model for child in seen.children if child.total_bytes is None]
    if blind:
        reasons = {reason for child in seen.children if child.total_bytes is None for reason in child.reasons}
        why = f": {escape_controls('; '.join(sorted(reasons)))}" if reasons else ""
        yield warn("memory", f"The memory of {name_some(blind)} cannot be seen{why}.", _THERE)
    elif seen.children:
        total = sum(child.total_bytes or 0 for child in seen.children)
        held = f"The memory of the models can be seen: {tell_count(len(seen.children), 'model')}, {tell_bytes(total)}"
        yield ok("memory", f"{held}{_tell_host(seen)}.")
    else:
        yield ok("memory", f"No model is resident, so there is no memory to measure{_tell_host(seen)}.")
    hidden = [child.model for child in seen.children if child.is_hidden]
    if hidden:
        said = f"{name_some(hidden)} holds memory and is missing from the router's list (dedup-cache-models)."
        yield warn("hidden", said, "'corral unload --all' takes it too.")


def check_devices(facts: Facts) -> Iterator[Finding]:
    """One line a device: its memory and who uses it."""
    if facts.host is None:
        return
    for device in facts.host.measurement.devices:
        named = f"{escape_controls(device.name)} ({escape_controls(device.id)})"
        seen = (
            f"{named}: {tell_bytes(device.free_bytes)} of {tell_bytes(device.total_bytes)} free{_tell_users(device)}."
        )
        if device.reason:
            seen = f"{seen} {escape_controls(device.reason)}."
            yield warn("device", seen, "See the page 'Troubleshooting' for what the driver needs to show it.")
        else:
            yield ok("device", seen)
    if not facts.host.measurement.devices and not facts.host.measurement.reason:
        yield ok("device", "No device with memory of its own is visible; models are measured in the machine's memory.")


def check_clients(facts: Facts) -> Iterator[Finding]:
    """Who is connected now, and may bring a model back."""
    if facts.host is None or facts.host.peers is None:
        return
    peers = facts.host.peers
    if not peers:
        yield ok("clients", "Nobody is connected to the router now.")
        return
    names = [_name_peer(peer) for peer in peers]
    props = facts.answer.props
    harmless = props is not None and props.autoload is False
    may = "" if harmless else " Each may bring a model back by asking for it."
    yield ok("clients", f"{name_some(names, 5)} {'is' if len(names) == 1 else 'are'} connected now.{may}")


def check_orphans(facts: Facts) -> Iterator[Finding]:
    """Whether children of routers that are gone still hold memory."""
    if facts.host is None or facts.host.orphans is None:
        return
    orphans = facts.host.orphans
    if not orphans:
        yield ok("orphans", "No model process has lost its router.")
        return
    names = [f"{show_name(orphan.model, 40)} (pid {orphan.process.pid})" for orphan in orphans]
    known = [amount for orphan in orphans if (amount := count_held(orphan)) is not None]
    held = f", holding {tell_bytes(sum(known))}" if known else ""
    seen = f"{tell_count(len(orphans), 'model process', 'model processes')} outlived the router{held}: "
    yield warn(
        "orphans", f"{seen}{name_some(names)}.", "'corral orphans' shows the proof, 'corral orphans --kill' ends them."
    )


def count_held(orphan: Orphan) -> int | None:
    """What an orphan's end gives back, on host and devices together; None when nothing of it is known."""
    parts = [orphan.host_bytes, *(use.used_bytes for use in orphan.devices or ())]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _name_peer(peer: Peer) -> str:
    if peer.process is not None:
        return f"{peer.process.name or 'a process'} (pid {peer.process.pid})"
    if peer.user is not None:
        return f"a process of user {peer.user}"
    return peer.address


def _tell_host(seen: Measurement) -> str:
    if seen.host is None or seen.host.available_bytes is None:
        return ""
    total = "" if seen.host.total_bytes is None else f" of {tell_bytes(seen.host.total_bytes)}"
    return f"; the machine has {tell_bytes(seen.host.available_bytes)}{total} available"


def _tell_users(device: Device) -> str:
    if not device.holders:
        return "" if device.holders is None else ", used by nobody that can be seen"
    ranked = sorted(device.holders, key=lambda holder: -(holder.used_bytes or 0))
    users = [f"{holder.model or holder.process.name or 'pid ' + str(holder.process.pid)}" for holder in ranked]
    amounts = [f"{user} {tell_bytes(holder.used_bytes)}" for user, holder in zip(users, ranked, strict=True)]
    return f"; used by {name_some(amounts, 5)}"

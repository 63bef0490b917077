"""The router's machine, as facts for the diagnosis."""

from __future__ import annotations

from corral.client.search import list_likely
from corral.client.target import Target
from corral.machine.front import Front
from corral.machine.servers import find_servers
from corral.ops.diagnosis import Host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.machine import Machine
    from corral.ops.measurement import Measurement
    from corral.wire import Listing, Model


def look_at_host(machine: Machine, target: Target, listing: Listing | None) -> Host:
    """Read what this machine shows of the router; touches no model and no router."""
    models = listing.models if listing is not None else ()
    measured = machine.measure(models, memory=True)
    orphans = machine.find_orphans(list_ports(models))
    if measured.router is None:
        return Host(measured, orphans=orphans)
    front = Front(measured.router, target.port)
    waiting = front.find_waiting()
    return Host(
        measured,
        front.find_addresses(),
        machine.find_peers(),
        None if waiting is None else drop_in_flight(waiting, measured),
        _read_ages(front, models, measured),
        orphans,
        front.shows_key(),
    )


def list_others(target: Target) -> list[Target]:
    """Where else on the target's host a router may be: the llama-servers seen here if that is this machine, and the
    likely ports.
    """
    servers = find_servers() if target.is_loopback and target.scheme != "unix" else ()
    seen = [Target("https" if one.is_tls else "http", target.host, one.port, one.prefix) for one in servers]
    return [*seen, *list_likely(target)]


def list_ports(models: Sequence[Model]) -> frozenset[int]:
    """The ports that a router lists as its children's."""
    return frozenset(model.port for model in models if model.is_resident and model.port is not None)


def drop_in_flight(waiting: Sequence[float], measured: Measurement) -> tuple[float, ...]:
    """Of the requests that wait at the router, those that have no child to answer them.

    Which of them were passed on is not told, so as many as are in flight are left out, the longest waits first:
    what remains waits at least as long as it says. Where what is in flight is not known, nothing remains.
    """
    counts = [child.in_flight for child in measured.children]
    if any(count is None for count in counts):
        return ()
    return tuple(sorted(waiting, reverse=True)[sum(count or 0 for count in counts) :])


def _read_ages(front: Front, models: Sequence[Model], measured: Measurement) -> dict[str, float]:
    """How long each model that is loading has had its child."""
    ages: dict[str, float] = {}
    for model in models:
        child = measured.find(model.id) if model.status == "loading" else None
        age = None if child is None else front.read_age(child.process)
        if age is not None:
            ages[model.id] = age
    return ages

"""Puts a gateway together from its settings."""

from __future__ import annotations

from corral.client.aio import AsyncRouter
from corral.client.settings import build_tls
from corral.client.target import Target
from corral.gateway.api import build_routes
from corral.gateway.control import Control
from corral.gateway.documents import build_stale_list
from corral.gateway.lane import Lane
from corral.gateway.rules import Rules
from corral.gateway.security import Guard
from corral.gateway.server import Gateway
from corral.gateway.settings import Mount, Settings
from corral.gateway.upstream import Upstream
from corral.gateway.visits import Visits


def build_gateway(settings: Settings, folder: str, token: str) -> Gateway:
    """A gateway that does not listen yet.

    One router has one lane for each way it is mounted, and one control, from however many addresses it is reached:
    what is known and promised about it is known once. ``folder`` is that of the ledger.
    """
    lanes: dict[Mount, Lane] = {}
    controls: dict[Target, Control] = {}
    guard = Guard(settings, token)
    for listener in settings.listeners:
        for mount in listener.mounts:
            if mount.target not in controls:
                controls[mount.target] = _build_control(mount, folder, settings.rules)
            if mount not in lanes:
                lanes[mount] = _build_lane(settings, mount, controls[mount.target], guard)
    return Gateway(settings, [[lanes[mount] for mount in listener.mounts] for listener in settings.listeners])


def _build_control(mount: Mount, folder: str, rules: Rules) -> Control:
    router = AsyncRouter(mount.target.label, api_key=mount.api_key, ca_file=mount.ca_file)
    return Control(router, folder, Visits(), rules=rules, ca_file=mount.ca_file)


def _build_lane(settings: Settings, mount: Mount, control: Control, guard: Guard) -> Lane:
    tls = build_tls(mount.ca_file) if mount.target.scheme == "https" else None
    upstream = Upstream(mount.target, connect_s=settings.limits.connect_s, tls=tls)
    routes = build_routes(control, settings, guard)
    return Lane(
        settings,
        mount,
        upstream,
        control.gate,
        control.visits,
        routes,
        keeper=control,
        build_stale_list=lambda: build_stale_list(control),
        loop=control.loop,
    )

"""``corral orphans``: model processes whose router is gone; with ``--kill``, their end. No router is needed for it.

What counts as an orphan is decided by ``corral.machine``, mark by mark, and again just before the signal. Here the
routers that still live are asked for what they list, so that no child of theirs can be taken for one.
"""

from __future__ import annotations

import os
import time
from json import dumps

from corral.client import Router, Target, Timeouts, parse_url
from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE, FAILED, MIXED
from corral.faces.cli.host import list_ports
from corral.faces.cli.options import Option, Spec, tell_timeout
from corral.faces.cli.session import open_router
from corral.machine import Machine
from corral.ops.diagnosis import count_held, tell_bytes
from corral.wire import CorralError, Record, UnreachableError, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Any, Protocol

    from corral.faces.cli.console import Console
    from corral.ops.measurement import Orphan, Process

    class Killer(Protocol):
        """What ``Machine`` has for this."""

        def kill_orphan(self, orphan: Orphan, listed_ports: Collection[int]) -> bool:
            """End it if it still is one."""

        def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
            """Those that have not ended."""


KILL = Option(("--kill",), "end them at once (SIGKILL), each after its proof")
DRY_RUN = Option(("-n", "--dry-run"), "with --kill: say what would be ended, and end nothing")
SPEC = Spec(
    "[PID...] [--kill] [options]",
    (KILL, DRY_RUN, *tell_timeout("5s for their end")),
    "PID",
    "An orphan is a process of this user that was started by a router for a model, whose parent is gone, and\n"
    "which no living router lists. Only this machine is looked at. Exit 1 when one was to end and did not.",
    lists=("orphans",),
)

FOUND = "orphan"
DOUBTFUL = "doubtful"
"""Something answers at the port that it came from and does not show what it lists: it may be its router."""
ENDED = "ended"
WOULD_END = "would be ended"
STAYS = "still there"
NO_ORPHAN = "no orphan any more"
DENIED = "not permitted"
_GOOD = frozenset({FOUND, ENDED, WOULD_END})
_STEPS = {
    DOUBTFUL: "Something answers at its router's port: give --url and the key of that, so that its list can be read.",
    STAYS: "It hangs in the kernel, often in a driver: only that, or a reboot, ends it.",
    NO_ORPHAN: "Look again: 'corral orphans'.",
    DENIED: "Run this as the user whose process it is, outside of a sandbox.",
}
_END_S = 5.0
_LOOK_EVERY_S = 0.02
_LIMITS = Timeouts(1.0, 2.0, 3.0)
_NOBODY: frozenset[int] = frozenset()


class Case(Record):
    """One orphan and what became of it."""

    orphan: Orphan
    outcome: str


def run(args: Namespace, console: Console) -> int:
    """List orphans, and end them where that was asked for."""
    if not os.path.isdir("/proc/self"):
        raise CorralError("This system has no /proc, in which orphans are seen.", "'ps -ef' shows who has parent 1.")
    with open_router(args) as router:
        target = parse_url(router.url)
        machine = Machine.for_router(target.host, target.port, target.socket_path)
        routers = {target.port: _ask(router)} if _is_here(target, machine) else {}
    found = machine.find_orphans(_join(routers))
    for port in {orphan.router_port for orphan in found} - routers.keys():
        if port is not None:
            routers[port] = _ask_local(port)
    cases = choose(judge(found, routers), args.words)
    if args.kill and not args.dry_run:
        cases = end_all(cases, machine, _join(routers), args.timeout or _END_S, time.monotonic, time.sleep)
    elif args.kill:
        cases = [Case(case.orphan, WOULD_END if case.outcome == FOUND else case.outcome) for case in cases]
    code = find_code(cases, is_kill=args.kill)
    if args.json:
        console.line(dumps(describe(cases, code)))
    else:
        _print_cases(cases, console)
    _conclude(cases, console, is_kill=args.kill)
    _record(cases, target.label, console)
    return code


def judge(found: Sequence[Orphan], routers: Mapping[int, frozenset[int] | None]) -> list[Case]:
    """What is left when living routers have been asked.

    ``routers`` maps the port of each router that was asked to the ports of its children; None where a router answers
    and does not show its list.
    """
    listed = _join(routers)
    cases = []
    for orphan in found:
        if orphan.port in listed:
            continue
        port = orphan.router_port
        is_doubtful = port is not None and routers.get(port, _NOBODY) is None
        cases.append(Case(orphan, DOUBTFUL if is_doubtful else FOUND))
    return cases


def choose(cases: Sequence[Case], pids: Sequence[str]) -> list[Case]:
    """Those with these process numbers, or all where none is given. Raises CorralError for what is no orphan."""
    chosen = [case for case in cases if not pids or str(case.orphan.process.pid) in pids]
    strangers = set(pids) - {str(case.orphan.process.pid) for case in chosen}
    if strangers:
        named = ", ".join(sorted(show_name(pid, 20) for pid in strangers))
        raise CorralError(f"Not an orphan: {named}. Nothing was ended.", "'corral orphans' lists those that are.")
    return chosen


def end_all(
    cases: Sequence[Case],
    machine: Killer,
    listed: Collection[int],
    timeout_s: float,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> list[Case]:
    """Signal each that is no doubt an orphan, then watch all of them end."""
    outcomes = [case.outcome if case.outcome != FOUND else _signal(case.orphan, machine, listed) for case in cases]
    signalled = [case.orphan.process for case, outcome in zip(cases, outcomes, strict=True) if outcome == ENDED]
    deadline = clock() + timeout_s
    while (living := machine.find_living(signalled)) and clock() < deadline:
        sleep(_LOOK_EVERY_S)
    return [
        Case(case.orphan, STAYS if outcome == ENDED and case.orphan.process in living else outcome)
        for case, outcome in zip(cases, outcomes, strict=True)
    ]


def find_code(cases: Sequence[Case], *, is_kill: bool) -> int:
    """The exit code: to list is to be done; to end is done when all have ended."""
    goods = {case.outcome in _GOOD for case in cases} if is_kill else {True}
    if len(goods) > 1:
        return MIXED
    return DONE if goods in (set(), {True}) else FAILED


def describe(cases: Sequence[Case], code: int) -> dict[str, Any]:
    """The orphans for ``--json``."""
    return begin_document(code) | {"orphans": [_describe_case(case) for case in cases]}


def _describe_case(case: Case) -> dict[str, Any]:
    orphan = case.orphan
    return {
        "id": orphan.model,
        "pid": orphan.process.pid,
        "started": orphan.process.started,
        "port": orphan.port,
        "router_port": orphan.router_port,
        "host_bytes": orphan.host_bytes,
        "devices": None
        if orphan.devices is None
        else [{"device": use.device, "used_bytes": use.used_bytes} for use in orphan.devices],
        "outcome": case.outcome.replace(" ", "_"),
        "reasons": orphan.reasons,
    }


def _is_here(target: Target, machine: Machine) -> bool:
    """Whether the router of the settings can have children on this machine."""
    return target.is_loopback or not machine.measure((), memory=False).reason


def _ask_local(port: int) -> frozenset[int] | None:
    """What a router at a port of this machine lists; it gets no key."""
    with Router(f"http://127.0.0.1:{port}", timeouts=_LIMITS) as router:
        return _ask(router)


def _ask(router: Router) -> frozenset[int] | None:
    """The ports that a router lists: none where nobody answers, None where it does not show its list."""
    try:
        return list_ports(router.list_models().models)
    except UnreachableError:
        return _NOBODY
    except CorralError:
        return None


def _join(routers: Mapping[int, frozenset[int] | None]) -> frozenset[int]:
    return frozenset().union(*(ports for ports in routers.values() if ports))


def _signal(orphan: Orphan, machine: Killer, listed: Collection[int]) -> str:
    try:
        return ENDED if machine.kill_orphan(orphan, listed) else NO_ORPHAN
    except PermissionError:
        return DENIED


def _print_cases(cases: Sequence[Case], console: Console) -> None:
    if console.quiet:
        for case in cases:
            console.line(str(case.orphan.process.pid))
        return
    if not cases:
        return
    rows = [("NAME", "PID", "PORT", "ROUTER", "MEMORY", "STATE")]
    for case in cases:
        orphan, held = case.orphan, count_held(case.orphan)
        router = "-" if orphan.router_port is None else str(orphan.router_port)
        memory = "-" if held is None else tell_bytes(held)
        rows.append((show_name(orphan.model), str(orphan.process.pid), str(orphan.port), router, memory, case.outcome))
    for line in format_rows(rows):
        console.line(line)


def _record(cases: Sequence[Case], url: str, console: Console) -> None:
    """Write down what was ended, and what was to end and did not."""
    done = [case for case in cases if case.outcome in (ENDED, STAYS, DENIED)]
    if not done:
        return
    from corral.faces.cli.deeds import Deed
    from corral.faces.cli.records import record_deeds

    deeds = [
        Deed(case.orphan.model, "kill", case.outcome.replace(" ", "_"), f"orphan, pid {case.orphan.process.pid}")
        for case in done
    ]
    record_deeds(deeds, "orphans", url, console)


def _conclude(cases: Sequence[Case], console: Console, *, is_kill: bool) -> None:
    if not cases:
        console.say("No orphans: every model process of this user has its router.")
        return
    if not is_kill and any(case.outcome == FOUND for case in cases):
        console.say("No router will free what they hold. 'corral orphans --kill' ends them.")
    for outcome in dict.fromkeys(case.outcome for case in cases):
        if outcome in _STEPS:
            console.warn(_STEPS[outcome])

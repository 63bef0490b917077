"""Children whose router is gone, and ending a process only when it is proven to be the one that was meant.

A router that is killed takes its children along within a tenth of a second; one that was stopped (SIGSTOP) or hangs
in a driver stays behind and keeps its memory. Nothing here guesses: what cannot be proven is no orphan.
"""

from __future__ import annotations

import os
import signal

from corral.machine.family import Kin, read_kin
from corral.machine.memory import read_footprint
from corral.machine.procfs import list_pids, read_arguments, read_link, read_stat, read_user
from corral.ops.measurement import Orphan, Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_REAPERS = frozenset(
    ("systemd", "init", "tini", "docker-init", "dumb-init", "catatonit", "conmon", "s6-svscan", "runsvdir")
)
"""Programs besides process 1 that are known to adopt; a shim of containerd as well, see ``_adopts``."""


def find_orphans(proc: str, listed_ports: Collection[int], user: int) -> tuple[Orphan, ...]:
    """The orphans of a user; ``listed_ports`` are the ports that living routers list as their children's."""
    return tuple(_describe(proc, kin) for kin in _find(proc, list_pids(proc), listed_ports, user))


def kill_orphan(proc: str, process: Process, listed_ports: Collection[int], user: int) -> bool:
    """End a process if it is still an orphan by every mark, and the same process; returns whether it was signalled."""

    def is_proven() -> bool:
        return any(kin.process.started == process.started for kin in _find(proc, [process.pid], listed_ports, user))

    return kill(process, is_proven)


def kill(
    process: Process,
    is_proven: Callable[[], bool],
    *,
    open_handle: Callable[[int], int] | None = None,
    number: int = signal.SIGKILL,
) -> bool:
    """Signal a process only after ``is_proven`` has said, with the process held fast, that it is the one meant.

    Where the system gives handles of processes (``pidfd``), the signal goes to the very process that was proven even
    if its number is used again in between. Raises PermissionError when the system forbids it.
    """
    handle = _open_handle(process.pid, open_handle or getattr(os, "pidfd_open", None))
    try:
        if not is_proven():
            return False
        if handle is None:
            os.kill(process.pid, number)
        else:
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def _open_handle(pid: int, open_handle: Callable[[int], int] | None) -> int | None:
    """None where the system has no such handles, or a sandbox forbids them."""
    try:
        return None if open_handle is None else open_handle(pid)
    except OSError:
        return None


def _find(proc: str, pids: Collection[int], listed_ports: Collection[int], user: int) -> Iterator[Kin]:
    """The marks of an orphan.

    1. ``--port`` and ``--alias`` on its command line, and ``LLAMA_SERVER_ROUTER_PORT`` in its environment, which
       must be readable.
    2. It is this user's.
    3. No living router lists its port.
    4. Its parent is process 1 or another one that adopts, and not a router itself.
    """
    for pid in pids:
        kin = read_kin(proc, pid)
        if (
            kin is not None
            and kin.router_port is not None
            and read_user(proc, pid) == user
            and kin.port not in listed_ports
            and _adopts(proc, kin)
        ):
            yield kin


def _adopts(proc: str, kin: Kin) -> bool:
    """Whether the parent came to the process late; in a container a router may be process 1 itself."""
    parent = read_stat(proc, kin.parent)
    if parent is None:
        # Not even process 1 may be hidden from us: then nothing is known of who the parent is.
        return False
    name = parent.process.name
    if kin.parent != 1 and name not in _REAPERS and not name.startswith("containerd-shim"):
        return False
    if read_user(proc, kin.parent) != read_user(proc, kin.process.pid):
        return True
    return _is_other_program(proc, kin.parent, kin.process.pid)


def _is_other_program(proc: str, parent: int, child: int) -> bool:
    """Whether two processes run different programs: by the files, or where those are hidden by all their names."""
    theirs, its = read_link(f"{proc}/{parent}/exe"), read_link(f"{proc}/{child}/exe")
    if theirs is not None and its is not None:
        return theirs != its
    names, others = _read_names(proc, parent), _read_names(proc, child)
    # Of whom nothing is known, nothing is proven.
    return names is not None and others is not None and names.isdisjoint(others)


def _read_names(proc: str, pid: int) -> set[str] | None:
    """The names that a process goes by, its own and that of the program on its command line; None when hidden."""
    stat, args = read_stat(proc, pid), read_arguments(proc, pid)
    return {stat.process.name, args[0].rpartition("/")[2]} if stat is not None and args else None


def _describe(proc: str, kin: Kin) -> Orphan:
    footprint = read_footprint(proc, kin.process.pid)
    port = kin.router_port or ""
    router_port = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else None
    reasons = (footprint.reason,) if footprint.reason else ()
    return Orphan(kin.process, kin.alias, kin.port, router_port, footprint.host_bytes, None, reasons)

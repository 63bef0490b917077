"""Who we are, in a form that a record can keep: this boot of the machine, and this process for certain."""

from __future__ import annotations

import os

from corral.machine.procfs import is_living, read_file, read_stat
from corral.ops.measurement import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def read_boot_id(proc: str = "/proc") -> str | None:
    """The machine's mark of its last start, another one after each; None where the system has none."""
    text = (read_file(f"{proc}/sys/kernel/random/boot_id") or b"").decode("ascii", "replace").strip()
    return text or None


def read_process(pid: int | None = None, proc: str = "/proc") -> Process | None:
    """A living process, by default this one; None when it is not there or the system does not show it."""
    stat = read_stat(proc, os.getpid() if pid is None else pid)
    return None if stat is None or stat.has_ended else stat.process


def find_living(processes: Iterable[Process], proc: str = "/proc") -> list[Process]:
    """Those of these processes that run, under the very identity that was remembered.

    Where the system does not show processes, whoever has the number is taken to be the one.
    """
    shows = os.path.exists(f"{proc}/self/stat")
    return [process for process in processes if (is_living(proc, process) if shows else _has_number(process.pid))]


def _has_number(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True

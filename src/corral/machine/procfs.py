"""Processes as ``/proc`` shows them: identity, parent, command line, environment, open files.

Every function takes the tree's root and answers None for what is not there or may not be read; none raises.

Source: ``Documentation/filesystems/proc.rst`` of Linux, proc_pid_stat(5).
"""

from __future__ import annotations

import os

from corral.ops.measurement import Process
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHUNK = 1 << 16
_LINE = 1 << 12
_ENDED = (b"Z", b"X", b"x")
_USUAL_TICKS = 100


class Stat(Record):
    """What ``/proc/PID/stat`` says."""

    process: Process
    parent: int
    has_ended: bool
    """Only the entry is left: no memory and no connection."""


def read_file(path: str, *, is_line: bool = False) -> bytes | None:
    """A whole file; None when it is not there or may not be read.

    With ``is_line`` it is one line, which the kernel gives whole at the first reading.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        if is_line:
            return os.read(handle, _LINE)
        chunks = []
        while chunk := os.read(handle, _CHUNK):
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except OSError:
        return None
    finally:
        os.close(handle)


def count_ticks() -> int:
    """Clock ticks in a second, the unit of many times in ``/proc``."""
    try:
        return os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return _USUAL_TICKS


def read_age(proc: str, process: Process) -> float | None:
    """For how many seconds a process has run; None when the system does not say.

    Negative where the system pretends to have started later than it did, as some containers do.
    """
    words = (read_file(f"{proc}/uptime") or b"").split()
    try:
        return float(words[0]) - process.started / count_ticks()
    except (IndexError, ValueError):
        return None


def list_pids(proc: str) -> list[int]:
    """The numbers of all processes that may be seen."""
    return [int(name) for name in _list(proc) if name.isascii() and name.isdigit() and len(name) < 11]


def read_stat(proc: str, pid: int) -> Stat | None:
    """Who a process is; None when there is none with this number."""
    data = read_file(f"{proc}/{pid}/stat", is_line=True)
    return None if data is None else parse_stat(pid, data)


def parse_stat(pid: int, data: bytes) -> Stat | None:
    """Read the text of ``/proc/PID/stat``: the name may hold anything, brackets and line breaks included."""
    begin, end = data.find(b"("), data.rfind(b")")
    fields = data[end + 1 :].split()
    # From field 3: state 0, parent 1, number of threads 17, start time 19.
    if begin < 0 or end < begin or len(fields) < 20:
        return None
    try:
        parent, threads, started = int(fields[1]), int(fields[17]), int(fields[19])
    except ValueError:
        return None
    # The first thread of a process may end before the others, and these still hold its memory.
    has_ended = fields[0] in _ENDED and threads <= 1
    return Stat(Process(pid, started, data[begin + 1 : end].decode(errors="replace")), parent, has_ended)


def is_living(proc: str, process: Process) -> bool:
    """Whether exactly this process, not another one with its number, has not ended."""
    stat = read_stat(proc, process.pid)
    return stat is not None and not stat.has_ended and stat.process.started == process.started


def read_arguments(proc: str, pid: int) -> tuple[str, ...] | None:
    """The command line; None when it cannot be read, empty for a thread of the kernel."""
    data = read_file(f"{proc}/{pid}/cmdline")
    return None if data is None else split_strings(data)


def split_strings(data: bytes) -> tuple[str, ...]:
    """The strings of a ``cmdline`` or ``environ``; an empty string stays one."""
    return tuple(part.decode(errors="replace") for part in data.removesuffix(b"\0").split(b"\0")) if data else ()


def read_environment(proc: str, pid: int) -> dict[str, str] | None:
    """The variables that a process was started with; None when they cannot be read, as for another user's process."""
    data = read_file(f"{proc}/{pid}/environ")
    if data is None:
        return None
    pairs = (variable.partition("=") for variable in split_strings(data))
    return {name: value for name, equals, value in pairs if equals}


def read_user(proc: str, pid: int) -> int | None:
    """The user id that a process acts with."""
    for line in (read_file(f"{proc}/{pid}/status") or b"").splitlines():
        if line.startswith(b"Uid:"):
            fields = line.split()
            return int(fields[2]) if len(fields) > 2 and fields[2].isdigit() and len(fields[2]) < 11 else None
    return None


def list_children(proc: str, pid: int) -> list[int] | None:
    """The numbers of a process's children; None when this kernel does not list them or the process is gone."""
    found: list[int] = []
    is_told = False
    for thread in _list(f"{proc}/{pid}/task"):
        data = read_file(f"{proc}/{pid}/task/{thread}/children")
        if data is not None:
            is_told = True
            found += [int(word) for word in data.split() if word.isdigit() and len(word) < 11]
    return found if is_told else None


def list_open_files(proc: str, pid: int) -> Iterator[tuple[str, str]] | None:
    """Number and target of each open file, such as ``socket:[4711]``; None when they may not be read."""
    try:
        names = os.listdir(f"{proc}/{pid}/fd")
    except OSError:
        return None
    return _follow(f"{proc}/{pid}/fd", names)


def read_link(path: str) -> str | None:
    """Where a symbolic link leads; None when that may not be read."""
    try:
        return os.readlink(path)
    except OSError:
        return None


def _follow(folder: str, names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if (target := read_link(f"{folder}/{name}")) is not None:
            yield name, target


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []

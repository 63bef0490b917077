"""The memory of one process and of the machine, as ``/proc`` shows it.

What an unload gives back is ``Pss_Anon`` and ``Pss_Shmem``: with four children of one memory-mapped file, unloading
one lowered the machine's anonymous memory by exactly the first, while the file's pages stayed as cache.

Source: ``Documentation/ABI/testing/procfs-smaps_rollup`` and ``Documentation/filesystems/proc.rst`` of Linux.
"""

from __future__ import annotations

from os import cpu_count
from threading import Thread

from corral.machine.procfs import read_file
from corral.ops.measurement import HostMemory
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

_SHARES = frozenset({b"Pss_Anon", b"Pss_Shmem", b"Pss_File"})
_OWN = frozenset({b"RssAnon", b"RssShmem"})
_MACHINE = frozenset({b"MemTotal", b"MemAvailable", b"AnonPages"})
_AT_ONCE = 4
"""So many processes' memory is read at a time."""
_FALLBACK = "its shares of pages may not be read, so that pages shared with others count in full"
_UNREADABLE = "its memory may not be read"


class Footprint(Record):
    """What a process holds on the host."""

    host_bytes: int | None = None
    cache_bytes: int | None = None
    reason: str = ""


def read_footprint(proc: str, pid: int) -> Footprint:
    """Read a process's memory: by shares where that is allowed, else what it has in memory itself."""
    shares = _parse_sizes(read_file(f"{proc}/{pid}/smaps_rollup"), _SHARES)
    if b"Pss_Anon" in shares:
        host = shares[b"Pss_Anon"] + shares.get(b"Pss_Shmem", 0)
        return Footprint(host, shares.get(b"Pss_File"))
    sizes = _parse_sizes(read_file(f"{proc}/{pid}/status"), _OWN)
    if b"RssAnon" in sizes:
        return Footprint(sizes[b"RssAnon"] + sizes.get(b"RssShmem", 0), None, _FALLBACK)
    return Footprint(reason=_UNREADABLE)


class Footprints:
    """Reads several processes' memory beside whatever the caller does until ``collect``.

    The kernel walks through all pages of each process: half a millisecond for a tiny model, far more for one whose
    file is mapped. So it is asked about several at a time.
    """

    def __init__(self, proc: str, pids: Sequence[int]) -> None:
        self._proc, self._pids = proc, pids
        self._found: list[Footprint | None] = [None] * len(pids)
        self._count = min(_AT_ONCE, cpu_count() or 1, len(pids))
        self._helpers = []
        for first in range(self._count):
            helper = Thread(target=self._read_share, args=(first,), daemon=True)
            try:
                helper.start()
            except RuntimeError:
                # A limit on threads: what nobody has read is read in the end.
                break
            self._helpers.append(helper)

    def collect(self) -> list[Footprint]:
        """What was found, in the order of the processes."""
        for helper in self._helpers:
            helper.join()
        return [found or read_footprint(self._proc, pid) for found, pid in zip(self._found, self._pids, strict=True)]

    def _read_share(self, first: int) -> None:
        for at in range(first, len(self._pids), self._count):
            self._found[at] = read_footprint(self._proc, self._pids[at])


def read_host_memory(proc: str) -> HostMemory:
    """Read the machine's memory."""
    sizes = _parse_sizes(read_file(f"{proc}/meminfo"), _MACHINE)
    return HostMemory(sizes.get(b"MemTotal"), sizes.get(b"MemAvailable"), sizes.get(b"AnonPages"))


def _parse_sizes(text: bytes | None, wanted: Container[bytes]) -> dict[bytes, int]:
    """The wanted ones of the lines ``Name:  123 kB``, in bytes; other lines are none."""
    sizes = {}
    for line in (text or b"").splitlines():
        name, _, value = line.partition(b":")
        if name not in wanted:
            continue
        words = value.split()
        if len(words) == 2 and words[1] == b"kB" and words[0].isdigit() and len(words[0]) < 16:
            sizes[name] = int(words[0]) * 1024
    return sizes

"""TCP sockets of a network, ours or another process's, and which process has one open.

Ours is asked of the kernel directly; of another network, such as a container's, ``/proc/PID/net/tcp`` and ``tcp6``
tell the same. Junk in a table is skipped; nothing here raises.

Source: ``Documentation/networking/proc_net_tcp.rst`` of Linux; the states are those of ``net/tcp_states.h``.
"""

from __future__ import annotations

import sys

from corral.machine.procfs import count_ticks, list_open_files, read_file, read_link
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    Ask = Callable[[Collection[int], Collection[int] | None], "list[Row] | None"]
    """Gives the rows of our network in these states, and with these local ports; None when the kernel is silent."""

ESTABLISHED, SYN_RECEIVED, ENDED, LISTENING = 1, 3, 6, 10
"""``ENDED`` is the kernel's ``TIME_WAIT``: whoever closed a connection first remembers it for a minute."""
REMEMBERED_S = 60.0
"""For how long: ``TCP_TIMEWAIT_LEN``, a constant of the kernel."""
_IN_FLIGHT = (ESTABLISHED, SYN_RECEIVED)
_TABLES = ("tcp", "tcp6")


class Row(Record):
    """One TCP socket."""

    state: int
    local: bytes
    """The address in network order: 4 bytes or 16."""
    local_port: int
    remote: bytes
    remote_port: int
    user: int
    inode: int
    """0 as long as no process has accepted the connection."""
    left_s: float | None = None
    """Of one that has ended, for how long it will be remembered; None for all others."""
    queued: int = 0
    """Of one that listens, how many connections wait to be accepted."""


class Sockets:
    """Reads the sockets of a network; ``ask`` is None where there is only ``/proc`` to read from."""

    def __init__(self, proc: str, ask: Ask | None) -> None:
        self._proc, self._ask = proc, ask

    def read_own(self, states: Collection[int]) -> list[Row] | None:
        """The sockets of our own network in these states; None when they cannot be read."""
        rows = None if self._ask is None else self._ask(states, None)
        return read_rows(f"{self._proc}/net", states) if rows is None else rows

    def read_of(self, pid: int, states: Collection[int]) -> list[Row] | None:
        """The sockets of the network that a process is in."""
        return self.read_own(states) if self.shares(pid) else read_rows(f"{self._proc}/{pid}/net", states)

    def count_connections(self, pid: int, ports: Collection[int]) -> dict[int, int] | None:
        """How many connections these local ports have now in a process's network, the not yet accepted included.

        A connection whose client has left (``CLOSE_WAIT``) does not count: nobody waits for its answer. Only the
        server's end is looked at, so that each counts once. None when they cannot be read.
        """
        rows = self._ask(_IN_FLIGHT, ports) if self._ask is not None and self.shares(pid) else None
        if rows is None:
            rows = self._read_ports(f"{self._proc}/{pid}/net", ports)
        if rows is None:
            return None
        counts = dict.fromkeys(ports, 0)
        for row in rows:
            counts[row.local_port] += row.state in _IN_FLIGHT
        return counts

    def read_queues(self, pid: int, ports: Collection[int]) -> dict[int, int] | None:
        """How many connections wait to be accepted at these local ports, in a process's network.

        A port where nobody listens has none. None when the kernel does not answer, or not about that network.
        """
        rows = self._ask((LISTENING,), ports) if self._ask is not None and self.shares(pid) else None
        if rows is None:
            return None
        queues = dict.fromkeys(ports, 0)
        for row in rows:
            queues[row.local_port] += row.queued
        return queues

    def find_last_ends(self, pid: int, ports: Collection[int]) -> dict[int, float] | None:
        """For how many seconds each of these local ports has had no connection that then ended, in a process's network.

        Ports without such an end within the last minute are left out. None when the sockets cannot be read.
        Whichever end closed first remembers: a child does when it has answered, the router may when its client left
        before that. A connection that was reset is remembered by neither, and most of those are (measured on b9093
        to b11434): of a client that leaves within the time between two looks nothing is seen.
        """
        rows = self.read_of(pid, (ENDED,))
        if rows is None:
            return None
        ends: dict[int, float] = {}
        for row in rows:
            port = row.local_port if row.local_port in ports else row.remote_port
            is_near = port == row.local_port or row.local == row.remote
            if port in ports and is_near and row.left_s is not None:
                ago_s = min(max(0.0, REMEMBERED_S - row.left_s), REMEMBERED_S)
                ends[port] = min(ago_s, ends.get(port, ago_s))
        return ends

    def _read_ports(self, net: str, ports: Collection[int]) -> list[Row] | None:
        """Reading a table costs milliseconds on a large machine, so the second is read only if need be."""
        wanted = (*_IN_FLIGHT, LISTENING)
        rows = read_rows(net, wanted, ports, _TABLES[:1])
        if rows is not None and {row.local_port for row in rows if row.state == LISTENING}.issuperset(ports):
            return rows
        more = read_rows(net, wanted, ports, _TABLES[1:])
        return more if rows is None else rows + (more or [])

    def shares(self, pid: int) -> bool:
        """Whether a process is in the network that we are in.

        Where its namespace may not be read, a socket that listens in both tells it: inodes are unique.
        """
        theirs, ours = (read_link(f"{self._proc}/{who}/ns/net") for who in (pid, "self"))
        if theirs is not None and ours is not None:
            return theirs == ours
        listening = read_rows(f"{self._proc}/{pid}/net", (LISTENING,)) or ()
        own = {row.inode for row in self.read_own((LISTENING,)) or ()}
        return any(row.inode in own for row in listening)


def read_rows(
    net: str, states: Collection[int], ports: Collection[int] | None = None, names: Iterable[str] = _TABLES
) -> list[Row] | None:
    """The sockets in these states, with these local ports; ``net`` is such as ``/proc/4711/net``.

    None when no table can be read.
    """
    tables = [table for name in names if (table := read_file(f"{net}/{name}")) is not None]
    return [row for table in tables for row in parse_rows(table, states, ports)] if tables else None


def parse_rows(table: bytes, states: Collection[int], ports: Collection[int] | None = None) -> Iterator[Row]:
    """Read the text of ``net/tcp`` or ``net/tcp6``."""
    wanted = {b"%02X" % state for state in states}
    endings = None if ports is None else {b":%04X" % port for port in ports}
    for line in table.splitlines():
        fields = line.split(None, 10)
        if len(fields) < 10 or fields[3] not in wanted or (endings is not None and fields[1][-5:] not in endings):
            continue
        try:
            local, local_port = _parse_address(fields[1])
            remote, remote_port = _parse_address(fields[2])
            user, inode = int(fields[7]), int(fields[9])
            state = int(fields[3], 16)
            left_s = _parse_time(fields[5]) if state == ENDED else None
            queued = int(fields[4].partition(b":")[2], 16) if state == LISTENING else 0
        except ValueError:
            continue
        yield Row(state, local, local_port, remote, remote_port, user, inode, left_s, queued)


def holds_socket(proc: str, pid: int, inodes: Collection[int]) -> bool | None:
    """Whether a process has one of these sockets open; None when its open files may not be read."""
    files = list_open_files(proc, pid)
    if files is None:
        return None
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return any(target in wanted for _, target in files)


def find_owners(proc: str, pids: Iterable[int], inodes: Collection[int]) -> dict[int, int]:
    """Socket inode to a process that has it open, as far as open files may be read."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    owners: dict[int, int] = {}
    for pid in pids:
        if len(owners) == len(wanted):
            break
        for _, target in list_open_files(proc, pid) or ():
            if (inode := wanted.get(target)) is not None:
                owners.setdefault(inode, pid)
    return owners


def show_address(address: bytes) -> str:
    """An address as people write it; an IPv4 address in an IPv6 socket is shown as such."""
    if len(address) == 16 and address.startswith(bytes(10) + b"\xff\xff"):
        address = address[12:]
    if len(address) == 4:
        return ".".join(map(str, address))
    from socket import AF_INET6, inet_ntop

    return inet_ntop(AF_INET6, address)


def _parse_time(text: bytes) -> float:
    """When a socket's timer runs out, in seconds from now; the table has it in clock ticks."""
    _, _, ticks = text.partition(b":")
    return int(ticks, 16) / count_ticks()


def _parse_address(text: bytes) -> tuple[bytes, int]:
    """The kernel prints each 32 bits of an address as a number of this machine's byte order."""
    address, _, port = text.partition(b":")
    raw = bytes.fromhex(address.decode("ascii"))
    if len(raw) not in (4, 16) or len(port) != 4:
        raise ValueError(address)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return raw, int(port, 16)

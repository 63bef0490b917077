"""Who is connected to the router now: local programs by process, others by address."""

from __future__ import annotations

from corral.machine.procfs import list_pids, read_stat
from corral.machine.sockets import ESTABLISHED, find_owners, show_address
from corral.ops.measurement import Peer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from corral.machine.sockets import Row, Sockets
    from corral.ops.measurement import Process


def find_peers(proc: str, sockets: Sockets, port: int, router: Process | None, own_pid: int) -> tuple[Peer, ...] | None:
    """The clients of the router at this port, each once with its number of connections, without our own process.

    The router's ends of its connections are read in its own network, the clients' ends in ours. None when the tables
    cannot be read.
    """
    own = sockets.read_own((ESTABLISHED,))
    served = own if router is None else sockets.read_of(router.pid, (ESTABLISHED,))
    if served is None:
        return None
    ends = {(show_address(row.local), row.local_port): row for row in own or () if row.remote_port == port}
    clients = [(show_address(row.remote), row.remote_port) for row in served if row.local_port == port]
    inodes = {ends[client].inode for client in clients if client in ends}
    owners = find_owners(proc, [own_pid, *list_pids(proc)], inodes)
    return _count(proc, [(address, ends.get((address, number))) for address, number in clients], owners, own_pid)


def _count(
    proc: str, clients: Sequence[tuple[str, Row | None]], owners: Mapping[int, int], own_pid: int
) -> tuple[Peer, ...]:
    """``clients`` are the address of each, and its end of the connection where that is on this machine."""
    counts: dict[tuple[str, int | None, int | None], int] = {}
    for address, end in clients:
        pid = None if end is None else owners.get(end.inode)
        if pid != own_pid or pid is None:
            key = (address, pid, None if end is None else end.user)
            counts[key] = counts.get(key, 0) + 1
    peers = []
    for (address, pid, user), count in counts.items():
        stat = None if pid is None else read_stat(proc, pid)
        peers.append(Peer(address, count, None if stat is None else stat.process, user))
    return tuple(peers)

"""Where clients reach the router, and whether that place is this machine.

A URL that leads to this machine may still end elsewhere: a tunnel of SSH or a proxy may stand behind the port. So the
socket that listens there must be the router's own (see ``Doorway.is_of``).
"""

from __future__ import annotations

from corral.machine.procfs import list_pids, read_file, read_stat, read_user
from corral.machine.sockets import LISTENING, find_owners, holds_socket, show_address
from corral.machine.unix import find_unix_listeners
from corral.wire import Record, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from corral.machine.sockets import Row, Sockets
    from corral.ops.measurement import Process

_LOOPBACK = ("127.0.0.1", "::1")
_ANY = ("0.0.0.0", "::")


class Door(Record):
    """A router's address, as far as it matters where that is."""

    host: str = ""
    """Name or address, without brackets; empty for a unix socket."""
    port: int = 0
    socket_path: str = ""

    @property
    def label(self) -> str:
        """The address for people."""
        if self.socket_path:
            return escape_controls(self.socket_path)
        host = escape_controls(self.host)
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


class Place(Record):
    """The addresses behind a door, or why they are not this machine's."""

    addresses: frozenset[str] = frozenset()
    reason: str = ""


def find_place(door: Door, proc: str, resolve: Callable[[str], Iterable[str]]) -> Place:
    """Tell whether a door is on this machine: loopback, one of its addresses, or a unix socket."""
    if door.socket_path:
        return Place()
    if door.host.lower() == "localhost":
        return Place(frozenset(_LOOPBACK))
    address = _read_literal(door.host)
    try:
        found = frozenset([address] if address else map(_normalise, resolve(door.host)))
    except (OSError, UnicodeError, ValueError):
        return Place(reason=f"{door.label}: the host name leads nowhere")
    if not found:
        return Place(reason=f"{door.label}: the host name leads nowhere")
    if all(_is_loopback(one) or one in _ANY for one in found):
        return Place(frozenset(_LOOPBACK) if not found.isdisjoint(_ANY) else found)
    own = list_own_addresses(proc)
    if all(_is_loopback(one) or one in own for one in found):
        return Place(found)
    return Place(reason=f"{door.label} is another machine; run corral there, for instance through ssh")


def resolve_host(host: str) -> list[str]:
    """The addresses of a host name, as this system finds them."""
    from socket import SOCK_STREAM, getaddrinfo

    return [str(entry[4][0]) for entry in getaddrinfo(host, None, type=SOCK_STREAM)]


def list_own_addresses(proc: str) -> frozenset[str]:
    """This machine's addresses on every interface."""
    found, last = set[str](), ""
    for line in (read_file(f"{proc}/net/fib_trie") or b"").decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["|--"] and len(words) == 2:
            last = words[1]
        elif words[1:] == ["host", "LOCAL"]:
            found.add(last)
    for line in (read_file(f"{proc}/net/if_inet6") or b"").decode("ascii", "replace").splitlines():
        words = line.split()
        if words and len(words[0]) == 32:
            try:
                found.add(show_address(bytes.fromhex(words[0])))
            except ValueError:
                continue
    return frozenset(found)


class Doorway:
    """A door on this machine, and who stands in it."""

    def __init__(self, door: Door, place: Place, proc: str, sockets: Sockets) -> None:
        self._door, self._place, self._proc, self._sockets = door, place, proc, sockets

    @property
    def label(self) -> str:
        """The address for people."""
        return self._door.label

    def is_of(self, pid: int, *, by_user: bool = True) -> bool | None:
        """Whether this process is the one that listens at the door.

        1. A socket listens there, in the process's own network, and it is open in the process: yes.
        2. The same, but the process's files may not be read: yes if the socket has the process's user. That user may
           have other routers as well, so that without ``by_user`` it is None, not known.
        3. Such a socket, but of somebody else: no.
        4. No such socket, in a network that we share: no. In another network, as in a container, the port may be
           mapped: None, not known.
        """
        if self._door.socket_path:
            found = find_unix_listeners(f"{self._proc}/{pid}/net", self._door.socket_path)
            # A unix socket's user is not told: where files may not be read, nothing is known.
            return holds_socket(self._proc, pid, found) if found else None
        rows = self._sockets.read_of(pid, (LISTENING,))
        listening = None if rows is None else _pick(rows, self._door.port, self._place.addresses)
        if listening:
            is_open = holds_socket(self._proc, pid, [row.inode for row in listening])
            if is_open is not None:
                return is_open
            is_same = read_user(self._proc, pid) in {row.user for row in listening}
            return None if is_same and not by_user else is_same
        return False if listening is not None and self._sockets.shares(pid) else None

    def find_listener(self) -> Process | None:
        """The process that listens at the door, as far as we share its network and may read its open files."""
        if self._door.socket_path:
            inodes = find_unix_listeners(f"{self._proc}/net", self._door.socket_path) or []
        else:
            rows = self._sockets.read_own((LISTENING,)) or []
            inodes = [row.inode for row in _pick(rows, self._door.port, self._place.addresses)]
        for pid in find_owners(self._proc, list_pids(self._proc), inodes).values():
            if (stat := read_stat(self._proc, pid)) is not None:
                return stat.process
        return None


def _pick(rows: Iterable[Row], port: int, addresses: frozenset[str]) -> list[Row]:
    """Those that answer at one of the addresses; a socket bound to the very address comes before one bound to all."""
    shown = [(row, show_address(row.local)) for row in rows if row.local_port == port]
    exact = [row for row, address in shown if address in addresses]
    return exact or [row for row, address in shown if address in _ANY]


def _read_literal(host: str) -> str:
    try:
        return _normalise(host)
    except (OSError, ValueError):
        return ""


def _normalise(address: str) -> str:
    """One way of writing each address; raises OSError for what is none."""
    from socket import AF_INET, AF_INET6, inet_pton

    if ":" in address:
        return show_address(inet_pton(AF_INET6, address.partition("%")[0]))
    return show_address(inet_pton(AF_INET, address))


def _is_loopback(address: str) -> bool:
    return address == "::1" or address.startswith("127.")

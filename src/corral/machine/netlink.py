"""The TCP sockets of our network, asked of the kernel directly (``sock_diag``).

``/proc/net/tcp`` is written by walking a hash table that grows with the machine's memory: 4 to 13 ms here, with
24 GiB. Who waits for a model to be idle asks every 50 ms, and this way it costs 0.4 ms.

Source: sock_diag(7), ``linux/inet_diag.h``.
"""

from __future__ import annotations

from struct import Struct
from sys import byteorder

from corral.machine.sockets import ENDED, LISTENING, SYN_RECEIVED, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterator

_NETLINK, _RAW, _CLOEXEC, _SOCK_DIAG = 16, 3, 0o2000000, 4
_HEADER = Struct("=IHHII")
_QUERY = Struct("=BBBBI48s")
_ANSWER = Struct("!BBxxHH16s16s")
_TAIL = Struct("=IIIII")
_TAIL_AT = 52
"""Where a time in milliseconds, the lengths of two queues, user and inode stand, behind the identity."""
_ERROR, _DONE, _BY_FAMILY = 2, 3, 20
_REQUEST_DUMP = 0x301
_TCP = 6
_NEW_SYN_RECEIVED = 12
"""What the kernel calls a connection that it has received and not yet answered."""
_BUFFER = 1 << 15
"""The kernel makes no longer message; a larger buffer would be mapped and unmapped for each."""
_ATTRIBUTE, _FILTER = Struct("=HH"), 1
_STEP = Struct("=BBH")
"""``inet_diag_bc_op``: a code, how far to go if so, how far if not."""
_PORT_AT_LEAST, _PORT_AT_MOST = 2, 3


def ask_kernel(states: Collection[int], ports: Collection[int] | None) -> list[Row] | None:
    """The sockets in these states, and with these local ports; None when the kernel does not answer.

    Of ports that all listen on IPv4, as those of llama-server's children do, IPv6 is not asked for: each family costs
    a walk through all sockets of the machine.
    """
    from socket import AF_INET, AF_INET6

    wanted = {*states, LISTENING} if ports else {*states}
    mask = sum(1 << state for state in wanted) | (1 << _NEW_SYN_RECEIVED) * (SYN_RECEIVED in wanted)
    rows: list[Row] = []
    try:
        with open_line() as line:
            for family, size in ((AF_INET, 4), (AF_INET6, 16)):
                line.send(build_query(family, mask, ports=ports))
                found = (_read(message, size, ports) for message in receive(line))
                rows += [row for row in found if row is not None]
                if ports and {row.local_port for row in rows if row.state == LISTENING}.issuperset(ports):
                    break
    except (OSError, ValueError):
        # A sandbox may forbid this kind of socket, and a kernel may be built without.
        return None
    return [row for row in rows if row.state in states]


def open_line() -> socket.socket:
    """A socket to the kernel; raises OSError where a sandbox forbids it, or a kernel is built without."""
    from socket import socket

    line = socket(_NETLINK, _RAW | _CLOEXEC, _SOCK_DIAG)
    line.settimeout(1.0)
    return line


def build_query(family: int, states: int, extensions: int = 0, ports: Collection[int] | None = None) -> bytes:
    """A request for all sockets of a family in these states; ``extensions`` is a mask of what else is wanted.

    With ``ports`` the kernel leaves out local ports beyond the lowest and the highest of them.
    """
    # The socket's own identity is left open but for its cookie, which all bits set mean any.
    query = _QUERY.pack(family, _TCP, extensions, 0, states, bytes(40) + b"\xff" * 8)
    if ports:
        query += _build_filter(min(ports), max(ports))
    return _HEADER.pack(_HEADER.size + len(query), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + query


def _build_filter(least: int, most: int) -> bytes:
    """A program for the kernel: each step goes on to the next, or jumps beyond the end, which means no."""
    steps = ((_PORT_AT_LEAST, least), (_PORT_AT_MOST, most))
    program, left = b"", len(steps) * 2 * _STEP.size
    for code, port in steps:
        # The port stands in a step of its own behind.
        program += _STEP.pack(code, 2 * _STEP.size, left + _STEP.size) + _STEP.pack(0, 0, port)
        left -= 2 * _STEP.size
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(program), _FILTER) + program


def receive(line: socket.socket) -> Iterator[bytes]:
    """The messages of one answer, which may come in several parts."""
    while data := line.recv(_BUFFER):
        for kind, message in split_messages(data):
            if kind == _DONE:
                return
            yield message
    raise ValueError("the answer has no end")


def split_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message; raises ValueError when the kernel says that it failed, and for junk."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        message = data[at + _HEADER.size : at + length]
        if length < _HEADER.size or kind == _ERROR or (kind == _DONE and _is_negative(message)):
            raise ValueError("the kernel does not tell")
        yield kind, message
        at += (length + 3) & ~3


def _is_negative(message: bytes) -> bool:
    """The end of an answer may carry an error's number."""
    return len(message) >= 4 and int.from_bytes(message[:4], byteorder, signed=True) < 0


def _read(message: bytes, size: int, ports: Collection[int] | None) -> Row | None:
    """A row; None when it is of another port. Raises ValueError for junk."""
    if len(message) < _TAIL_AT + _TAIL.size:
        raise ValueError("an answer is too short")
    if ports is not None and int.from_bytes(message[4:6], "big") not in ports:
        return None
    _, state, local_port, remote_port, local, remote = _ANSWER.unpack_from(message)
    timer_ms, received, _, user, inode = _TAIL.unpack_from(message, _TAIL_AT)
    state = SYN_RECEIVED if state == _NEW_SYN_RECEIVED else state
    left_s = timer_ms / 1000 if state == ENDED else None
    # Of a socket that listens, the length of the first queue is that of those who wait to be accepted.
    queued = received if state == LISTENING else 0
    return Row(state, local[:size], local_port, remote[:size], remote_port, user, inode, left_s, queued)

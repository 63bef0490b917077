"""Requests that a server has taken and not answered, told by when each connection last heard and last spoke.

A client that waits in the router's queue gets no byte, and no endpoint tells of it. The kernel does: of each
connection it knows how long ago data came in and went out. A connection that has heard something since it last spoke
has an answer to give. The kernel tells only of the network that we are in.

Source: sock_diag(7); ``inet_diag_msg`` in ``linux/inet_diag.h`` and ``tcp_info`` in ``linux/tcp.h``, whose fields up
to ``tcpi_data_segs_out`` are there since Linux 4.6.
"""

from __future__ import annotations

from struct import Struct

from corral.machine.netlink import build_query, open_line, receive
from corral.machine.sockets import ESTABLISHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_INFO = 2
"""``INET_DIAG_INFO``: the attribute that holds ``tcp_info``, and, less one, its bit among the extensions."""
_PORT_AT, _ATTRIBUTES_AT = 4, 72
"""Within ``inet_diag_msg``: the local port, and where the attributes begin."""
_ATTRIBUTE, _U32, _U64 = Struct("=HH"), Struct("=I"), Struct("=Q")
_SENT_AT, _HEARD_AT, _RECEIVED_AT, _SEGMENTS_OUT_AT, _INFO_BYTES = 44, 52, 128, 156, 160
"""Within ``tcp_info``: milliseconds since data went out and came in, bytes received, segments of data sent."""


def find_waiting(port: int) -> tuple[float, ...] | None:
    """For each connection to a local port whose client waits for an answer: for how many seconds, longest first.

    An answer that has begun does not count, an event stream neither. None when the kernel does not tell.
    """
    from socket import AF_INET, AF_INET6

    waits: list[float | None] = []
    try:
        with open_line() as line:
            for family in (AF_INET, AF_INET6):
                line.send(build_query(family, 1 << ESTABLISHED, 1 << (_INFO - 1)))
                waits += [read_wait(message, port) for message in receive(line)]
    except (OSError, ValueError):
        return None
    return tuple(sorted((wait for wait in waits if wait is not None), reverse=True))


def read_wait(message: bytes, port: int) -> float | None:
    """How long the client of this connection has waited.

    None when it does not wait, when the connection is of another port, and on kernels that tell too little.
    """
    if int.from_bytes(message[_PORT_AT : _PORT_AT + 2], "big") != port:
        return None
    info = next((content for kind, content in _list_attributes(message) if kind == _INFO), b"")
    if len(info) < _INFO_BYTES:
        return None
    sent_ms, heard_ms = _U32.unpack_from(info, _SENT_AT)[0], _U32.unpack_from(info, _HEARD_AT)[0]
    has_spoken = _U32.unpack_from(info, _SEGMENTS_OUT_AT)[0] > 0
    has_asked = _U64.unpack_from(info, _RECEIVED_AT)[0] > 0
    if not has_asked or (has_spoken and sent_ms <= heard_ms):
        return None
    return float(heard_ms) / 1000


def _list_attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = _ATTRIBUTES_AT
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, message[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3

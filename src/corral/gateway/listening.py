"""Sockets to listen on. What cannot be listened on raises BadArgumentError with what to try."""

from __future__ import annotations

import os
import socket
from errno import EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT
from stat import S_ISSOCK

from corral.client.target import Target
from corral.wire import BadArgumentError, escape_controls

_SOCKET_MODE = 0o660
_ABSENT = (EADDRNOTAVAIL, EAFNOSUPPORT)


def bind_tcp(address: Target) -> list[socket.socket]:
    """A socket on every address that the host's name stands for, as ``localhost`` may for two.

    One alone where the system is to choose the port, and none for an address that this machine lacks, if it has others.
    """
    found: list[socket.socket] = []
    try:
        places = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for number, (family, kind, protocol, _, place) in enumerate(dict.fromkeys(places), 1):
            try:
                found.append(_bind(socket.socket(family, kind, protocol), place, is_alone=len(places) == 1))
            except OSError as error:
                if error.errno not in _ABSENT or (number == len(places) and not found):
                    raise
            if found and address.port == 0:
                break
    except OSError as error:
        for sock in found:
            sock.close()
        raise _explain(address, error) from None
    return found


def _bind(sock: socket.socket, place: object, *, is_alone: bool) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6 and not is_alone:
            # The other family has a socket of its own; "::" alone is for both.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)  # type: ignore[arg-type]  # as getaddrinfo gave it
    except OSError:
        sock.close()
        raise
    return sock


def bind_unix(address: Target) -> socket.socket:
    """A socket of its owner and group; one that a killed gateway has left there is replaced."""
    path = address.socket_path
    sock = socket.socket(socket.AF_UNIX)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        sock.bind(path)
        os.chmod(path, _SOCKET_MODE)
    except OSError as error:
        sock.close()
        raise _explain(address, error) from None
    return sock


def _is_abandoned(path: str) -> bool:
    """Whether a socket lies there that nobody listens on, as a process that was killed leaves it."""
    try:
        if not S_ISSOCK(os.lstat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _explain(address: Target, error: OSError) -> BadArgumentError:
    said = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    if error.errno == EADDRINUSE:
        hint = "If a router or another gateway has that address, give one of them another."
    elif address.scheme == "unix":
        hint = "Name a short path in a folder that is there and that you can write."
    else:
        hint = "Name an address of this machine, and a port that you may take, such as 127.0.0.1:8080."
    return BadArgumentError(f"Cannot listen on {address.label}: {escape_controls(said)}.", hint)

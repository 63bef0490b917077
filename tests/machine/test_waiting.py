"""Requests that wait for an answer, as the kernel tells them."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from struct import pack

import pytest

from corral.machine.waiting import find_waiting, read_wait

PORT = 8080
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")


def message(*, port: int = PORT, sent_ms: int = 0, heard_ms: int = 0, received: int = 0, segments: int = 0) -> bytes:
    """One connection as the kernel describes it, built from ``inet_diag.h`` and ``tcp.h``."""
    info = bytearray(232)
    info[44:48], info[52:56] = pack("=I", sent_ms), pack("=I", heard_ms)
    info[128:136], info[156:160] = pack("=Q", received), pack("=I", segments)
    head = b"\x02\x01\0\0" + port.to_bytes(2, "big") + bytes(66)
    other = pack("=HH", 7, 3) + b"\x01\0\0\0\0"
    return head + other[:8] + pack("=HH", 4 + len(info), 2) + bytes(info)


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        ({}, None),
        ({"received": 90, "heard_ms": 4000}, 4.0),
        ({"received": 90, "heard_ms": 4000, "sent_ms": 9000, "segments": 3}, 4.0),
        ({"received": 90, "heard_ms": 9000, "sent_ms": 4000, "segments": 3}, None),
        ({"received": 90, "heard_ms": 4000, "sent_ms": 4000, "segments": 1}, None),
        ({"received": 90, "heard_ms": 4000, "port": 9}, None),
    ],
    ids=["only connected", "asked", "asked again", "answered", "answered at once", "another port"],
)
def test_who_waits(fields: dict[str, int], wait: float | None) -> None:
    """Whoever was heard since the server last spoke waits; whoever was answered, or has not asked, does not."""
    assert wait == read_wait(message(**fields), PORT)


@pytest.mark.parametrize("length", range(0, 330, 7))
def test_cut_messages(length: int) -> None:
    """A message of an older kernel, or a cut one, tells of no waiting."""
    whole = message(received=90, heard_ms=4000)

    assert read_wait(whole[:length], PORT) in (None, 4.0)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that says nothing by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@LINUX
def test_the_kernel_tells(listener: socket.socket) -> None:
    """A connection waits from when it has asked until it is answered."""
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as client, listener.accept()[0] as served:
        before = find_waiting(port)
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        served.recv(100)
        asked = find_waiting(port)
        deadline = time.monotonic() + 10
        # The kernel counts in its own ticks, so an answer within the same one as the question is not told apart.
        while not (asked and asked[0] > 0.02) and time.monotonic() < deadline:
            asked = find_waiting(port)
        served.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        client.recv(100)
        answered = find_waiting(port)

    if before is None:
        pytest.skip("the kernel does not tell")
    assert ((), ()) == (before, answered)
    assert asked is not None and len(asked) == 1

"""Asking the kernel: its answers agree with its tables, and junk is refused."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.machine.netlink import ask_kernel, split_messages
from corral.machine.sockets import ESTABLISHED, LISTENING, Row, read_rows


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A listening socket on the loopback interface, and a client that nobody has accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        yield server, client


def test_kernel_and_tables_agree(pair: tuple[socket.socket, socket.socket]) -> None:
    """The same sockets come from the kernel as from its tables, by state and by port."""
    port, client_port = pair[0].getsockname()[1], pair[1].getsockname()[1]
    states, ports = (ESTABLISHED, LISTENING), (port, client_port)
    asked = ask_kernel(states, ports)
    if asked is None:
        pytest.skip("this kernel, or a sandbox, does not answer")
    told = read_rows("/proc/self/net", states, ports)

    assert told is not None and set(told) == set(asked) and len(asked) == 3
    assert [(LISTENING, port)] == [(row.state, row.local_port) for row in asked if row.state == LISTENING]
    assert {row.remote_port for row in asked if row.state == ESTABLISHED} == set(ports)


def test_only_what_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """Of one port come its connections alone, without what listens there and without other ports' sockets."""
    port = pair[0].getsockname()[1]
    asked = ask_kernel((ESTABLISHED,), (port,))
    if asked is None:
        pytest.skip("this kernel, or a sandbox, does not answer")

    assert [(ESTABLISHED, port)] == [(row.state, row.local_port) for row in asked]
    assert [] == ask_kernel((ESTABLISHED,), (1,))


def test_inode_is_the_sockets(pair: tuple[socket.socket, socket.socket]) -> None:
    """The inode is the one that the open file is named by."""
    asked = ask_kernel((LISTENING,), (pair[0].getsockname()[1],))
    if asked is None:
        pytest.skip("this kernel, or a sandbox, does not answer")

    assert f"socket:[{asked[0].inode}]" == str(Path(f"/proc/self/fd/{pair[0].fileno()}").readlink())


def test_ipv6() -> None:
    """Sockets of IPv6 are told with their whole addresses."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    # Where a port listens on IPv4 as well, IPv6 is not asked for: bound here, it is nobody else's there.
    with socket.socket() as reserved:
        reserved.bind(("", 0))
        port = reserved.getsockname()[1]
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            asked = ask_kernel((LISTENING,), (port,))
    if asked is None:
        pytest.skip("this kernel, or a sandbox, does not answer")

    assert [bytes(15) + b"\1"] == [row.local for row in asked if isinstance(row, Row)]


@given(st.binary(max_size=200))
def test_junk_ends(junk: bytes) -> None:
    """Whatever comes, taking it apart ends: in messages, or in the error that means no answer."""
    with suppress(ValueError):
        list(split_messages(junk))


@pytest.mark.parametrize(
    "message", [struct.pack("=IHHIIi", 20, 2, 0, 0, 0, -2), struct.pack("=IHHIIi", 20, 3, 0, 0, 0, -2)]
)
def test_errors_are_no_answer(message: bytes) -> None:
    """An error of the kernel, by itself or at the end of an answer, is not taken for an empty answer."""
    with pytest.raises(ValueError, match="kernel"):
        list(split_messages(message))

"""Where the gateway listens."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from corral.client.target import parse_url
from corral.gateway.listening import bind_tcp, bind_unix
from corral.wire import BadArgumentError


def test_name_stands_for_all_its_addresses() -> None:
    """Whichever address of a name a client tries, it finds the gateway there."""
    (probe,) = bind_tcp(parse_url("http://localhost:0"))
    port = probe.getsockname()[1]
    probe.close()
    socks = bind_tcp(parse_url(f"http://localhost:{port}"))
    families = {info[0] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    bound = {sock.family for sock in socks}
    for sock in socks:
        assert port == sock.getsockname()[1]
        sock.close()

    assert bound and bound <= families


def test_taken_and_foreign_addresses_are_told() -> None:
    """An address that is taken, is another machine's, or is no name at all is named, with what to do."""
    (taken,) = bind_tcp(parse_url("http://127.0.0.1:0"))
    taken.listen()
    with taken:
        for url, said, hint in (
            (f"http://127.0.0.1:{taken.getsockname()[1]}", "in use", "another gateway has that address"),
            ("http://192.0.2.1:8080", "assign", "an address of this machine"),
            ("http://no-such-name.invalid:8080", "Cannot listen", "an address of this machine"),
        ):
            with pytest.raises(BadArgumentError, match=said) as caught:
                bind_tcp(parse_url(url))
            assert hint in caught.value.hint
    for url in ("unix:///no/such/folder/g.sock", f"unix:///tmp/{'x' * 200}"):
        with pytest.raises(BadArgumentError, match="Cannot listen") as caught:
            bind_unix(parse_url(url))
        assert "path" in caught.value.hint and "port" not in caught.value.hint


def test_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """The socket of a gateway that was killed is replaced; one that is listened on, and any other file, is not."""
    address = parse_url(f"unix://{tmp_path}/g.sock")
    left = bind_unix(address)
    left.listen()
    with pytest.raises(BadArgumentError, match="in use"):
        bind_unix(address)
    left.close()
    assert os.path.exists(address.socket_path)
    bind_unix(address).close()
    os.unlink(address.socket_path)
    Path(address.socket_path).write_text("mine")

    with pytest.raises(BadArgumentError, match="in use"):
        bind_unix(address)
    assert "mine" == Path(address.socket_path).read_text()

"""The simulated server as a whole: its log, its connections, where it listens, and how it starts and stops."""

from __future__ import annotations

import gc
import http.client
import json
import socket
import ssl
import threading
from functools import partial
from pathlib import Path

import pytest
import trustme

from corral.sim import ModelSpec, Simulation, simulate


def connect(sim: Simulation) -> socket.socket:
    return socket.create_connection(("127.0.0.1", sim.port), timeout=10)


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    while part := connection.recv(65536):
        data += part
    return data


def test_log_has_what_was_sent() -> None:
    """The log keeps method, target, headers and body of each request in order, also of refused ones."""
    with simulate(api_keys=("k",)) as sim:
        for path, headers in (("/models?x=1", {}), ("/models/unload", {"Authorization": "Bearer k"})):
            connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
            connection.request("POST", path, json.dumps({"model": "ü"}), headers)
            connection.getresponse().read()
            connection.close()
        log = sim.request_log
        assert sim.requests("POST", "/models/unload") == log[1:]
        sim.clear_log()
        assert sim.request_log == []
    assert [item.target for item in log] == ["/models?x=1", "/models/unload"]
    assert log[0].path == "/models"
    assert log[1].json == {"model": "ü"}
    assert "authorization" not in log[0].headers
    assert log[1].headers["authorization"] == "Bearer k"


def test_idle_connection_is_dropped() -> None:
    """A connection without a request ends after the idle time."""
    with simulate(idle_drop_s=0.01) as sim, connect(sim) as connection:
        assert connection.recv(1) == b""


def test_pipelined_requests_are_answered_in_order() -> None:
    """What a client sends ahead is answered after what it sent first."""
    with simulate() as sim, connect(sim) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n\r\nGET /nope HTTP/1.1\r\n\r\n")
        data = read_to_end(connection)
    assert data.index(b"HTTP/1.1 200 OK") < data.index(b"HTTP/1.1 404 Not Found")


def test_garbage_is_refused() -> None:
    """What is not HTTP gets a 400 and the end of the connection."""
    with simulate() as sim, connect(sim) as connection:
        connection.sendall(b"garbage\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_unix_socket(tmp_path: Path) -> None:
    """It listens on a unix socket when told to, and its URL says so."""
    path = tmp_path / "sim.sock"
    with simulate(unix_socket=str(path)) as sim:
        assert sim.url == f"unix://{path}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert read_to_end(connection).endswith(b'{"status":"ok"}')


def test_tls() -> None:
    """With a TLS context it speaks TLS."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    with simulate(tls=server) as sim:
        assert sim.url.startswith("https://")
        connection = http.client.HTTPSConnection("127.0.0.1", sim.port, timeout=10, context=client)
        connection.request("GET", "/health")
        assert connection.getresponse().read() == b'{"status":"ok"}'
        connection.close()


def test_drop_connections() -> None:
    """A router that breaks its connections ends the event streams, and takes new clients."""
    with simulate(models=("a",)) as sim:
        connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
        connection.request("GET", "/models/sse")
        reply = connection.getresponse()
        assert sim.subscriber_count() == 1
        sim.drop_connections()
        with pytest.raises((OSError, http.client.HTTPException)):
            reply.read()
        connection.close()
        assert sim.subscriber_count() == 0
        with connect(sim) as other:
            other.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert read_to_end(other).endswith(b'{"status":"ok"}')


def test_it_ends_whatever_is_going_on() -> None:
    """The end of the block ends streams, waiting requests and the thread."""
    before = set(threading.enumerate())
    with simulate(models=(ModelSpec("a", load_s=3600),)) as sim:
        connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
        connection.request("POST", "/v1/chat/completions", json.dumps({"model": "a"}))
        sim.wait_for("a", "loading")
    with pytest.raises((OSError, http.client.HTTPException)):
        connection.getresponse()
    connection.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("over_tls", [False, True])
def test_it_leaves_no_connection_behind(over_tls: bool) -> None:
    """The end of the block closes every connection: also one just accepted, and one that never greets over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if over_tls else None
    if context is not None:
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    came: list[socket.socket] = []
    left: list[socket.socket] = []

    def come(sim: Simulation) -> bool:
        came.append(connect(sim))
        return True

    for _ in range(10):
        with simulate(tls=context) as sim:
            come(sim)
            # From the loop itself, so that it accepts this one in the very round that is told of the end.
            sim.wait_until(partial(come, sim))
        sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.family == socket.AF_INET]
        left += [one for one in sockets if one.fileno() >= 0 and one.getsockname()[1] == sim.port]
    for connection in came:
        connection.close()

    assert left == []


def test_crashed_child() -> None:
    """A child that crashes is listed as failed with its exit code."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        sim.kill_child("a")
        assert sim.state("a") == "unloaded"
        with connect(sim) as connection:
            connection.sendall(b"GET /models HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert b'"exit_code":139,"failed":true' in read_to_end(connection)

"""One connection of the blocking client on bad days: what is sent twice, what is taken for whose answer, what ends."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic

import pytest
import trustme

from corral.client import Timeouts, parse_url
from corral.client.transport import Transport
from corral.wire import BrokenCallError, NotARouterError, UnreachableError, follow_events, list_models, unload_model

PATIENT = Timeouts(60.0, 60.0, 60.0)
EMPTY = b'{"data": []}'
SUCCESS = b'{"success": true}'


def reply(body: bytes, status: str = "200 OK") -> bytes:
    """An answer that keeps the connection."""
    return b"HTTP/1.1 %s\r\nServer: llama.cpp\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@contextmanager
def serve(*scripts: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server whose connections go by these scripts, one each in this order; gives its port."""

    def run() -> None:
        for script in scripts:
            connection, _ = server.accept()
            connection.settimeout(30)
            with connection:
                script(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join(30)


def answer(*replies: bytes) -> Callable[[socket.socket], None]:
    """Answer one request after another, and wait for the client to close."""

    def script(connection: socket.socket) -> None:
        for data in replies:
            connection.recv(65536)
            connection.sendall(data)
        connection.recv(65536)

    return script


@contextmanager
def connected(url: str, timeouts: Timeouts = PATIENT, ca_file: str | None = None) -> Iterator[Transport]:
    """A connection that is closed in the end."""
    transport = Transport(parse_url(url), timeouts, ca_file)
    try:
        yield transport
    finally:
        transport.close()


@contextmanager
def broken_off(transport: Transport, when: threading.Event) -> Iterator[None]:
    """Another thread breaks it off when something has happened."""

    def end() -> None:
        when.wait(30)
        transport.shut()

    thread = threading.Thread(target=end)
    thread.start()
    yield
    thread.join()


def test_interrupted_call_leaves_no_answer_behind() -> None:
    """After Ctrl-C in a call the next one gets its own answer, never that of the call that was broken off."""

    def interrupt(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply(EMPTY))
        connection.recv(65536)
        os.kill(os.getpid(), signal.SIGINT)
        # The client has closed it by then, or would take this for the answer to its next call.
        connection.recv(65536)

    with serve(interrupt, answer(reply(EMPTY))) as port, connected(f"http://127.0.0.1:{port}") as transport:
        transport.send(list_models(), None)
        with pytest.raises(KeyboardInterrupt):
            transport.send(unload_model("a"), None)

        assert EMPTY == transport.send(list_models(), None).body


def test_garbled_answer_to_a_change_leaves_it_open() -> None:
    """Whoever gets no readable answer to a POST is told that it may have been acted on; a look is just no router."""
    garbled = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    with serve(answer(garbled), answer(b"junk\r\n"), answer(garbled)) as port:
        for _ in range(2):
            with connected(f"http://127.0.0.1:{port}") as transport, pytest.raises(BrokenCallError):
                transport.send(unload_model("a"), None)
        with connected(f"http://127.0.0.1:{port}") as transport, pytest.raises(NotARouterError, match="no proper HTTP"):
            transport.send(list_models(), None)


def test_request_goes_out_whole() -> None:
    """Head and body go out in one write, so that an interruption never leaves half a request behind."""
    heard: list[bytes] = []

    def listen(connection: socket.socket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(reply(SUCCESS))

    with serve(listen) as port, connected(f"http://127.0.0.1:{port}") as transport:
        transport.send(unload_model("a"), None)

    head, _, body = heard[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /models/unload HTTP/1.1\r\n") and b'{"model": "a"}' == body


@pytest.mark.parametrize("unasked", [reply(SUCCESS), reply(b"late", "408 Request Timeout"), b""])
def test_what_comes_unasked_answers_nothing(unasked: bytes) -> None:
    """Bytes on an idle connection, or its end, are no answer: the next request goes out on a new one, once."""
    told = threading.Event()

    def speak(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(reply(EMPTY))
        connection.sendall(unasked)
        connection.shutdown(socket.SHUT_WR)
        told.set()
        with suppress(ConnectionResetError):
            # Its end may be a reset, since the client has not read everything.
            assert b"" == connection.recv(65536)

    with serve(speak, answer(reply(b'{"success": false}'))) as port, connected(f"http://127.0.0.1:{port}") as transport:
        transport.send(list_models(), None)
        assert told.wait(30)

        assert b'{"success": false}' == transport.send(unload_model("a"), None).body


def test_no_time_left_is_nothing_sent() -> None:
    """A POST for which there is no time left never went out, and the error says so by its kind."""
    with serve(answer(reply(EMPTY))) as port, connected(f"http://127.0.0.1:{port}") as transport:
        transport.send(list_models(), None)
        with pytest.raises(UnreachableError) as caught:
            transport.send(unload_model("a"), None, monotonic() - 1)

    assert not isinstance(caught.value, BrokenCallError)


@pytest.mark.parametrize("body", [b"HTTP/1.1 500 No\r\nContent-Length: 50\r\n\r\nabc", b"HTTP/1.1 500 No\r\nA\r\n\r\n"])
def test_refused_stream_that_is_cut(body: bytes) -> None:
    """An event stream that is refused with half an answer is an error like all others."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(body)

    with (
        serve(script) as port,
        connected(f"http://127.0.0.1:{port}") as transport,
        pytest.raises((UnreachableError, NotARouterError)),
    ):
        transport.open_stream(follow_events(), None, 30.0)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS for localhost, and the file with its authority."""
    found, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.issue_cert("localhost").configure_cert(context)
    found.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return context, str(tmp_path / "ca.pem")


def test_broken_off_over_tls(authority: tuple[ssl.SSLContext, str]) -> None:
    """Another thread's break-off in the middle of an encrypted answer ends the call; nothing is read as plain text."""
    context, ca_file = authority
    begun, over = threading.Event(), threading.Event()

    def script(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)
            begun.set()
            try:
                while not over.is_set():
                    secure.sendall(b"x" * 10_000)
            except OSError:
                # The client has gone, as it should.
                return

    with serve(script) as port, connected(f"https://localhost:{port}", ca_file=ca_file) as transport:
        with broken_off(transport, begun), pytest.raises(UnreachableError):
            transport.send(list_models(), None)
        transport.close()
        over.set()


def test_broken_off_while_connecting(authority: tuple[ssl.SSLContext, str]) -> None:
    """A connection that is still being made can be broken off too."""
    _, ca_file = authority
    met = threading.Event()

    def mute(connection: socket.socket) -> None:
        connection.recv(65536)
        met.set()
        connection.recv(65536)

    with serve(mute) as port, connected(f"https://localhost:{port}", ca_file=ca_file) as transport:
        began = monotonic()
        with broken_off(transport, met), pytest.raises(UnreachableError):
            transport.send(list_models(), None)

    assert monotonic() - began < PATIENT.connect_s / 2  # type: ignore[operator]  # it is a number


def test_time_is_one_over_all_steps(monkeypatch: pytest.MonkeyPatch, authority: tuple[ssl.SSLContext, str]) -> None:
    """A proxy that takes its time and a router that then hangs in the handshake share what time there is."""
    _, ca_file = authority

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        threading.Event().wait(1.8)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        # The handshake, and then its end.
        while connection.recv(65536):
            pass

    with serve(script) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with connected("https://router.invalid", ca_file=ca_file) as transport:
            began = monotonic()
            with pytest.raises(UnreachableError, match="in time"):
                transport.send(list_models(), None, began + 2.0)

    assert monotonic() - began < 3.3

"""The blocking client's HTTP: what it sends, and what it makes of every kind of reply, however that is cut up."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPResponse
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.client.http1 import BadReplyError, NotHttpError, Response, build_request

BEGIN = b"HTTP/1.1 200 OK\r\n"
CHUNKED = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"
GOOD = {
    "length": b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": CHUNKED + b"3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\nTrailer: x\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "old and kept": b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello",
    "closes": b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no body": b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "no reason": b"HTTP/1.1 404\r\nContent-Length: 5\r\n\r\nhello",
    "bare line ends": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "odd letters": b"HTTP/1.1 200 \xe4\r\nX-Odd:\t\xfc\r\nX-Empty:\r\nContent-Length:5\r\n\r\nhello",
}


def deal(data: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    """A connection that gives the data in pieces of these sizes, again and again, and then ends."""
    rest = io.BytesIO(data)
    again = cycle(sizes)
    return lambda limit: rest.read(min(next(again), limit))


def read_all(response: Response, limit: int = 65536) -> bytes:
    """The whole body."""
    pieces = []
    while piece := response.read(limit):
        pieces.append(piece)
    return b"".join(pieces)


class Canned:
    """As much of a socket as Python's own reader asks for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        """The data."""
        return io.BytesIO(self._data)


def read_with_python(data: bytes) -> tuple[int, dict[str, str], bytes, bool]:
    """The same by ``http.client``: status, headers, body, and whether the connection stays."""
    response = HTTPResponse(Canned(data))  # type: ignore[arg-type]  # it asks for no more
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, response.read(), not response.will_close


@pytest.mark.parametrize("name", GOOD)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), limit=st.integers(1, 9))
def test_reads_what_python_reads(name: str, sizes: list[int], limit: int) -> None:
    """However a reply is cut up on its way, it is what Python's own client makes of it."""
    response = Response(deal(GOOD[name], sizes))
    headers = response.headers
    body = read_all(response, limit)

    expected = read_with_python(GOOD[name])
    assert expected == (response.status, headers, body, response.is_reusable)


@pytest.mark.parametrize("name", [name for name in GOOD if name != "until the end"])
@given(data=st.data())
def test_cut_reply_is_no_reply(name: str, data: st.DataObject) -> None:
    """A reply that ends anywhere before its end is told as cut, and never taken for a shorter one."""
    whole = GOOD[name]
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(ConnectionResetError):
        read_all(Response(deal(cut, [7])))


@given(junk=st.binary(max_size=300), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8))
def test_junk_is_told_as_such(junk: bytes, sizes: list[int]) -> None:
    """Whatever comes instead of a reply ends in one of two errors, or is a reply."""
    for data in (junk, b"HTTP/1.1 200 OK\r\n" + junk, CHUNKED + junk):
        with suppress(NotHttpError, BadReplyError, ConnectionResetError):
            assert read_all(Response(deal(data, sizes))) in data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6"),
        (b"\x15\x03\x01\x00\x02", "\\x15"),
        (b"\r\n", "(an empty line)"),
        (b"HTTP/2 200\r\n\r\n", "HTTP/2 200"),
        (b"HTTP/1.1 20x OK\r\n\r\n", "20x"),
        (b"HTTP/1.1 099 Low\r\n\r\n", "099"),
    ],
)
def test_what_is_no_http_is_shown(data: bytes, said: str) -> None:
    """What speaks something else is shown with what it said."""
    with pytest.raises(NotHttpError) as caught:
        Response(deal(data, [4096]))

    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (BEGIN + b"Content-Length: -1\r\n\r\n", "Content-Length is no number: -1"),
        (BEGIN + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "5, 6"),
        (BEGIN + b"Transfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding: gzip"),
        (CHUNKED + b"+5\r\nhello\r\n", "the size of a chunk is no number: +5"),
        (CHUNKED + b"\r\n", "the size of a chunk is no number: (an empty line)"),
        (CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", "longer than it said"),
        (BEGIN + b"no colon\r\n\r\n", "no header: no colon"),
        (BEGIN + b"A: b\r\n" * 200, "more than 100 headers"),
        (BEGIN + b"A: " + b"b" * 200_000, "longer than 64 KiB"),
    ],
)
def test_what_is_wrong_is_said(data: bytes, said: str) -> None:
    """What begins as HTTP and then is none is told by what is wrong."""
    with pytest.raises(BadReplyError) as caught:
        read_all(Response(deal(data, [4096])))

    assert said in str(caught.value)


def test_of_two_headers_the_last_counts() -> None:
    """A header that comes twice is what the last says, as for the async client; a coding that is none is none."""
    reply = b"Server: nginx\r\nServer: llama.cpp\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello"
    response = Response(deal(BEGIN + reply, [4096]))

    assert "llama.cpp" == response.headers["server"] and b"hello" == read_all(response)


def test_reply_to_connect_is_its_head() -> None:
    """What a proxy says of a body behind its yes to a CONNECT does not count."""
    response = Response(deal(BEGIN + b"Content-Length: 5\r\nTransfer-Encoding: gzip\r\n\r\n", [4096]), has_body=False)

    assert 200 == response.status and b"" == response.read()


def test_banner_needs_no_end() -> None:
    """Who speaks another protocol and waits is known at its first byte, not when the time is up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"* OK IMAP4 ready")
        ours.settimeout(20)
        with pytest.raises(NotHttpError, match="IMAP4"):
            Response(ours.recv)


def test_more_than_was_said_ends_the_connection() -> None:
    """Bytes behind a reply answer nothing that was asked: the connection is not used again."""
    response = Response(deal(GOOD["length"] + b"HTTP/1.1 200 OK\r\n\r\n", [4096]))

    assert b"hello" == read_all(response) and not response.is_reusable


def test_same_length_twice_is_one() -> None:
    """A length that two in the chain wrote, the same, is that length."""
    response = Response(deal(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", [4096]))

    assert b"hello" == read_all(response)


def test_folded_header_is_one() -> None:
    """A header that goes on in the next line is read as one."""
    response = Response(deal(b"HTTP/1.1 200 OK\r\nX-Long: a\r\n  b\r\nContent-Length: 0\r\n\r\n", [4096]))

    assert "a b" == response.headers["x-long"]


def test_request_is_what_a_server_expects() -> None:
    """A request says how long its body is, and wants the answer plain."""
    assert b"GET /models HTTP/1.1\r\nHost: a\r\nAccept-Encoding: identity\r\n\r\n" == build_request(
        "GET", "/models", {"Host": "a"}, None
    )
    assert b"Content-Length: 0\r\n" in build_request("POST", "/x", {}, None)
    assert build_request("POST", "/x", {}, b"{}").endswith(b"Content-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/a\r\nX: y", {}),
        ("/ä", {}),
        ("/x", {"X": "a\r\nY: b"}),
        ("/x", {"X": "\0"}),
        ("/x", {"X": "日"}),
    ],
)
def test_nothing_breaks_out_of_its_line(path: str, headers: dict[str, str]) -> None:
    """A path or value that would become another header is refused before a byte goes out."""
    with pytest.raises(ValueError, match=r"\S"):
        build_request("GET", path, headers, None)

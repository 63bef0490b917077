"""The connections to one router: opened when needed, used again while fresh, broken off when the client leaves.

llama-server drops a connection that was idle for 5 s and one that served 100 requests, and a POST must not meet that:
it may have been acted on, so it is never sent twice. Hence one that was idle for 2 s is not used again, and GET alone
is repeated, once, where a connection in its second use broke before the first byte of an answer.

The parser and its flow control are aiohttp's, its ``ClientSession`` is not used: a proxy that does nothing but pass
requests through one takes more time than all of this gateway (measured, ``docs/benchmarks.md``).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from ssl import SSLContext

from aiohttp import ClientError, StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

from corral.client.target import Target

IDLE_LIMIT_S = 2.0
"""A connection that was idle for longer is not used again."""
_MAX_LINE_BYTES = 64 << 10
_BUFFER_BYTES = 64 << 10
_KEEPALIVE_S = 30
_REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))


class UpstreamError(Exception):
    """The router gave no answer; ``was_sent`` when it may have got the request all the same."""

    def __init__(self, message: str, *, was_sent: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.was_sent = was_sent
        self.timed_out = timed_out


class BrokenAnswerError(Exception):
    """The router's answer ended before it was whole."""


class Answer:
    """What the router says: its head, and its body as it comes. Close it in any case."""

    __slots__ = ("_peeked", "_protocol", "_upstream", "message", "payload")

    def __init__(
        self, upstream: Upstream, protocol: ResponseHandler, message: RawResponseMessage, payload: StreamReader
    ) -> None:
        self.message = message
        self.payload = payload
        self._upstream, self._protocol = upstream, protocol
        self._peeked = b""

    @property
    def is_over(self) -> bool:
        """Whether it was read to its end. Reading one piece may let in the next, the last one included."""
        return self.payload.at_eof()

    async def peek(self) -> bytes:
        """The first piece of an answer, which is read once more by whoever sends it on. Raises BrokenAnswerError."""
        try:
            self._peeked = await self.payload.readany()
        except (OSError, ClientError, HttpProcessingError) as error:
            raise BrokenAnswerError(str(error)) from None
        return self._peeked

    def read_ready(self) -> bytes:
        """What has come already. Raises BrokenAnswerError."""
        if self._peeked:
            piece, self._peeked = self._peeked, b""
            return piece
        try:
            return self.payload.read_nowait(-1)
        except (OSError, ClientError, HttpProcessingError) as error:
            raise BrokenAnswerError(str(error)) from None

    async def read(self) -> bytes:
        """The next piece, whatever has come; empty at the end. Raises BrokenAnswerError."""
        try:
            piece = await self.payload.readany()
            self._upstream.hear()
            return piece
        except (OSError, ClientError, HttpProcessingError) as error:
            raise BrokenAnswerError(str(error)) from None

    def close(self) -> None:
        """Give the connection back when the answer was read to its end, else break it off at once."""
        if self.is_over and not self._protocol.should_close:
            self._upstream.keep(self._protocol)
        else:
            self._protocol.abort()


class Upstream:
    """Sends requests to one router."""

    def __init__(self, target: Target, *, connect_s: float = 5.0, tls: SSLContext | None = None) -> None:
        self.target = target
        self._connect_s = connect_s
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[float, ResponseHandler]] = deque()
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False
        self.heard_at = self._loop.time()
        """When the router last said anything."""

    async def send(self, method: str, head: bytes, body: bytes) -> Answer:
        """Send one request and wait, without limit, for the head of its answer. Raises UpstreamError."""
        protocol = self._take_idle()
        if protocol is not None:
            try:
                return await self._exchange(protocol, method, head, body)
            except UpstreamError:
                if method not in _REPEATABLE:
                    raise
        return await self._exchange(await self._connect(), method, head, body)

    def hear(self) -> None:
        """The router said something."""
        self.heard_at = self._loop.time()

    def keep(self, protocol: ResponseHandler) -> None:
        """Have a connection ready for the next request."""
        if self._is_closed:
            protocol.close()
            return
        self._idle.append((self._loop.time(), protocol))
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(IDLE_LIMIT_S, self._sweep)

    def close(self) -> None:
        """Close what is idle; what is in use is closed by its user."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._idle.pop()[1].close()

    def _take_idle(self) -> ResponseHandler | None:
        self._drop_stale()
        while self._idle:
            protocol = self._idle.pop()[1]
            if protocol.is_connected() and not protocol.should_close:
                return protocol
            protocol.close()
        return None

    def _sweep(self) -> None:
        self._sweeper = None
        self._drop_stale()
        if self._idle:
            self._sweeper = self._loop.call_at(self._idle[0][0] + IDLE_LIMIT_S, self._sweep)

    def _drop_stale(self) -> None:
        oldest = self._loop.time() - IDLE_LIMIT_S
        while self._idle and self._idle[0][0] <= oldest:
            self._idle.popleft()[1].close()

    async def _connect(self) -> ResponseHandler:
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._open()
        except TimeoutError:
            raise UpstreamError(f"no connection within {self._connect_s:g} s", was_sent=False, timed_out=True) from None
        except OSError as error:
            said = os.strerror(error.errno) if error.errno else "no address accepts a connection"
            raise UpstreamError(said, was_sent=False) from None

    async def _open(self) -> ResponseHandler:
        target = self.target
        if target.scheme == "unix":
            _, protocol = await self._loop.create_unix_connection(
                lambda: ResponseHandler(self._loop), target.socket_path
            )
            return protocol
        name = target.host if self._tls is not None else None
        transport, protocol = await self._loop.create_connection(
            lambda: ResponseHandler(self._loop), target.host, target.port, ssl=self._tls, server_hostname=name
        )
        _watch_peer(transport.get_extra_info("socket"))
        return protocol

    async def _exchange(self, protocol: ResponseHandler, method: str, head: bytes, body: bytes) -> Answer:
        try:
            protocol.set_response_params(
                skip_payload=method == "HEAD",
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=_BUFFER_BYTES,
                max_line_size=_MAX_LINE_BYTES,
                max_field_size=_MAX_LINE_BYTES,
            )
            assert protocol.transport is not None
            protocol.transport.write(head + body if len(body) < _BUFFER_BYTES else head)
            if len(body) >= _BUFFER_BYTES:
                protocol.transport.write(body)
            message, payload = await protocol.read()
            while 100 <= message.code < 200:
                message, payload = await protocol.read()
            self.hear()
            return Answer(self, protocol, message, payload)
        except (OSError, ClientError, HttpProcessingError, AssertionError) as error:
            protocol.abort()
            raise UpstreamError(_describe(error), was_sent=True) from None
        except BaseException:
            protocol.abort()
            raise


def _watch_peer(sock: socket.socket | None) -> None:
    """Have the kernel notice a router whose machine is gone, which sends no end of a stream."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _KEEPALIVE_S), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _describe(error: Exception) -> str:
    if isinstance(error, HttpProcessingError):
        return "what it answered is not HTTP"
    if isinstance(error, ConnectionResetError | AssertionError):
        return "the connection was reset"
    return "the connection broke before an answer came"

"""A small HTTP/1.1 server that talks as llama-server's does: cpp-httplib's headers, limits and habits.

Idle connections are dropped after 5 s and after 100 requests, an error answer closes its connection, and a client
that leaves cancels its request. The handler gets a Request and returns a Reply, or raises ResetError to break the
connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from http.client import responses
from urllib.parse import parse_qsl, unquote

JSON_TYPE = "application/json; charset=utf-8"
_MAX_HEAD = 64 << 10
_MAX_BODY = 64 << 20
_ROUNDS_TO_SERVE = 3
"""So many rounds of the loop after asyncio has accepted a connection, ``_serve`` knows of it."""


@dataclass(frozen=True)
class Request:
    """One request as it arrived. Header names are in lower case; the last of a repeated query key wins."""

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What to answer: a body, or chunks."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_TYPE
    chunks: AsyncIterator[bytes] | None = None
    is_proxied: bool = False
    """From a child: sent in chunks, and the connection ends after it."""
    headers: tuple[tuple[str, str], ...] = ()
    promised: int = 0
    """Bytes that Content-Length promises over what is sent; then the connection ends."""
    server: str | None = "llama.cpp"


class ResetError(Exception):
    """Break the connection without another byte."""


Handler = Callable[[Request], Awaitable[Reply]]


def reply_json(document: object, status: int = 200, *, is_proxied: bool = False) -> Reply:
    """A reply with this document as compact JSON."""
    body = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    return Reply(status, body, is_proxied=is_proxied)


@dataclass
class HttpServer:
    """Listens and serves until closed."""

    handler: Handler
    idle_drop_s: float = 5.0
    requests_per_connection: int = 100
    _server: asyncio.Server | None = None
    _tls: ssl.SSLContext | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(
        self, host: str, port: int, unix_socket: str | None = None, tls: ssl.SSLContext | None = None
    ) -> int:
        """Listen; returns the port (0 for a unix socket)."""
        if unix_socket is not None:
            self._server = await asyncio.start_unix_server(self._serve, unix_socket)
            return 0
        self._tls = tls
        self._server = await asyncio.start_server(self._serve, host, port, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end every connection, also one that has only just been accepted."""
        if self._server is not None:
            loop = asyncio.get_running_loop()
            for listener in self._server.sockets:
                loop.remove_reader(listener.fileno())
            # What was accepted would be forgotten unclosed by a server that is closed already.
            for _ in range(_ROUNDS_TO_SERVE):
                await asyncio.sleep(0)
            self._server.close()
        await self.drop_connections()

    async def drop_connections(self) -> None:
        """End every connection, as a router that dies does."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Transports are closed by callbacks of the loop's next round.
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            if self._tls is not None:
                # Not left to asyncio's server, which tells of no connection before both sides have greeted.
                await writer.start_tls(self._tls)
            await _Connection(self, reader, writer).run()
            # A client may be slow to take the rest, or over TLS to say goodbye.
            writer.close()
            await writer.wait_closed()
        except ResetError:
            _reset(writer)
        except (OSError, EOFError, asyncio.CancelledError):
            # The client left, or the server closes: asyncio would only print a cancelled connection task.
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()


class _Connection:
    """One connection, from accept to close."""

    def __init__(self, server: HttpServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self._buffer = bytearray()

    async def run(self) -> None:
        for left in range(self._server.requests_per_connection, 0, -1):
            try:
                async with asyncio.timeout(self._server.idle_drop_s):
                    request = await self._read_request()
            except TimeoutError:
                return
            if request is None:
                self._writer.write(
                    b"HTTP/1.1 400 Bad Request\r\nServer: llama.cpp\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                )
                return
            if not await self._answer(request, is_last=left == 1):
                return

    async def _fill(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise EOFError
        self._buffer += data

    async def _read_request(self) -> Request | None:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _MAX_HEAD:
                return None
            await self._fill()
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            return None
        pairs = [line.partition(":") for line in lines]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _MAX_BODY:
            return None
        while len(self._buffer) < int(length):
            await self._fill()
        body = bytes(self._buffer[: int(length)])
        del self._buffer[: int(length)]
        path, _, query = words[1].partition("?")
        if words[2] == "HTTP/1.0":
            headers.setdefault("connection", "close")
        return Request(words[0], words[1], unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers, body)

    async def _answer(self, request: Request, is_last: bool) -> bool:
        """Answer one request; False when the connection ends with it."""
        work = asyncio.ensure_future(self._handle_and_send(request, is_last))
        watch = asyncio.ensure_future(self._watch_for_end())
        try:
            await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise EOFError
            return work.result()
        finally:
            work.cancel()
            watch.cancel()
            await asyncio.gather(work, watch, return_exceptions=True)

    async def _watch_for_end(self) -> None:
        with suppress(EOFError, OSError):
            while len(self._buffer) < _MAX_HEAD:
                await self._fill()
            await asyncio.get_running_loop().create_future()

    async def _handle_and_send(self, request: Request, is_last: bool) -> bool:
        reply = await self._server.handler(request)
        ends = is_last or reply.status >= 400 or request.headers.get("connection", "").lower() == "close"
        is_chunked = reply.chunks is not None or reply.is_proxied
        self._writer.write(_format_head(reply, request, ends, is_chunked))
        if request.method == "HEAD":
            pass
        elif not is_chunked:
            self._writer.write(reply.body)
        elif reply.chunks is None:
            self._write_chunk(reply.body)
            self._writer.write(b"0\r\n\r\n")
        else:
            await self._send_chunks(reply.chunks)
        await self._writer.drain()
        return not (ends or reply.is_proxied or reply.promised)

    async def _send_chunks(self, chunks: AsyncIterator[bytes]) -> None:
        async with aclosing(chunks):  # type: ignore[type-var]  # an iterator that closes
            async for chunk in chunks:
                self._write_chunk(chunk)
                await self._writer.drain()
        self._writer.write(b"0\r\n\r\n")

    def _write_chunk(self, chunk: bytes) -> None:
        if chunk:
            self._writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


def _format_head(reply: Reply, request: Request, ends: bool, is_chunked: bool) -> bytes:
    origin = request.headers.get("origin", "")
    lines = [f"HTTP/1.1 {reply.status} {responses.get(reply.status, '')}"]
    if reply.server is not None:
        lines += [f"Server: {reply.server}", f"Access-Control-Allow-Origin: {origin}"]
    if reply.is_proxied:
        lines.append("Connection: close")
    if is_chunked:
        lines.append("X-Accel-Buffering: no")
    lines.append(f"Content-Type: {reply.content_type}")
    lines += [f"{name}: {value}" for name, value in reply.headers]
    lines.append("Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(reply.body) + reply.promised}")
    lines.append("Connection: close" if ends else "Keep-Alive: timeout=5, max=100")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
        # Zero linger turns the close into a reset, as from a process that was killed.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

"""The answer's way back: piece by piece as it comes, never gathered; a slow client slows its own answer only."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from corral import __version__
from corral.gateway.headers import build_response
from corral.gateway.replies import GATEWAY_HEADER
from corral.gateway.upstream import Answer, BrokenAnswerError

GATEWAY_LINE = f"{GATEWAY_HEADER}: {__version__}".encode("ascii")
_HIGH_WATER_BYTES = 64 << 10
_NO_BODY = frozenset((204, 304))


class Relayed(web.StreamResponse):
    """Tells aiohttp that a response has gone out already, and whether its connection can serve another request."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """It is out."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """It is out."""


_KEEP, _CLOSE = Relayed(True), Relayed(False)


class Outlet:
    """Where pieces go; with ``goes_on`` to nowhere, once the client is gone."""

    def __init__(self, request: web.BaseRequest, send_s: float, *, goes_on: bool) -> None:
        self.request = request
        self._writer = request.writer
        self._send_s = send_s
        self._goes_on = goes_on

    def put(self, data: bytes) -> bool:
        """Send a piece; True when so much waits for the client that ``drain`` should be awaited."""
        transport = self.request.transport
        if transport is None or transport.is_closing():
            if not self._goes_on:
                raise ConnectionResetError("the client is gone")
            return False
        transport.write(data)
        # aiohttp goes by it when something goes wrong: an answer has begun.
        self._writer.output_size += len(data)
        return transport.get_write_buffer_size() > _HIGH_WATER_BYTES

    async def drain(self) -> None:
        """Wait until the client has taken enough."""
        try:
            async with asyncio.timeout(self._send_s):
                await self._writer.drain()
        except OSError as error:
            # TimeoutError is one too: it takes nothing, and holds up the model's slot.
            break_off(self.request)
            if not self._goes_on:
                raise ConnectionResetError("the client takes no more") from error


async def relay(answer: Answer, outlet: Outlet, added: list[bytes], *, keeps: bool) -> web.StreamResponse:
    """Send the router's answer on; ``added`` are header lines, ``keeps`` whether the connection may go on after it."""
    request, message = outlet.request, answer.message
    is_empty = request.method == "HEAD" or message.code in _NO_BODY
    is_chunked = not is_empty and "Content-Length" not in message.headers
    if is_chunked and request.version >= (1, 1):
        added.append(b"Transfer-Encoding: chunked")
    elif is_chunked:
        # The end of the connection is the end of the answer.
        is_chunked = keeps = False
    if not keeps:
        added.append(b"Connection: close")
    elif request.version < (1, 1):
        added.append(b"Connection: keep-alive")
    head = build_response(message.code, message.reason, message.raw_headers, added)
    try:
        piece = b"" if is_empty else answer.read_ready()
        if outlet.put(head + _frame(piece, is_chunked, answer.is_over) if piece else head):
            await outlet.drain()
        if not is_empty and not (piece and answer.is_over):
            await _stream(answer, outlet, is_chunked)
    except BrokenAnswerError:
        return break_off(request)
    return _KEEP if keeps else _CLOSE


def break_off(request: web.BaseRequest) -> web.StreamResponse:
    """The client must see that its answer is not whole, and only a broken connection says so."""
    if request.transport is not None:
        request.transport.abort()
    return _CLOSE


async def _stream(answer: Answer, outlet: Outlet, is_chunked: bool) -> None:
    while piece := await answer.read():
        is_last = answer.is_over
        if outlet.put(_frame(piece, is_chunked, is_last)):
            await outlet.drain()
        if is_last:
            return
    if is_chunked:
        outlet.put(b"0\r\n\r\n")


def _frame(piece: bytes, is_chunked: bool, is_last: bool) -> bytes:
    if not is_chunked:
        return piece
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece) if is_last else b"%x\r\n%b\r\n" % (len(piece), piece)

"""One client's connection: aiohttp's, with errors that a program can read and without a log line for each."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

from aiohttp import web
from aiohttp.http_exceptions import InvalidURLError, LineTooLong
from aiohttp.http_parser import RawRequestMessage

from corral.gateway.replies import reject

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%b"
)
_FULL_BODY = b'{"error": {"message": "Too many connections.", "type": "unavailable_error", "code": 503}}'


_SPARE_FILES = 64


def limit_connections(most: int) -> int:
    """So many, or as many as the open files that this process may have: each client takes two."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most if soft == resource.RLIM_INFINITY else max(1, min(most, (soft - _SPARE_FILES) // 2))


class Connection(web.RequestHandler):
    """Parses requests and has them handled one after another."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        """Take bytes; whoever reads a body that they break off is told, which aiohttp's parser does not do."""
        super().data_received(data)
        request = self._current_request
        if self._messages and request is not None and not request.content.is_eof():
            # Nothing but an error can follow a body that is not whole.
            assert not isinstance(self._messages[-1][0], RawRequestMessage)
            request.content.set_exception(web.RequestPayloadError("a bad chunk"))

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, and what went wrong here; the connection ends with it."""
        if request.writer.output_size > 0:
            # Half an answer is out; only the end of the connection can say that it is not whole.
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, LineTooLong):
            response = reject(431, "The request's head is too large (max_head).", "head_too_large")
        elif isinstance(exc, InvalidURLError):
            response = reject(400, "Write the target's characters beyond ASCII with %, as URLs do.", "bad_target")
        elif status == 400:
            response = reject(400, "This is not a request that HTTP knows.", "bad_request")
        elif status == 504:
            response = reject(504, "The gateway waited too long.", "timed_out", "server_error")
        else:
            self.logger.error("internal error: %s: %s", type(exc).__name__, exc, exc_info=exc if self.debug else None)
            response = reject(
                500, "Internal error of the gateway; its log says more.", "internal_error", "server_error"
            )
        response.force_close()
        return response


class _Full(asyncio.Protocol):
    """Turns away who comes when there is no place."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_FULL % (len(_FULL_BODY), _FULL_BODY))
        transport.close()


def build_factory(server: web.Server, make: Callable[[], Connection], most: int) -> Callable[[], asyncio.Protocol]:
    """What asyncio calls for each connection: one more, or a refusal."""

    def accept() -> asyncio.Protocol:
        return make() if len(server.connections) < most else _Full()

    return accept

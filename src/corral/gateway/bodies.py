"""Request bodies: read whole, within limits, and counted together."""

from __future__ import annotations

import asyncio

from aiohttp import web

from corral.gateway.admission import Refusal
from corral.gateway.replies import refuse
from corral.gateway.settings import MIB, Limits

_OWN_BODY_BYTES = MIB
_OWN_BODIES_BYTES = 64 * MIB


class BodyError(Exception):
    """A body that is not read; answered with this status, after which the connection ends."""

    def __init__(self, status: int, message: str, code: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after_s = status, message, code, retry_after_s

    def answer(self) -> web.Response:
        """What the client is told."""
        kind = "invalid_request_error" if self.status < 500 else "unavailable_error"
        response = refuse(Refusal(self.status, self.message, self.code, self.retry_after_s, kind=kind))
        # What else it sends is not read.
        response.force_close()
        return response


class Body:
    """One request's body; released when nobody needs it any more, so that a long answer does not hold it."""

    __slots__ = ("_bodies", "data", "size")

    def __init__(self, bodies: Bodies, data: bytes) -> None:
        self._bodies = bodies
        self.data = data
        self.size = len(data)

    def release(self) -> None:
        """Let go of it; once more does nothing."""
        self._bodies.held_bytes -= len(self.data)
        self.data = b""


class Bodies:
    """Reads bodies; keeps count of the bytes of all that are held at this moment."""

    def __init__(self, limits: Limits, setting: str = " (max_body)") -> None:
        self._limits = limits
        self._setting = setting
        self.held_bytes = 0

    def check(self, request: web.BaseRequest) -> None:
        """Refuse by the promised length alone, before the client sends it. Raises BodyError."""
        promised = request.content_length or 0
        if promised > self._limits.max_body_bytes:
            raise self._too_large()
        if self.held_bytes + promised > self._limits.max_bodies_bytes:
            raise BodyError(503, "Too many large requests are waiting here.", "too_many_bytes", 5.0)

    async def read(self, request: web.BaseRequest) -> Body:
        """The whole body, to be released. Raises BodyError when it is too large, too slow or broken."""
        if not request.body_exists:
            return Body(self, b"")
        self.check(request)
        held = bytearray()
        try:
            if request.content.is_eof():
                # Most are here with their head.
                self._take(held, request.content.read_nowait(-1))
                return Body(self, bytes(held))
            async with asyncio.timeout(self._limits.body_s):
                while piece := await request.content.readany():
                    self._take(held, piece)
        except BaseException as error:
            self.held_bytes -= len(held)
            if isinstance(error, TimeoutError):
                message = f"The request's body did not come within {self._limits.body_s:g} s."
                raise BodyError(408, message, "body_too_slow") from None
            if isinstance(error, web.RequestPayloadError):
                raise BodyError(400, "The request's body is broken off or badly framed.", "bad_body") from None
            raise
        return Body(self, bytes(held))

    async def take(self, request: web.BaseRequest) -> bytes:
        """The whole body, counted only while it comes. Raises BodyError."""
        body = await self.read(request)
        data = body.data
        body.release()
        return data

    def _take(self, held: bytearray, piece: bytes) -> None:
        held += piece
        self.held_bytes += len(piece)
        if len(held) > self._limits.max_body_bytes:
            raise self._too_large()
        if self.held_bytes > self._limits.max_bodies_bytes:
            raise BodyError(503, "Too many large requests are waiting here.", "too_many_bytes", 5.0)

    def _too_large(self) -> BodyError:
        message = f"The request's body is larger than {self._limits.max_body_bytes} bytes{self._setting}."
        return BodyError(413, message, "body_too_large")


def build_own_bodies(limits: Limits) -> Bodies:
    """For what the gateway answers itself, where bodies are small."""
    most, together = min(_OWN_BODY_BYTES, limits.max_body_bytes), min(_OWN_BODIES_BYTES, limits.max_bodies_bytes)
    return Bodies(Limits(max_body_bytes=most, max_bodies_bytes=together, body_s=limits.body_s), "")

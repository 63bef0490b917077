"""What the gateway answers itself, in the shape that llama-server and OpenAI's clients use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import ceil

from aiohttp import web

from corral import __version__
from corral.gateway.admission import Refusal

SERVER = f"corral/{__version__}"
GATEWAY_HEADER = "Corral-Gateway"
"""On every answer of the gateway's own and on lists of models: by it a client knows that this is a gateway."""

HOLDS_HEADER = "Corral-Holds"
"""On every answer that is about a router while something is held there: the ids of the holds in force."""
_MOST_HOLDS = 20


def name_holds(ids: Sequence[str]) -> str:
    """The header's value; where there are very many, the first of them and three dots."""
    return ", ".join((*ids[:_MOST_HOLDS], *(["..."] if len(ids) > _MOST_HOLDS else [])))


def refuse(refusal: Refusal) -> web.Response:
    """An error as OpenAI's clients read it."""
    headers = {}
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, ceil(refusal.retry_after_s)))
    if not refusal.should_retry:
        headers["x-should-retry"] = "false"
    error = {"message": refusal.message, "type": refusal.kind, "code": refusal.status, "reason": refusal.code}
    return answer({"error": error}, refusal.status, headers)


def answer(document: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A document as JSON."""
    own = {"Server": SERVER, GATEWAY_HEADER: __version__}
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return web.Response(
        status=status, body=body, content_type="application/json", charset="utf-8", headers=own | (headers or {})
    )


def reject(status: int, message: str, code: str, kind: str = "invalid_request_error") -> web.Response:
    """An error that another try does not mend."""
    return refuse(Refusal(status, message, code, should_retry=False, kind=kind))

"""Corral's own API of a gateway, asked by the blocking client.

A gateway is a router to every client; what more it has is asked here, with its token. That goes only to what has
called itself a gateway, in a header of its list of models.
"""

from __future__ import annotations

from json import loads

from corral.wire import (
    AuthError,
    BadArgumentError,
    Call,
    CorralError,
    RefusedError,
    Reply,
    UnknownModelError,
    UnreachableError,
    excerpt,
    read_refusal,
)
from corral.wire.reply import encode_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from corral.client.router import Router

TOKEN_HEADER, USER_HEADER, HOST_HEADER = "Corral-Token", "Corral-User", "Corral-Host"
"""With the token a change that the router knows too may say who asks for it, percent-encoded."""
TOKEN_NEEDED, ROUTER_KEY = "token_needed", "router_key"
"""Reasons of a gateway's 401 that have nothing to do with the key that was shown to it."""
TOKEN_HINT = "It lies in the state folder of whoever runs the gateway; CORRAL_TOKEN_FILE names a copy of it."


class Gateway:
    """What a gateway has beyond a router. Every method raises what the router's own methods do."""

    def __init__(self, router: Router, token: str | None) -> None:
        self._router = router
        self._headers = ((TOKEN_HEADER, token),) if token else ()

    @property
    def url(self) -> str:
        """Its address, safe to print."""
        return self._router.url

    def get(self, name: str) -> dict[str, Any]:
        """Look at something; ``name`` may have a query."""
        document: dict[str, Any] = self._router.send(Call("GET", f"/corral/v1/{name}", read_own, None, self._headers))
        return document

    def delete(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Have something forgotten."""
        return self._change("DELETE", name, document)

    def post(self, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Have something done, however long that takes."""
        return self._change("POST", name, document)

    def _change(self, method: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
        body = encode_json(dict(document))
        call = Call(method, f"/corral/v1/{name}", read_own, body, self._headers)
        answer: dict[str, Any] = self._router.send_apart(call)
        return answer


def read_own(reply: Reply) -> dict[str, Any]:
    """The document of a 200 reply; for any other the error that it stands for."""
    if reply.status == 200:
        document = loads(reply.body)
        if isinstance(document, dict):
            return document
        raise RefusedError(f"The gateway's answer cannot be read: {excerpt(reply.body)}", status=200)
    error = read_refusal(reply)
    if not isinstance(error, RefusedError):
        raise error
    raise _explain(error, _read_reason(reply))


def _explain(error: RefusedError, reason: str) -> CorralError:
    said = error.message.removeprefix("The router refuses: ")
    if reason == TOKEN_NEEDED:
        return AuthError("The gateway wants its token for this.", TOKEN_HINT, status=401, kind=reason)
    if reason == ROUTER_KEY:
        return AuthError(
            "The gateway does not have the router's key, so that it drains and holds nothing there.",
            "Start it with --api-key-file and --client-keys-file, or use the router's own address.",
            status=401,
            kind=reason,
        )
    if isinstance(error, AuthError):
        return error
    if reason == "unknown_model":
        return UnknownModelError(said, "", (), ())
    if reason == "bad_argument":
        return BadArgumentError(said)
    if reason == "router_unreachable":
        return UnreachableError(
            f"The gateway answers, but: {said}", "Start the router; the gateway finds it by itself."
        )
    return RefusedError(said, error.hint, status=error.status, code=error.code, kind=reason)


def _read_reason(reply: Reply) -> str:
    try:
        error = loads(reply.body)["error"]
        return str(error["reason"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""

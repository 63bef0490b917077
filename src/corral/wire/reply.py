"""One request to llama-server and the reading of one reply, as values."""

from __future__ import annotations

from json import dumps, loads

from corral.wire.errors import AuthError, NotARouterError, RefusedError
from corral.wire.reading import as_dict, as_int, as_str
from corral.wire.record import Record
from corral.wire.text import escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Reply(Record):
    """What came back: the status, the headers by lower-case name, and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def says_llama_cpp(self) -> bool:
        """Whether the answer bears llama-server's mark.

        That is its ``Server`` header (sent by every build), or its error envelope where a proxy in between
        replaced the header.
        """
        if self.headers.get("server", "").lower() == "llama.cpp":
            return True
        error = _read_error_object(self)
        return as_int(error, "code") == self.status and as_str(error, "type") in _LLAMA_ERROR_TYPES


_LLAMA_ERROR_TYPES = frozenset(
    {
        "invalid_request_error",
        "authentication_error",
        "not_found_error",
        "server_error",
        "permission_error",
        "unavailable_error",
        "not_supported_error",
    }
)


class Call(Record):
    """A request to be sent, and the function that reads its reply (and raises what the server refused)."""

    method: str
    path: str
    """Path and query, below the router's prefix."""
    read: Callable[[Reply], Any]
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """What goes along besides the headers of every request."""


def encode_json(document: dict[str, Any]) -> bytes:
    """A JSON body in plain ASCII, so that any id survives, lone surrogates included."""
    return dumps(document).encode("ascii")


def read_json(data: bytes | str) -> Any:
    """What JSON says; a whole number of more digits than Python reads is None. Raises ValueError."""
    try:
        return loads(data)
    except ValueError as error:
        if "int_max_str_digits" not in str(error):
            raise
        # One odd number must not hide all the rest.
        return loads(data, parse_int=_read_whole)


def _read_whole(digits: str) -> int | None:
    try:
        return int(digits)
    except ValueError:
        return None


def read_document(reply: Reply) -> dict[str, Any]:
    """The JSON object of a 200 reply.

    Raises AuthError, RefusedError or NotARouterError for everything else.
    """
    if reply.status != 200:
        raise read_refusal(reply)
    try:
        document = read_json(reply.body)
    except (ValueError, RecursionError):
        raise NotARouterError(
            f"The answer is not JSON: {excerpt(reply.body)}",
            "Is the port right? A web server or another program seems to answer there.",
        ) from None
    if not isinstance(document, dict):
        raise NotARouterError(
            f"The answer is JSON, but not llama-server's: {excerpt(reply.body)}", "Check the URL and its path prefix."
        )
    return document


def read_refusal(reply: Reply) -> RefusedError | NotARouterError:
    """The error that a reply with a status other than 200 stands for."""
    if 300 <= reply.status < 400:
        target = escape_controls(shorten(reply.headers.get("location", "elsewhere"), 200))
        return NotARouterError(
            f"The server redirects to {target}; Corral follows no redirects, so that no key goes astray.",
            "Give the final address as --url.",
        )
    error = _read_error_object(reply)
    code, kind = as_int(error, "code"), as_str(error, "type") or ""
    said = escape_controls(shorten(as_str(error, "message") or "", 300)) or f"HTTP {reply.status}"
    if reply.status == 401:
        return AuthError(
            f"The router refuses: {said}",
            "Set CORRAL_API_KEY or give --api-key-file; it must hold one of the router's --api-key values.",
            status=401,
            code=code,
            kind=kind,
        )
    return RefusedError(
        f"The router refuses: {said}", find_step(reply.status), status=reply.status, code=code, kind=kind
    )


def find_step(status: int) -> str:
    """What to try after a refusal, as far as its HTTP status tells."""
    if status == 403:
        return "The key may not do this, or something before the router forbids it: look at a proxy's rules."
    if status in (404, 405, 501):
        return "This build may not know the request, or the URL lacks the router's --api-prefix: try 'corral doctor'."
    if status in (429, 502, 503, 504):
        return "Try again in a moment; if it stays so, 'corral doctor' looks for what is wrong."
    return "The router's log says more; 'corral doctor' looks for what is wrong."


def excerpt(body: bytes) -> str:
    """The beginning of a body, safe to print; says so when the body is empty."""
    text = escape_controls(body[:120].decode("utf-8", "replace"))
    return f"{text}…" if len(body) > 120 else text or "(an empty answer)"


def _read_error_object(reply: Reply) -> dict[str, Any]:
    if reply.status == 200 or not reply.body.lstrip().startswith(b"{"):
        return {}
    try:
        document = loads(reply.body)
    except (ValueError, RecursionError):
        return {}
    return as_dict(document, "error") if isinstance(document, dict) else {}

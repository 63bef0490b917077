"""Harmless questions about who is let in: would the server talk to a web page of somebody else?

Both are sent without a key and change nothing. llama-server before builds with ``--cors-origins`` (b10010), and later
ones unless told otherwise, repeat any ``Origin`` in their answer and allow credentials, which lets any page in a
browser read it.
"""

from __future__ import annotations

from corral.wire.record import Record
from corral.wire.reply import Call, Reply

FOREIGN_ORIGIN = "https://page.invalid"
"""An origin that no router can have on its list: the name is reserved never to exist (RFC 2606)."""


class PageAccess(Record):
    """How the server answers a request that a foreign web page would send."""

    status: int
    allows_origin: bool
    """Whether the browser would hand the answer to the page."""
    allows_credentials: bool
    """Whether it would do so for requests that carry cookies or a browser's own authentication."""


def list_as_page() -> Call:
    """Ask for the list as a script in a foreign page would; returns PageAccess."""
    return Call("GET", "/models", read_page_access, headers=(("Origin", FOREIGN_ORIGIN),))


def preflight_unload() -> Call:
    """Ask, as a browser does before it sends a page's request, whether an unload would be let through.

    Returns PageAccess. It is a question alone: nothing is unloaded.
    """
    headers = (
        ("Origin", FOREIGN_ORIGIN),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "content-type"),
    )
    return Call("OPTIONS", "/models/unload", read_page_access, headers=headers)


def read_page_access(reply: Reply) -> PageAccess:
    """Read the CORS headers of an answer, whatever its status."""
    allowed = reply.headers.get("access-control-allow-origin", "").strip()
    credentials = reply.headers.get("access-control-allow-credentials", "").strip().lower()
    return PageAccess(reply.status, allowed in ("*", FOREIGN_ORIGIN), credentials == "true")

"""Every error Corral raises on purpose, arranged by who must act.

::

    CorralError
    ├── BadArgumentError          you: an argument, a file or a setting
    │   └── UnknownModelError     you: a name that is no model's; carries the nearest ids
    ├── UnreachableError          the path: refused, no such host, timed out, dropped, TLS
    │   └── BrokenCallError       the path broke after the request was sent: it may have been acted on
    ├── RefusedError              the server said no: its status, code, message and type
    │   └── AuthError             the server said no: the API key is missing or wrong
    └── NotARouterError           something answers, but not a llama-server in router mode

Each carries a ``hint``: the next step to try. Faces turn class to exit code once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class CorralError(Exception):
    """Anything that Corral refuses or fails to do; ``message`` is one line, ``hint`` the next step or empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadArgumentError(CorralError):
    """The caller must change an argument, a file or a setting."""


class UnknownModelError(BadArgumentError):
    """No model of the router has this id or alias."""

    def __init__(self, message: str, hint: str, names: Sequence[str], nearest: Sequence[str]) -> None:
        super().__init__(message, hint)
        self.names = tuple(names)
        """The names that were asked for and matched nothing."""
        self.nearest = tuple(nearest)
        """The ids and aliases that come closest, best first."""


class UnreachableError(CorralError):
    """No answer came: nothing listens, the name is unknown, the connection timed out or broke, TLS failed."""


class BrokenCallError(UnreachableError):
    """The connection broke after the request had gone out, so the server may have acted on it."""


class RefusedError(CorralError):
    """The server answered with an error of its own."""

    def __init__(self, message: str, hint: str = "", *, status: int, code: int | None = None, kind: str = "") -> None:
        super().__init__(message, hint)
        self.status = status
        """The HTTP status."""
        self.code = code
        """The ``error.code`` of the body; None when the body has none."""
        self.kind = kind
        """The ``error.type`` of the body, such as ``invalid_request_error``; empty when the body has none."""


class AuthError(RefusedError):
    """The router wants an API key, and got none or a wrong one (401)."""


class NotARouterError(CorralError):
    """Something answers at the URL, but it is not a llama-server in router mode."""

    def __init__(self, message: str, hint: str = "", *, found: str = "other") -> None:
        super().__init__(message, hint)
        self.found = found
        """What answers: ``single``, ``starting`` or ``other``."""

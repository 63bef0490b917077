"""Who may do what: keys of clients, the token of Corral's own API, and what a web page must not be able to ask for.

A browser sends along where a request comes from (``Origin``) and by which name it found this server (``Host``). The
bare router looks at neither, so that any page can unload and load its models, directly or by a name that it makes
lead here. Changes through the gateway need a ``Host`` that nobody outside can own, an ``Origin`` that is none or the
gateway's own, and JSON, which a page cannot send elsewhere without being asked first.

Every check returns a Refusal, or None when nothing speaks against the request. Keys and tokens are compared in
constant time and shown nowhere.
"""

from __future__ import annotations

import os
import socket
import struct
from hmac import compare_digest
from ipaddress import ip_address
from secrets import token_urlsafe
from stat import S_IMODE, S_ISREG

from aiohttp import web

from corral.client.gateway import TOKEN_HEADER
from corral.gateway.admission import Refusal
from corral.gateway.replies import refuse
from corral.gateway.settings import Settings
from corral.wire import BadArgumentError, escape_controls
from corral.wire.bodies import read_media_type

TOKEN_FILE = "token"
_OWN_ENDINGS = (".localhost", ".internal")
_MAX_TOKEN_BYTES = 4096


def find_client(request: web.BaseRequest, settings: Settings) -> str | None:
    """The label of the key that the client showed; None for none or a wrong one.

    Where the router looks for a key, one is looked for here: ``Authorization``, else ``X-Api-Key``.
    """
    shown = request.headers.get("Authorization", "") or request.headers.get("X-Api-Key", "")
    shown_bytes = shown.removeprefix("Bearer ").encode("utf-8", "surrogateescape")
    found = None
    for label, key in settings.client_keys:
        if compare_digest(shown_bytes, key.encode()):
            found = label
    return found


class Guard:
    """Stands before what the gateway answers itself; each check gives the answer to a request that is refused."""

    def __init__(self, settings: Settings, token: str) -> None:
        self._settings = settings
        self._token = token

    def check_change(self, request: web.BaseRequest) -> web.Response | None:
        """For ``/models/*``: a key where clients need one, no web page behind it, JSON."""
        refusal = check_client(request, self._settings) or check_change(request, self._settings)
        return None if refusal is None else refuse(refusal)

    def has_token(self, request: web.BaseRequest) -> bool:
        """Whether who asks may use Corral's own API."""
        return check_token(request, self._token, self._settings) is None

    def check_token(self, request: web.BaseRequest) -> web.Response | None:
        """For ``/corral/v1/*``: the token, or a unix socket's peer of the same user."""
        refusal = check_token(request, self._token, self._settings)
        return None if refusal is None else refuse(refusal)


def check_client(request: web.BaseRequest, settings: Settings) -> Refusal | None:
    """Refuse who shows no key, where one is needed."""
    if not settings.client_keys or find_client(request, settings) is not None:
        return None
    return Refusal(401, "Invalid API Key", "bad_key", should_retry=False, kind="authentication_error")


def check_change(request: web.BaseRequest, settings: Settings) -> Refusal | None:
    """Refuse a change that a web page may be behind: by its Host, its Origin, or a body that is not JSON."""
    refusal = check_host(request, settings) or check_origin(request, settings)
    if refusal is not None:
        return refusal
    if request.body_exists and read_media_type(request.headers.get("Content-Type", "")) != "application/json":
        return _refuse(415, "Send the body as JSON, with the header 'Content-Type: application/json'.", "not_json")
    return None


def check_host(request: web.BaseRequest, settings: Settings) -> Refusal | None:
    """Refuse a request by a name that anybody could have made lead here."""
    hosts = request.headers.getall("Host", [])
    name = _read_host(hosts[0]) if len(hosts) == 1 else None
    if name is None or not _is_own_name(name, settings):
        return _refuse(
            403,
            f"This gateway is not called {escape_controls(hosts[0])[:100] if hosts else '(nothing)'}. "
            "Use its address, or name it under allowed_hosts.",
            "foreign_host",
        )
    return None


def check_origin(request: web.BaseRequest, settings: Settings) -> Refusal | None:
    """Refuse what a page of another site asks for."""
    origins = request.headers.getall("Origin", [])
    if not origins and request.headers.get("Sec-Fetch-Site") in (None, "none", "same-origin"):
        return None
    if len(origins) == 1:
        origin = origins[0].lower()
        scheme, mark, authority = origin.partition("://")
        if origin in settings.allowed_origins:
            return None
        if mark and scheme in ("http", "https") and authority == request.headers.get("Host", "").lower():
            return None
    return _refuse(
        403, "A web page of another site must not ask for this; name it under allowed_origins.", "foreign_origin"
    )


def check_token(request: web.BaseRequest, token: str, settings: Settings) -> Refusal | None:
    """Refuse who may not use Corral's own API: it takes the token, or a unix socket's peer of the same user.

    The token comes as ``Authorization: Bearer`` or in a header ``Corral-Token``.
    """
    refusal = check_host(request, settings) or check_origin(request, settings)
    if refusal is not None:
        return refusal
    peer = read_peer(request)
    if peer is not None and peer[1] == os.geteuid():
        return None
    shown = request.headers.get(TOKEN_HEADER) or request.headers.get("Authorization", "").removeprefix("Bearer ")
    if compare_digest(shown.encode("utf-8", "surrogateescape"), token.encode()):
        return None
    return Refusal(
        401,
        f"Corral's own API needs its token, which lies in the file '{TOKEN_FILE}' of its state folder.",
        "token_needed",
        should_retry=False,
        kind="authentication_error",
    )


def read_peer(request: web.BaseRequest) -> tuple[int, int] | None:
    """Process and user at the other end of a unix socket; None for TCP, and where the system does not say."""
    sock = None if request.transport is None else request.transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX or not hasattr(socket, "SO_PEERCRED"):
        return None
    pid, user, _group = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user


def load_token(folder: str) -> str:
    """The token of Corral's own API, made at first use, for its owner alone.

    Raises BadArgumentError for a file that others could read or have written, or that cannot be used.
    """
    path = os.path.join(folder, TOKEN_FILE)
    shown = escape_controls(path)
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        _make_token(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            token = file.read(_MAX_TOKEN_BYTES).decode("ascii", "replace").strip()
    except OSError as error:
        raise BadArgumentError(
            f"The token file {shown} cannot be used: {error.strerror}.",
            "CORRAL_STATE_DIR names another folder for it.",
        ) from None
    if not S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or S_IMODE(status.st_mode) & 0o077:
        raise BadArgumentError(
            f"Others than its owner may have read or written the token file {shown}.",
            f"Remove it; a new one is made: rm {shown}",
        )
    if len(token) < 20 or not token.isprintable():
        raise BadArgumentError(f"The token file {shown} holds no token.", f"Remove it; a new one is made: rm {shown}")
    return token


def _make_token(path: str) -> None:
    """Written beside and linked into place, so that nobody ever reads half a token; the first one wins."""
    if os.path.lexists(path):
        return
    draft = f"{path}.{os.getpid()}.{token_urlsafe(6)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(token_urlsafe(32).encode("ascii") + b"\n")
        os.link(draft, path)
    except FileExistsError:
        # Another gateway was quicker.
        pass
    finally:
        os.unlink(draft)


def _read_host(header: str) -> str | None:
    """The name or address in a Host header, in lower case; None when it is neither."""
    name, _, port = header.rpartition(":") if ":" in header and not header.endswith("]") else (header, "", "")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return name.lower().removesuffix(".") or None


def _is_own_name(name: str, settings: Settings) -> bool:
    """Whether nobody outside can have a name like this lead here: an address, a name without a dot, or a listed one."""
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        ip_address(name)
    except ValueError:
        pass
    else:
        return True
    own = {listener.address.host.lower() for listener in settings.listeners} | set(settings.allowed_hosts)
    return "." not in name or name.endswith(_OWN_ENDINGS) or name in own or name == socket.gethostname().lower()


def _refuse(status: int, message: str, code: str) -> Refusal:
    return Refusal(status, message, code, should_retry=False, kind="invalid_request_error")

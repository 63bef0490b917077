"""Where on a host is the router? The likely ports and prefixes, one harmless question each."""

from __future__ import annotations

import socket
from time import monotonic

from corral.client.settings import Timeouts, find_proxy
from corral.client.target import Target
from corral.client.transport import Transport
from corral.ops.diagnosis import LOCKED, ROUTER, SINGLE, Elsewhere
from corral.wire import AuthError, CorralError, NotARouterError, list_models

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIKELY_PORTS = (8080, 9931, 8081, 8000, 8001, 5000)
"""llama-server's old and new default, and what people choose instead."""
LIKELY_PREFIXES = ("", "/api", "/llama", "/llm", "/llama.cpp", "/llama-server")
_LIMITS = Timeouts(1.0, 2.0, 3.0)
_PATIENCE_S = 5.0
"""After so long no further address is asked: a host that drops packets does so on every port."""


def search_host(
    target: Target,
    others: Iterable[Target],
    *,
    speaks_http: bool,
    key: str | None = None,
    ca_file: str | None = None,
) -> tuple[tuple[str, ...], tuple[Elsewhere, ...]]:
    """Ask the likely prefixes of the target, and ``others`` on its host, for their list of models.

    ``speaks_http`` says whether the target itself answered, if only to say no. ``key`` goes along to the target's own
    port only, and only if the caller knows that llama-server answers there. Returns what was tried, and those
    addresses at which a llama-server answered.
    """
    if not _can_search(target):
        return (), ()
    tried = {target.label: ""}
    deadline = monotonic() + _PATIENCE_S
    for other in (*_list_variants(target, speaks_http=speaks_http), *others):
        if other.label not in tried and other.host == target.host and monotonic() < deadline:
            tried[other.label] = _ask(other, key if _is_same_server(other, target) else None, ca_file)
    elsewhere = tuple(Elsewhere(label, kind) for label, kind in tried.items() if kind)
    return tuple(tried)[1:], elsewhere


def list_likely(target: Target) -> list[Target]:
    """The likely ports of the target's host; none for a unix socket."""
    if target.scheme == "unix":
        return []
    return [Target("http", target.host, port, "") for port in LIKELY_PORTS]


def _can_search(target: Target) -> bool:
    """Through a proxy, or without an address, other ports say nothing."""
    if target.scheme == "unix":
        return True
    try:
        if find_proxy(target):
            return False
        socket.getaddrinfo(target.host, target.port)
    except (CorralError, OSError, UnicodeError):
        return False
    return True


def _list_variants(target: Target, *, speaks_http: bool) -> Iterator[Target]:
    """The target with other prefixes, if it answers, else with the other scheme."""
    if speaks_http:
        for prefix in (*_list_parents(target.prefix), *LIKELY_PREFIXES):
            yield Target(target.scheme, target.host, target.port, prefix, target.socket_path)
    elif target.scheme != "unix":
        yield Target("https" if target.scheme == "http" else "http", target.host, target.port, target.prefix)


def _list_parents(prefix: str) -> list[str]:
    """``/a/b/c`` to ``/a/b`` and ``/a``."""
    parts = prefix.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts) - 1, 1, -1)]


def _is_same_server(one: Target, other: Target) -> bool:
    ours = (one.scheme, one.host, one.port, one.socket_path)
    return ours == (other.scheme, other.host, other.port, other.socket_path)


def _ask(target: Target, key: str | None, ca_file: str | None) -> str:
    """What answers there: a router, a locked or a single-model server; empty for all else."""
    try:
        transport = Transport(target, _LIMITS, ca_file if target.scheme == "https" else None)
    except CorralError:
        return ""
    try:
        reply = transport.send(list_models(), key)
        list_models().read(reply)
    except AuthError:
        return LOCKED if reply.says_llama_cpp() else ""
    except NotARouterError as error:
        return SINGLE if error.found == SINGLE else ""
    except CorralError:
        return ""
    finally:
        transport.close()
    return ROUTER

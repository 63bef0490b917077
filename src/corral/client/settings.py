"""How a client connects: time limits, key and trust, shared by the blocking and the async driver."""

from __future__ import annotations

from corral.client.target import Target
from corral.wire import BadArgumentError, Record, UnreachableError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

MAX_BODY_BYTES = 256 << 20
"""A larger reply is refused; the list of 10,000 models is about 20 MB."""

IDLE_LIMIT_S = 3.0
"""A connection unused for longer is replaced before a POST: llama-server drops them after 5 s."""


class Timeouts(Record):
    """Time limits of one call, in seconds; None means no limit."""

    connect_s: float | None = 5.0
    read_s: float | None = 10.0
    """The longest silence within a reply."""
    total_s: float | None = 60.0
    """From the request to the last byte of the reply. Event streams have no total."""


def build_headers(target: Target, key: str | None) -> dict[str, str]:
    """The headers of every request; the key only where the caller says so."""
    from corral import __version__

    headers = {"Host": target.authority, "Accept": "application/json", "User-Agent": f"corral/{__version__}"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    return headers


def check_key(key: str | None) -> str | None:
    """Refuse a key that no header can carry, without showing it."""
    if key is None or key == "":
        return None
    if not all(0x20 < ord(char) < 0x7F for char in key):
        raise BadArgumentError(
            "The API key holds a space, line end or non-ASCII character, which no HTTP header can carry.",
            "Check the key file or variable: it should hold the key alone, on one line.",
        )
    return key


def build_tls(ca_file: str | None) -> ssl.SSLContext:
    """A verifying TLS context: the system's authorities, or only those of ``ca_file``."""
    import ssl

    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise BadArgumentError(
            f"The CA file {escape_controls(ca_file or '')} cannot be used: {escape_controls(str(error))}",
            "It must be a readable PEM file with the authority's certificate.",
        ) from None


def find_proxy(target: Target) -> str | None:
    """The proxy that the environment names for this target; None for loopback and unix sockets, always."""
    if target.is_loopback:
        return None
    from os import environ

    name = f"{target.scheme}_proxy"
    if not any(environ.get(variant) for variant in (name, name.upper(), "all_proxy", "ALL_PROXY")):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    proxies = getproxies_environment()
    if proxy_bypass(target.host):
        return None
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy and not proxy.startswith("http://"):
        raise BadArgumentError(
            f"The environment names a proxy that Corral cannot use for {target.label}.",
            f"Use an http:// proxy, or add {target.host} to NO_PROXY.",
        )
    return proxy


def explain_path_error(target: Target, error: Exception) -> UnreachableError:
    """Turn what the operating system said about the path into a sentence and the next step."""
    where = target.label
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"Nothing listens on {where}.",
            "Is llama-server running, and on this port? Its log says 'listening on'; set --url or CORRAL_URL.",
        )
    if isinstance(error, FileNotFoundError) and target.scheme == "unix":
        return UnreachableError(
            f"There is no socket {where}.", "Is llama-server running with --host and this path? Set --url."
        )
    if isinstance(error, TimeoutError):
        return UnreachableError(
            f"No answer from {where} in time.",
            "Is the host up and the port right? A router that hangs shows in its log; --timeout allows more time.",
        )
    kind = type(error).__name__
    said = escape_controls(str(error)) or kind
    if kind == "gaierror":
        return UnreachableError(f"The host name of {where} is not known: {said}", "Check the spelling of --url.")
    if kind == "SSLCertVerificationError":
        return UnreachableError(
            f"The certificate of {where} is not trusted: {said}", "Give its authority's certificate with --ca-file."
        )
    if kind.startswith("SSL") or "ssl" in kind.lower():
        return UnreachableError(f"TLS with {where} failed: {said}", "Does the router speak plain http:// there?")
    if isinstance(error, PermissionError):
        return UnreachableError(f"No permission to connect to {where}: {said}", "Check the socket's owner and mode.")
    return UnreachableError(f"The connection to {where} failed: {said}", "Check the network, and the router's log.")

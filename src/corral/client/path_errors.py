"""What the operating system and TLS say about a path, as a sentence and the next step."""

from __future__ import annotations

from corral.client.proxy import Proxy
from corral.client.target import Target
from corral.wire import UnreachableError, escape_controls

_HOSTNAME_MISMATCH = (62, 64)
"""OpenSSL's codes for a certificate that is for another host name or address."""


def explain_path_error(
    target: Target, error: Exception, proxy: Proxy | None = None, *, is_connecting: bool = False
) -> UnreachableError:
    """The error for a connection that failed, or broke later; ``proxy`` is what it leads through."""
    where = target.label if proxy is None else f"{target.label} (through the proxy {proxy.label})"
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"Nothing listens on {where}.",
            "Is llama-server running, and on this port? Its log says 'listening on'; set --url or CORRAL_URL.",
        )
    if isinstance(error, FileNotFoundError) and target.scheme == "unix":
        return UnreachableError(
            f"There is no socket {where}.", "Is llama-server running with --host and this path? Set --url."
        )
    is_handshake = is_connecting and target.scheme == "https"
    if isinstance(error, TimeoutError):
        question = " Does the router speak plain http:// there?" if is_handshake else ""
        return UnreachableError(
            f"No answer from {where} in time.",
            f"Is the host up and the port right?{question} A router that hangs shows in its log; --timeout allows "
            "more time.",
        )
    kind = type(error).__name__
    said = escape_controls(str(error)) or kind
    if kind == "gaierror":
        return UnreachableError(f"The host name of {where} is not known: {said}", "Check the spelling of --url.")
    if kind == "SSLCertVerificationError":
        return _explain_certificate(where, error, said)
    if kind.startswith("SSL") or "ssl" in kind.lower() or (is_handshake and isinstance(error, ConnectionError)):
        return UnreachableError(f"TLS with {where} failed: {said}", "Does the router speak plain http:// there?")
    if isinstance(error, PermissionError):
        return UnreachableError(f"No permission to connect to {where}: {said}", "Check the socket's owner and mode.")
    return UnreachableError(f"The connection to {where} failed: {said}", "Check the network, and the router's log.")


def _explain_certificate(where: str, error: Exception, said: str) -> UnreachableError:
    if getattr(error, "verify_code", None) in _HOSTNAME_MISMATCH:
        reason = escape_controls(getattr(error, "verify_message", "")) or said
        return UnreachableError(
            f"The certificate of {where} is for another name: {reason}",
            "Give --url with a name that the certificate holds, or have one issued for this name.",
        )
    return UnreachableError(
        f"The certificate of {where} is not trusted: {said}", "Give its authority's certificate with --ca-file."
    )


def explain_proxy_error(target: Target, proxy: Proxy, error: Exception | str) -> UnreachableError:
    """The error for a proxy that cannot be reached or lets nobody through; a text is what it said."""
    if isinstance(error, ConnectionRefusedError):
        message = f"Nothing listens on the proxy {proxy.label}."
    elif isinstance(error, TimeoutError):
        message = f"No answer from the proxy {proxy.label} in time."
    else:
        said = escape_controls(str(error)) or type(error).__name__
        if type(error).__name__ == "gaierror":
            message = f"The host name of the proxy {proxy.label} is not known: {said}"
        else:
            message = f"The proxy {proxy.label} gives no way to {target.label}: {said}"
    login = " It takes user and password as in http://user:password@host:port." if "407" in message else ""
    return UnreachableError(
        message, f"{proxy.variable} names this proxy: correct it, or add {target.host} to NO_PROXY.{login}"
    )

"""How a client connects: time limits, key and trust, shared by the blocking and the async driver."""

from __future__ import annotations

from corral.client.proxy import read_proxy
from corral.client.target import Target
from corral.wire import BadArgumentError, NotARouterError, Record, escape_controls

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


def explain_too_large() -> NotARouterError:
    """The error for a reply above MAX_BODY_BYTES."""
    return NotARouterError(
        f"The answer is larger than {MAX_BODY_BYTES >> 20} MiB; a router's is not.",
        "Check the URL: something other than llama-server seems to answer.",
    )


def build_headers(target: Target, key: str | None) -> dict[str, str]:
    """The headers of every request; the key only where the caller says so."""
    from corral import __version__

    headers = {
        "Host": target.host_header,
        "Accept": "application/json",
        "User-Agent": f"corral/{__version__}",
    }
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
    except (OSError, ValueError) as error:
        raise BadArgumentError(
            f"The CA file {escape_controls(ca_file or '')} cannot be used: {escape_controls(str(error))}",
            "It must be a readable PEM file with the authority's certificate.",
        ) from None


def find_proxy(target: Target) -> str | None:
    """The address of the environment's proxy for this target, safe to print; None where none is used."""
    proxy = read_proxy(target)
    return None if proxy is None else proxy.label

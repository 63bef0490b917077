"""Who can operate the router besides its operator: web pages, and other machines."""

from __future__ import annotations

from corral.ops.diagnosis.facts import Facts
from corral.ops.diagnosis.finding import Finding, ok, warn
from corral.wire import escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_PROTECT = "Start the router with --api-key-file"
_PROTECT_GATEWAY = "Start the gateway with --client-keys-file"


def check_pages(facts: Facts) -> Iterator[Finding]:
    """Whether a web page of somebody else, open in a browser that reaches the router, can operate it."""
    answer = facts.answer
    page = answer.as_page
    if page is None or answer.key_needed is None:
        return
    if answer.key_needed:
        yield from _check_pages_with_key(facts)
    elif page.status in (401, 403):
        yield ok("pages", f"A request that a foreign web page sends is refused (HTTP {page.status}).")
    else:
        reads = page.allows_origin or (answer.preflight is not None and answer.preflight.allows_origin)
        end = ", and read what the router answers (CORS lets every origin in)." if reads else "."
        seen = "Without an API key, any web page in a browser that reaches this address can"
        if answer.gateway is not None:
            yield warn("pages", f"{seen} ask models{end} The gateway lets none load or unload.", f"{_PROTECT_GATEWAY}.")
        else:
            do = f"{_PROTECT}; --cors-origins (since build 10010) hides only the answers."
            yield warn("pages", f"{seen} load and unload models{end}", do)
    if answer.props is not None and answer.props.raw.get("cors_proxy_enabled") is True:
        seen = "The router fetches any address for whoever asks it to (its CORS proxy for tools is on)."
        yield warn("pages", seen, "Start it without that proxy unless only trusted people reach it.")


def check_command_line(facts: Facts) -> Iterator[Finding]:
    """Whether the router's key can be read by whoever lists the processes of its machine."""
    if facts.host is not None and facts.host.shows_key:
        seen = "The router's API key stands on its command line, which every user of its machine can read."
        yield warn("arguments", seen, "Start the router with --api-key-file instead of --api-key, and change the key.")


def check_network(facts: Facts) -> Iterator[Finding]:
    """Whether other machines reach the router, and what protects it then."""
    answer, host = facts.answer, facts.host
    if answer.key_needed is None:
        return
    addresses = host.addresses if host is not None else None
    if addresses is None and facts.is_loopback:
        return
    if addresses is not None and not addresses:
        return
    shown = ", ".join(escape_controls(address) for address in addresses or ())
    where = f"The router listens on {shown}" if addresses else "The router is reached over the network"
    if addresses is not None and all(is_loopback(address) for address in addresses):
        yield ok("network", f"{where}, which only this machine reaches.")
    elif not answer.key_needed:
        seen = f"{where} and asks for no key: whoever reaches it can use, load and unload models."
        do = f"{_PROTECT}, or with --host 127.0.0.1 if only this machine needs it."
        if answer.gateway is not None:
            do = f"{_PROTECT_GATEWAY}, or with --listen 127.0.0.1:8080 if only this machine needs it."
        yield warn("network", seen, do)
    elif facts.is_plain and not facts.is_loopback:
        seen = f"{where} with a key, but without TLS: the key and all answers travel readable."
        yield warn("network", seen, "Use https (--ssl-key-file and --ssl-cert-file), an SSH tunnel or a VPN.")
    else:
        yield ok("network", f"{where} and wants a key.")


def is_loopback(address: str) -> bool:
    """Whether an address that somebody listens on is this machine's own."""
    return address in ("::1", "localhost") or address.startswith(("127.", "::ffff:127.", "/"))


def _check_pages_with_key(facts: Facts) -> Iterator[Finding]:
    answer = facts.answer
    if not answer.is_list_public:
        yield ok("pages", "A web page cannot operate the router: it does not have the key.")
        return
    readers = "any web page" if answer.as_page is not None and answer.as_page.allows_origin else "anybody"
    seen = f"The list of models can be read without the key by {readers}, with their paths and arguments"
    yield warn("pages", f"{seen} (builds before August 2026).", "Update llama-server.")

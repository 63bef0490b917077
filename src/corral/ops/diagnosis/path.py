"""Is anything there, is it a router, and does the key work?"""

from __future__ import annotations

from corral.ops.diagnosis.facts import FAILING, LOCKED, NOTHING, ROUTER, SINGLE, Facts
from corral.ops.diagnosis.finding import Finding, end_sentence, fail, ok, tell_count, warn
from corral.wire import AuthError, escape_controls, shorten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_ROUTER_BUILD = 7215
"""About where router mode appeared (December 2025)."""
_SLOW_S = 1.0
_FOUND = {
    ROUTER: "a llama-server in router mode",
    LOCKED: "a llama-server that wants an API key",
    SINGLE: "a llama-server with a single model",
}


def check_address(facts: Facts) -> Iterator[Finding]:
    """Whether anything answers, how fast, and which way it was reached."""
    answer, here = facts.answer, facts.here
    named = f"{facts.url} (from {here.url_from})"
    if answer.found == NOTHING and answer.error is not None:
        seen = f"{answer.error.message.rstrip('.')} (the address is from {here.url_from})."
        yield fail("address", seen, _tell_where(facts))
        return
    way = f" through the proxy {escape_controls(here.proxy)}" if here.proxy else ""
    took = "" if answer.seconds is None else f" in {answer.seconds * 1000:.0f} ms"
    seen = f"{named} answers{way}{took}."
    if answer.seconds is not None and answer.seconds > _SLOW_S:
        yield warn("address", seen, "The network or the router's machine is slow: give commands more --timeout.")
    else:
        yield ok("address", seen)


def check_router(facts: Facts) -> Iterator[Finding]:
    """Whether what answers is a router; a router before its key is known is not judged."""
    answer = facts.answer
    if answer.found == ROUTER:
        info = answer.props.build_info if answer.props is not None else None
        build = f", build {escape_controls(shorten(info, 60))}" if info else ""
        seen = f"a llama-server in router mode{build}"
        if answer.gateway is not None:
            yield ok("router", f"It is a Corral gateway ({escape_controls(answer.gateway)[:20]}) before {seen}.")
        else:
            yield ok("router", f"It is {seen}.{_tell_server(facts)}")
    elif _is_too_old(facts):
        seen = "A llama-server with a single model answers there, of a build older than router mode (December 2025)."
        yield fail("router", seen, "Update llama-server and start it without -m or -hf.")
    elif answer.found not in (NOTHING, LOCKED) and answer.error is not None:
        yield fail("router", end_sentence(answer.error.message), _tell_where(facts))


def check_elsewhere(facts: Facts) -> Iterator[Finding]:
    """What answers under other ports and prefixes of the same host, where this one is no router."""
    answer = facts.answer
    for other in answer.elsewhere:
        if other.found not in _FOUND:
            continue
        do = "" if other.found == SINGLE else f"Set CORRAL_URL={other.url} or give --url {other.url}."
        yield ok("elsewhere", f"On {other.url} answers {_FOUND[other.found]}.", do)
    if answer.tried and not answer.elsewhere:
        tried = tell_count(len(answer.tried), "other likely address", "other likely addresses")
        do = "The router's log says 'listening on'; put that address into --url or CORRAL_URL."
        yield warn("elsewhere", f"No llama-server answers on {tried} of that host.", do)


def check_key(facts: Facts) -> Iterator[Finding]:
    """Whether the router wants a key, and takes ours."""
    answer, here = facts.answer, facts.here
    if answer.found not in (ROUTER, LOCKED, FAILING):
        if not isinstance(answer.error, AuthError):
            return
        yield fail(
            "key",
            end_sentence(answer.error.message),
            "Check the URL: the key goes only to what answers as llama-server.",
        )
    elif answer.key_needed and answer.key_accepted:
        yield ok("key", f"The router wants an API key, and accepts the one from {here.key_from}.")
    elif answer.key_needed and here.key_from is None:
        missing = "The router wants an API key, and none was given."
        if answer.is_list_public:
            missing = "The list may be read without an API key, but load and unload need one, and none was given."
        yield fail(
            "key", missing, "Set CORRAL_API_KEY or give --api-key-file, with one of the router's --api-key values."
        )
    elif answer.key_needed:
        seen = f"The router wants an API key, and does not accept the one from {here.key_from}."
        yield fail("key", seen, "Put one of the router's --api-key values there; it counts letter by letter.")
    elif answer.key_needed is False and here.key_from is not None:
        seen = f"A key is set (from {here.key_from}), but the router asks for none: it is open to whoever reaches it."
        yield warn("key", seen, "Start the router with --api-key-file if it was meant to be protected.")
    elif answer.key_needed is False:
        yield ok("key", "The router asks for no API key.")
    elif answer.found == FAILING and answer.error is not None:
        yield warn("key", "Whether the router wants a key was not seen.", "Run this again when the router answers.")


def _tell_where(facts: Facts) -> str:
    """The next step after a failure: the router that was found elsewhere, or what the error itself advises."""
    for other in facts.answer.elsewhere:
        if other.found in (ROUTER, LOCKED):
            return f"Use {other.url}, where {_FOUND[other.found]} answers."
    return facts.answer.error.hint if facts.answer.error is not None else ""


def _is_too_old(facts: Facts) -> bool:
    props = facts.answer.props
    build = props.build if props is not None else None
    return facts.answer.found == SINGLE and build is not None and build < FIRST_ROUTER_BUILD


def _tell_server(facts: Facts) -> str:
    server = facts.answer.server
    if server is None or server.lower() == "llama.cpp":
        return ""
    return f" A proxy that calls itself {escape_controls(shorten(server, 40))} stands in front of it."

"""The diagnosis of a router: for each set of facts the line that an operator should read, and none that is untrue."""

from __future__ import annotations

import pytest

from corral.ops.diagnosis import FAILING, FOREIGN, LOCKED, MISPLACED, NOTHING, ROUTER, SINGLE, Elsewhere, diagnose
from corral.ops.measurement import Peer, Process
from corral.wire import AuthError, Listing, NotARouterError, RefusedError, UnreachableError, read_model
from corral.wire.probes import PageAccess
from tests.ops.patient import (
    KEYLESS,
    PAGE_READS,
    URL,
    Row,
    answer,
    check_row,
    check_sentences,
    child,
    facts,
    failed,
    find,
    here,
    host,
    model,
    props,
)

NO_ANSWER = UnreachableError("Nothing listens on http://127.0.0.1:8080.", "Is llama-server running?")
NO_KEY = AuthError("The router wants an API key, and none was given.", "", status=401)
SCRAPED = model("m", "--metrics", "--sleep-idle-seconds", "60")
SLOW = model("a", status="loading")
UNKNOWN_BUILD = {"build_info": "b0-unknown", "build": None}

TABLE: dict[str, Row] = {
    "answers": (facts(), "address", "ok", "(from CORRAL_URL) answers in 4 ms", ""),
    "slow": (facts(answer(seconds=3.0)), "address", "warn", "3000 ms", "--timeout"),
    "proxy": (facts(here=here(proxy="http://p:3128")), "address", "ok", "through the proxy http://p:3128", ""),
    "nothing there": (facts(failed(NOTHING, NO_ANSWER)), "address", "fail", "Nothing listens", "llama-server running"),
    "is a router": (facts(), "router", "ok", "router mode, build b11434-51e0a2b", ""),
    "behind nginx": (facts(answer(server="nginx")), "router", "ok", "calls itself nginx", ""),
    "single": (facts(failed(SINGLE, NotARouterError("One.", "Stop it."))), "router", "fail", "One.", "Stop it."),
    "too old": (
        facts(failed(SINGLE, NotARouterError("One."), props=props(role=None, build=6000))),
        "router",
        "fail",
        "older than router mode",
        "Update llama-server",
    ),
    "wrong prefix": (
        facts(failed(MISPLACED, NotARouterError("Not here."), elsewhere=(Elsewhere(f"{URL}/llm", ROUTER),))),
        "router",
        "fail",
        "Not here.",
        f"Use {URL}/llm",
    ),
    "found elsewhere": (
        facts(failed(NOTHING, NO_ANSWER, tried=("x",), elsewhere=(Elsewhere("http://127.0.0.1:9931", ROUTER),))),
        "elsewhere",
        "ok",
        "On http://127.0.0.1:9931 answers a llama-server in router mode",
        "CORRAL_URL=http://127.0.0.1:9931",
    ),
    "not found elsewhere": (
        facts(failed(NOTHING, NO_ANSWER, tried=("x", "y"))),
        "elsewhere",
        "warn",
        "2 other likely addresses",
        "listening on",
    ),
    "key accepted": (facts(), "key", "ok", "accepts the one from CORRAL_API_KEY", ""),
    "key missing": (
        facts(failed(LOCKED, NO_KEY, key_needed=True), here=here(key_from=None)),
        "key",
        "fail",
        "none was given",
        "CORRAL_API_KEY",
    ),
    "key wrong": (
        facts(failed(LOCKED, NO_KEY, key_needed=True, key_accepted=False)),
        "key",
        "fail",
        "does not accept the one from CORRAL_API_KEY",
        "--api-key",
    ),
    "key missing, list public": (
        facts(answer(key_accepted=None, is_list_public=True, error=NO_KEY), here=here(key_from=None)),
        "key",
        "fail",
        "The list may be read",
        "CORRAL_API_KEY",
    ),
    "key for a stranger": (
        facts(failed(FOREIGN, AuthError("It was not sent.", status=401))),
        "key",
        "fail",
        "It was not sent.",
        "Check the URL",
    ),
    "key for nothing": (facts(answer(**KEYLESS)), "key", "warn", "asks for none", "--api-key-file"),
    "no key": (facts(answer(**KEYLESS), here=here(key_from=None)), "key", "ok", "asks for no API key", ""),
    "failing": (
        facts(failed(FAILING, RefusedError("The router refuses: HTTP 500", status=500))),
        "key",
        "warn",
        "not seen",
        "again",
    ),
    "build": (facts(), "build", "ok", "Build 11434; has event stream, aliases, settings in /props.", ""),
    "build without number": (facts(answer(props=props(**UNKNOWN_BUILD))), "build", "ok", "not tell its number", ""),
    "old build": (
        facts(answer(props=props(build=9093), listing=Listing((model("a"),), False))),
        "build",
        "warn",
        "lacks event stream. It unloads a model without its stop-timeout",
        "Update",
    ),
    "build without queue": (facts(answer(props=props(build=10240))), "build", "warn", "evicts busy models", "Update"),
    "build with a fault": (facts(answer(props=props(build=10900))), "build", "warn", "issue 28698", "Update"),
    "models": (facts(), "models", "ok", "2 models, 1 resident. Requests name them by these ids.", ""),
    "ids and files": (
        facts(answer(model("q", "-m", "x", status="loaded"), model("r"))),
        "models",
        "ok",
        "by these ids",
        "",
    ),
    "no models": (facts(answer(listing=Listing((), None))), "models", "warn", "lists no models", "--models-dir"),
    "failed model": (
        facts(answer(model("a", failed=True, exit_code=1))),
        "failures",
        "warn",
        "a (exit 1)",
        "log",
    ),
    "autoload on": (facts(), "autoload", "ok", "loads it again", "--no-models-autoload"),
    "autoload off": (facts(answer(props=props(autoload=False))), "autoload", "ok", "stays away", ""),
    "autoload unknown": (facts(answer(props=props(autoload=None))), "autoload", "ok", "does not say", ""),
    "room": (facts(), "room", "ok", "1 of 4 places", ""),
    "no limit": (facts(answer(props=props(models_max=0))), "room", "ok", "sets no limit", ""),
    "full": (facts(answer(props=props(models_max=1))), "room", "ok", "evicts the idle model", "--models-max"),
    "full with hidden": (
        facts(answer(props=props(models_max=2)), host=host(child("a"), child("h", is_hidden=True))),
        "room",
        "ok",
        "2 of 2 places",
        "--models-max",
    ),
    "full and old": (
        facts(answer(props=props(models_max=1, build=10240))),
        "room",
        "warn",
        "even a busy one",
        "update llama-server",
    ),
    "queue, remote": (facts(), "queue", "ok", "its own machine only", "corral load NAME"),
    "queue at rest": (facts(host=host(waiting_s=())), "queue", "ok", "no request waits for long", ""),
    "queue that hangs": (
        facts(host=host(child("a"), waiting_s=(0.1, 40.0))),
        "queue",
        "warn",
        "1 request waited up to 40 s for an answer while no model loads",
        "corral load NAME",
    ),
    "long load": (
        facts(answer(SLOW), host=host(child("a"), loading_s={"a": 400.0})),
        "queue",
        "warn",
        "a (7 min) has been loading",
        "--now",
    ),
    "short load": (
        facts(answer(SLOW), host=host(child("a"), loading_s={"a": 4.0}, waiting_s=(40.0,))),
        "queue",
        "ok",
        "a is loading",
        "",
    ),
    "clients": (
        facts(host=host(peers=(Peer("127.0.0.1", 2, Process(7, 1, "python3")), Peer("10.0.0.9", 1)))),
        "clients",
        "ok",
        "python3 (pid 7), 10.0.0.9 are connected now. Each may bring a model back",
        "",
    ),
    "hidden client": (
        facts(host=host(peers=(Peer("127.0.0.1", 1, None, 33),))),
        "clients",
        "ok",
        "a process of user 33 is connected",
        "",
    ),
    "no clients": (facts(host=host(peers=())), "clients", "ok", "Nobody is connected", ""),
    "scraper wakes": (
        facts(answer(SCRAPED, props=props(build=10240))),
        "scrapers",
        "warn",
        "this is build 10240 (m). Whether anything scrapes cannot be seen",
        "stop what scrapes",
    ),
    "scraper may wake": (facts(answer(SCRAPED, props=props(**UNKNOWN_BUILD))), "scrapers", "warn", "not tell", "stop"),
    "scraper loads": (facts(answer(SCRAPED)), "scrapers", "ok", "for an unloaded model loads it", "autoload=false"),
    "no metrics": (facts(), "scrapers", "ok", "/metrics is off", ""),
    "autoload off, scraped": (
        facts(answer(SCRAPED, props=props(autoload=False))),
        "scrapers",
        "ok",
        "no scrape loads",
        "",
    ),
    "pages locked out": (facts(), "pages", "ok", "does not have the key", ""),
    "pages read and act": (facts(answer(**PAGE_READS)), "pages", "warn", "and read what the router", "--api-key-file"),
    "pages act": (
        facts(answer(**KEYLESS, as_page=PageAccess(200, False, False), preflight=PageAccess(200, False, True))),
        "pages",
        "warn",
        "can load and unload models.",
        "--api-key-file",
    ),
    "pages before a gateway": (
        facts(answer(**PAGE_READS, gateway="1.2")),
        "pages",
        "warn",
        "The gateway lets none load or unload.",
        "--client-keys-file",
    ),
    "is a gateway": (facts(answer(gateway="1.2")), "router", "ok", "a Corral gateway (1.2) before a llama-server", ""),
    "pages refused": (
        facts(answer(**KEYLESS, as_page=PageAccess(403, False, False))),
        "pages",
        "ok",
        "refused (HTTP 403)",
        "",
    ),
    "list public": (facts(answer(is_list_public=True)), "pages", "warn", "by any web page", "Update"),
}


@pytest.mark.parametrize("name", TABLE)
def test_each_fact_has_its_line(name: str) -> None:
    """What was seen is said at the right level, with the next step where there is one."""
    check_row(TABLE[name])


@pytest.mark.parametrize("name", TABLE)
def test_every_line_is_a_sentence_that_is_safe_to_print(name: str) -> None:
    """Whatever the facts, each line has a known level and whole, printable sentences."""
    check_sentences(TABLE[name])


def test_nothing_is_said_of_what_was_not_seen() -> None:
    """Where nothing answers, no line speaks of models, keys, pages or memory."""
    said = {line.check for line in diagnose(facts(failed(NOTHING, NO_ANSWER)))}

    assert {"address", "clock", "state", "corral"} == said


def test_preset_without_a_model() -> None:
    """A section that names no model would start a router inside the router: said before anybody asks for it."""
    read = read_model({"id": "oops", "status": {"value": "unloaded", "args": ["llama-server", "--ctx-size", "512"]}})
    remote = read_model({"id": "hub", "status": {"value": "unloaded", "args": ["llama-server", "--hf-repo", "a/b"]}})
    assert read is not None and remote is not None
    lines = find(diagnose(facts(answer(read, remote))), "presets")

    assert ["warn"] == [line.level for line in lines]
    assert "oops" in lines[0].seen and "hub" not in lines[0].seen


def test_ids_that_are_not_file_names() -> None:
    """An id that differs from its file's name is shown beside it, since requests need the id."""
    read = read_model(
        {"id": "qwen", "status": {"value": "unloaded", "args": ["--model", "/models/Qwen3-8B-Q4_K_M.gguf"]}}
    )
    assert read is not None
    line = find(diagnose(facts(answer(read, model("same")))), "models")[0]

    assert "1 id is not the file's name: qwen is the file Qwen3-8B-Q4_K_M.gguf" in line.seen


def test_queue_of_a_busy_router_is_not_stuck() -> None:
    """A request that waits while every place is taken by a busy model waits for a reason."""
    busy = host(child("a", in_flight=1), waiting_s=(40.0,))
    line = find(diagnose(facts(answer(props=props(models_max=1)), host=busy)), "queue")[0]

    assert "ok" == line.level
    assert "all places are busy" in line.seen


def test_cors_proxy_is_told() -> None:
    """A router that fetches addresses for anybody is said to."""
    lines = find(diagnose(facts(answer(props=props(raw={"cors_proxy_enabled": True})))), "pages")

    assert ["ok", "warn"] == [line.level for line in lines]

"""Corral itself on a real llama-server: what the tests of this folder share."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from corral.ops import Outcome
from corral.sim.launch import RealRouter

BUILD = int(os.environ.get("CORRAL_LIVE_BUILD") or 11434)
HAS_EVENTS = BUILD > 9660
"""Builds before June 2026 have no event stream."""
_JSON = {"Content-Type": "application/json"}


def build_chat(model: str, tokens: int, *, stream: bool) -> dict[str, object]:
    """The body of a request for an answer of so many tokens."""
    return {"model": model, "max_tokens": tokens, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}


def chat(url: str, model: str, tokens: int, *, stream: bool = False) -> bytes:
    """Ask a model for an answer of so many tokens; returns whatever came before the connection ended."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    try:
        body = json.dumps(build_chat(model, tokens, stream=stream))
        connection.request("POST", "/v1/chat/completions", body, _JSON)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands remember what they do in a place of the test's own."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))


@contextmanager
def busy(url: str, model: str) -> Iterator[None]:
    """Keep a model answering: the block begins when the first token is here.

    Two slots answer one request after another, and one that waits keeps the child until its stop-timeout.
    """
    parts = urlsplit(url)
    body = json.dumps(build_chat(model, 1900, stream=True))
    # The router answers with a handful of threads at first; many streams would leave none for the list.
    connections = [HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60) for _ in range(3)]
    try:
        for number, connection in enumerate(connections):
            connection.request("POST", "/v1/chat/completions", body, _JSON)
            if number == 0:
                assert connection.getresponse().readline().startswith(b"data:")
        yield
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def asking_when_gone(url: str, model: str) -> Iterator[None]:
    """A client that asks a model for a token as soon as it is unloaded.

    It looks and asks on one connection: on a busy router a new one may wait for seconds until it is served.
    """
    parts, deadline = urlsplit(url), time.monotonic() + 30
    connection, has_looked = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60), threading.Event()

    def is_up() -> bool:
        connection.request("GET", "/models")
        listed = json.loads(connection.getresponse().read())["data"]
        has_looked.set()
        return any(entry["id"] == model and entry["status"]["value"] != "unloaded" for entry in listed)

    def ask() -> None:
        while is_up() and time.monotonic() < deadline:
            time.sleep(0.05)
        connection.request("POST", "/v1/chat/completions", json.dumps(build_chat(model, 1, stream=False)), _JSON)
        connection.getresponse().read()

    thread = threading.Thread(target=ask)
    thread.start()
    has_looked.wait(30)
    try:
        yield
    finally:
        thread.join()
        connection.close()


@pytest.fixture
def start_router(
    llama_server_binary: str, live_presets: dict[str, dict[str, str]]
) -> Iterator[Callable[..., RealRouter]]:
    """Starts routers with options of their own; all are stopped at the end."""
    routers: list[RealRouter] = []

    def start(**options: object) -> RealRouter:
        options.setdefault("context", 4096)
        router = RealRouter(llama_server_binary, live_presets, **options)  # type: ignore[arg-type]  # its own options
        routers.append(router)
        router.__enter__()
        return router

    try:
        yield start
    finally:
        for router in routers:
            router.close()


def load_broken(load: Callable[[], Outcome], unload: Callable[[], object]) -> Outcome:
    """Load what cannot be loaded until the router notices: build 9093 may overlook a child that ends at once."""
    while True:
        outcome = load()
        if HAS_EVENTS or outcome.outcome != "not_seen_loaded":
            return outcome
        assert outcome.status == "loading"
        unload()

"""Corral itself on a real llama-server: what the tests of this folder share."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import pytest

from corral import Router
from corral.sim.launch import RealRouter

BUILD = int(os.environ.get("CORRAL_LIVE_BUILD") or 11434)
HAS_EVENTS = BUILD > 9660
"""Builds before June 2026 have no event stream."""


def chat(url: str, model: str, tokens: int, *, stream: bool = False) -> bytes:
    """Ask a model for an answer of so many tokens; returns whatever came before the connection ended."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    body = {"model": model, "max_tokens": tokens, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return b""
    finally:
        connection.close()


@contextmanager
def busy(url: str, model: str) -> Iterator[None]:
    """Keep a model answering: the block begins when the first token is here.

    Two slots answer six requests one after another, which outlasts any stop-timeout of the tests.
    """
    parts = urlsplit(url)
    body = {"model": model, "max_tokens": 1900, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    connections = [HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60) for _ in range(6)]
    try:
        for number, connection in enumerate(connections):
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            if number == 0:
                assert connection.getresponse().readline().startswith(b"data:")
        yield
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def asking_when_gone(url: str, model: str) -> Iterator[None]:
    """A client that asks a model for a token as soon as it is unloaded."""

    def ask() -> None:
        with Router(url) as router:
            if router.wait(model, state="unloaded", timeout_s=30).ok:
                chat(url, model, 1)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        thread.join()


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

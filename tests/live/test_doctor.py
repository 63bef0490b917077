"""``corral doctor`` on a real llama-server: what it says is true, and no model notices it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from corral.client import Router
from corral.sim.launch import RealRouter, pick_free_port
from tests.live.conftest import BUILD, HAS_EVENTS, chat, load_broken
from tests.support.live import ModelFiles

pytestmark = pytest.mark.live

KEY = "sesame"


def doctor(url: str, *words: str, key: str = "") -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and each check's last finding."""
    command = [sys.executable, "-m", "corral", "doctor", "--json", "--url", url, *words]
    environ = {"HOME": os.devnull} | ({"CORRAL_API_KEY": key} if key else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
    assert "Traceback" not in done.stderr and KEY not in done.stdout + done.stderr
    return done.returncode, {finding["check"]: finding for finding in json.loads(done.stdout)["findings"]}


def levels(found: dict[str, dict[str, Any]], *checks: str) -> list[str | None]:
    """The levels of these checks; None for a check that said nothing."""
    return [found[check]["level"] if check in found else None for check in checks]


@pytest.fixture
def single_server(llama_server_binary: str, model_files: ModelFiles) -> Iterator[str]:
    """A llama-server with one model, loaded."""
    port = pick_free_port()
    command = [llama_server_binary, "-m", str(model_files.quick), "--port", str(port), "-c", "256", "--no-webui"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while b"choices" not in chat(url, "any", 1) and time.monotonic() < deadline:
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def test_router_without_a_key(live_router: RealRouter) -> None:
    """A stock router works; that any web page may operate it is the one thing said against its settings."""
    code, found = doctor(live_router.url)

    assert 0 == code
    assert ["ok"] * 6 == levels(found, "address", "router", "key", "models", "autoload", "room")
    assert "warn" == found["pages"]["level"] and "read what the router answers" in found["pages"]["seen"]
    assert "fail" not in {finding["level"] for finding in found.values()}
    if HAS_EVENTS:
        assert "has event stream" in found["build"]["seen"]


def test_router_with_a_key(start_router: Callable[..., RealRouter]) -> None:
    """With the key all is well; without it, or with a wrong one, exit 9 says which."""
    router = start_router(api_key=KEY)
    (right, kept), (missing, without), (wrong, mistaken) = (doctor(router.url, key=key) for key in (KEY, "", "other"))

    assert (0, 9, 9) == (right, missing, wrong)
    assert "ok" == kept["key"]["level"] and "ok" == kept["router"]["level"]
    assert "none was given" in without["key"]["seen"]
    assert "does not accept the one from CORRAL_API_KEY" in mistaken["key"]["seen"]
    if BUILD >= 10490:
        assert "ok" == kept["pages"]["level"]


def test_prefix(start_router: Callable[..., RealRouter]) -> None:
    """A router under a path prefix is found from its root, with a key as well as without."""
    plain = start_router(api_prefix="/llm")
    locked = start_router(api_prefix="/llm", api_key=KEY)

    for router, key in ((plain, ""), (locked, KEY)):
        code, found = doctor(router.url.removesuffix("/llm"), key=key)
        assert 3 == code
        assert router.url in found["router"]["do"], found
        assert 0 == doctor(router.url, key=key)[0]


def test_unix_socket(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """A router on a unix socket is looked at like any other."""
    path = tmp_path / "router.sock"
    start_router(unix_socket=str(path))
    code, found = doctor(f"unix://{path}")

    assert 0 == code
    assert ["ok", "ok"] == levels(found, "router", "models")


def test_restricted_origins(start_router: Callable[..., RealRouter]) -> None:
    """With --cors-origins a page can't read the answers, but it can still send an unload, and both are said."""
    if BUILD < 10010:
        # These have no such option.
        return
    router = start_router(extra_args=["--cors-origins", "https://mine.example"])
    _, found = doctor(router.url)

    assert "warn" == found["pages"]["level"]
    assert "read what the router answers" not in found["pages"]["seen"]


def test_single_model_server(single_server: str) -> None:
    """A server with one model is exit 3, and said to be no router."""
    code, found = doctor(single_server)

    assert 3 == code
    assert "single model" in found["router"]["seen"]
    assert [None, None, None] == levels(found, "models", "pages", "autoload")


def test_closed_port() -> None:
    """A port on which nothing listens is exit 3."""
    code, found = doctor(f"http://127.0.0.1:{pick_free_port()}")

    assert 3 == code
    assert "Nothing listens" in found["address"]["seen"]


def test_failed_model_is_told(live_router: RealRouter) -> None:
    """A model whose load failed is named with its exit code."""
    with Router(live_router.url) as router:
        load_broken(
            lambda: router.load("broken", timeout_s=5).outcomes[0], lambda: router.unload("broken", at_once=True)
        )
    _, found = doctor(live_router.url)

    assert "broken (exit 1)" in found["failures"]["seen"]


def test_preset_without_a_model(llama_server_binary: str, model_files: ModelFiles) -> None:
    """A preset section that names no model is found before it hangs anybody."""
    models = {"good": {"model": str(model_files.quick)}, "hollow": {"ctx-size": "512"}}
    with RealRouter(llama_server_binary, models) as router:
        _, found = doctor(router.url)

    assert "hollow" in found["presets"]["seen"] and "good" not in found["presets"]["seen"]


def test_unloaded_and_sleeping_models_stay_as_they_are(start_router: Callable[..., RealRouter]) -> None:
    """A diagnosis loads nothing and wakes nothing."""
    router = start_router(sleep_idle_s=1, extra_args=["--metrics"])
    with Router(router.url) as client:
        assert client.load("plain").ok
        assert client.wait("plain", state="sleeping", timeout_s=20).ok
        for _ in range(3):
            doctor(router.url)
        models = {model.id: model for model in client.list_models().models}

    assert "sleeping" == models["plain"].status
    assert all(model.port is None for model in models.values() if model.id != "plain"), "no other child ever ran"


def test_idle_timer_is_not_reset(start_router: Callable[..., RealRouter]) -> None:
    """A model that is looked at all the time falls asleep when its idle time is over."""
    router = start_router(sleep_idle_s=2)
    with Router(router.url) as client:
        assert client.load("plain").ok
        began = time.monotonic()
        looks = 0
        while client.list_models().models[_find(client, "plain")].status != "sleeping":
            doctor(router.url)
            looks += 1
            assert time.monotonic() - began < 15, "it never slept"

    assert looks >= 3


def test_clients_and_memory(live_router: RealRouter) -> None:
    """On its own machine the router's clients are named by process, and its models' memory is seen."""
    parts = urlsplit(live_router.url)
    with Router(live_router.url) as router:
        assert router.load("plain").ok
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    connection.request("GET", "/models/sse" if HAS_EVENTS else "/health")
    try:
        _, found = doctor(live_router.url)
    finally:
        connection.close()

    assert f"(pid {os.getpid()})" in found["clients"]["seen"], found["clients"]
    assert "1 model, " in found["memory"]["seen"]
    assert "listens on 127.0.0.1, which only this machine reaches" in found["network"]["seen"]


def test_queue_that_hangs(start_router: Callable[..., RealRouter]) -> None:
    """A load queue that got stuck is told from a quiet one, and the cure that is named sets it going."""
    if BUILD < 11114:
        # These have another queue, or none.
        return
    router = start_router()
    with stuck_queue(router) as is_stuck:
        if not is_stuck:
            return
        deadline = time.monotonic() + 20
        while doctor(router.url)[1]["queue"]["level"] == "ok" and time.monotonic() < deadline:
            time.sleep(0.3)
        queue = doctor(router.url)[1]["queue"]
        assert "warn" == queue["level"] and "looks stuck" in queue["seen"] and "corral load" in queue["do"]
        with Router(router.url) as client:
            assert client.load("busy").ok
        deadline = time.monotonic() + 10
        while doctor(router.url)[1]["queue"]["level"] == "warn" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "ok" == doctor(router.url)[1]["queue"]["level"]


@contextmanager
def stuck_queue(router: RealRouter) -> Iterator[bool]:
    """Kill a model while it loads and clients wait for it, again and again until nothing loads it any more.

    Yields whether that came about; it does not always.
    """
    waiting: list[HTTPConnection] = []
    try:
        with Router(router.url) as client:
            for _ in range(20):
                waiting += [_ask(router.url, "busy") for _ in range(3)]
                if client.wait("busy", state="loading", timeout_s=1).ok:
                    client.unload("busy", at_once=True, wait=False)
                    waiting += [_ask(router.url, "busy") for _ in range(2)]
                if client.wait("busy", state="loaded", timeout_s=1).missing:
                    yield True
                    return
                while waiting:
                    waiting.pop().close()
                client.unload_all()
        yield False
    finally:
        for connection in waiting:
            connection.close()


def _ask(url: str, model: str) -> HTTPConnection:
    """Ask a model for one token, and do not wait for it."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=60)
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def test_orphan(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """A child that a killed router left behind is found by doctor, shown with its memory, and ended on request."""
    router = start_router()
    with Router(router.url) as client:
        assert client.load("plain").ok
    assert router.process is not None
    tasks = Path(f"/proc/{router.process.pid}/task").glob("*/children")
    child = next(int(pid) for task in tasks for pid in task.read_text().split())
    assert 1 == orphans(router.url, str(child), "--kill")[0], "with a living router it is none"
    # A stopped child does not notice that its router is gone.
    os.kill(child, signal.SIGSTOP)
    router.process.kill()
    router.process.wait()
    wait_for(lambda: orphans(router.url, str(child))[0] == 0)
    _, found = doctor(router.url)
    assert f"plain (pid {child})" in found["orphans"]["seen"]
    _, listed = orphans(router.url, str(child), "--kill", "--dry-run")
    assert ["would_be_ended"] == [item["outcome"] for item in listed]
    assert listed[0]["host_bytes"] > 0
    code, ended = orphans(router.url, str(child), "--kill", state=tmp_path)
    assert (0, ["ended"]) == (code, [item["outcome"] for item in ended])
    assert "ended" in (tmp_path / "recent.ndjson").read_text()


def orphans(url: str, *words: str, state: Path | None = None) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the orphans that the command lists."""
    command = [sys.executable, "-m", "corral", "orphans", "--json", "--url", url, *words]
    environ = {"HOME": os.devnull} | ({"CORRAL_STATE_DIR": str(state)} if state is not None else {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
    return done.returncode, json.loads(done.stdout).get("orphans", [])


def wait_for(is_so: Callable[[], bool]) -> None:
    """Return when it is so; fails when it takes too long."""
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _find(client: Router, name: str) -> int:
    return [model.id for model in client.list_models().models].index(name)

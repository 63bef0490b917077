"""Room on the real server's machine: what models hold and do is seen without touching them, and freed when asked."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import corral as package
from corral.client import Router, parse_url
from corral.machine import Machine
from corral.ops.measurement import Child
from corral.sim.launch import RealRouter
from tests.live.conftest import busy, chat

pytestmark = pytest.mark.live

SOURCE = str(Path(package.__file__).parent.parent)
Corral = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def corral(tmp_path: Path) -> Corral:
    """Runs a command with a ledger of the test's own; returns its exit code and its document."""

    def run(url: str, *words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "corral", "--url", url, *words, "--json"]
        environ = {"CORRAL_STATE_DIR": str(tmp_path), "USER": "ann", "PYTHONPATH": SOURCE}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def look(url: str) -> dict[str, Child]:
    """The children as the machine shows them."""
    target = parse_url(url)
    with Router(url) as router:
        models = router.list_models().models
    found = Machine.for_router(target.host, target.port).measure(models, memory=True, recent=True)
    assert not found.reason
    return {child.model: child for child in found.children}


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when it is so; fail after twenty seconds."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


# When a model was last at work.


def test_short_request_is_seen_afterwards(live_router: RealRouter) -> None:
    """An answer that began and ended between two looks is seen by when it ended; looking itself is not."""
    with Router(live_router.url) as router:
        assert router.load("plain", "busy").ok
    wait_until(lambda: all((child.last_active_s or 99) > 1.5 for child in look(live_router.url).values()))
    chat(live_router.url, "plain", 1)
    found = {name: child.last_active_s for name, child in look(live_router.url).items()}

    assert found["plain"] is not None and found["plain"] < 1.5
    assert found["busy"] is not None and found["busy"] > 1.5


def test_stream_in_flight_is_now(live_router: RealRouter) -> None:
    """A model that is writing an answer is active now."""
    with busy(live_router.url, "busy"):
        found = look(live_router.url)["busy"]

    assert found.last_active_s == 0.0 and found.in_flight


# corral ps.


def test_ps_tells_memory_and_requests(live_router: RealRouter, corral: Corral) -> None:
    """Each resident has its process, what it holds and what it answers; what is not resident is not listed."""
    with Router(live_router.url) as router:
        assert router.load("plain").ok
    with busy(live_router.url, "busy"):
        code, document = corral(live_router.url, "ps")
    rows = {row["id"]: row for row in document["models"]}

    assert (0, True) == (code, document["visible"]) and set(rows) == {"plain", "busy"}
    assert rows["busy"]["in_flight"] >= 1 and rows["plain"]["in_flight"] == 0
    assert all(row["host_bytes"] > 1 << 20 and row["reasons"] == [] for row in rows.values())
    assert live_router.process is not None and document["router_pid"] == live_router.process.pid
    assert document["host"]["free_bytes"] > 0


def test_ps_lets_models_sleep(start_router: Callable[..., RealRouter], corral: Corral) -> None:
    """Looked at again and again, models fall asleep in their time and sleep on, and no other is loaded."""
    router = start_router(sleep_idle_s=2)
    with Router(router.url) as client:
        assert client.load("plain").ok
    loaded_at, before = time.monotonic(), router.read_log()

    def is_asleep() -> bool:
        code, document = corral(router.url, "ps")
        assert code == 0
        return [row["status"] for row in document["models"]] == ["sleeping"]

    wait_until(is_asleep)
    took_s = time.monotonic() - loaded_at
    said = router.read_log()[len(before) :]

    assert took_s < 8, "looking reset the timer"
    assert all(is_asleep() for _ in range(3)), "looking woke it"
    assert "spawning" not in said, "looking loaded something"


# corral free.


def test_free_unloads_the_one_that_is_enough(start_router: Callable[..., RealRouter], corral: Corral) -> None:
    """Of a large model and a small one the large goes, since alone it is enough, and what is free is measured again."""
    # The cache of so many tokens takes hundreds of megabytes.
    router = start_router(context=32768)
    with Router(router.url) as client:
        assert client.load("plain", "busy").ok
    wait_until(lambda: set(look(router.url)) == {"plain", "busy"})
    held = {name: child.host_bytes or 0 for name, child in look(router.url).items()}
    code, before = corral(router.url, "ps")
    wanted = before["host"]["free_bytes"] + held["busy"] // 2
    code, done = corral(router.url, "free", f"{wanted}B", "--device", "host")
    rows = {row["id"]: row for row in done["models"]}

    assert held["busy"] > 200 << 20 and held["plain"] < held["busy"] // 2
    assert rows["busy"]["outcome"] == "unloaded" and rows["busy"]["freed_bytes"] > 200 << 20
    assert rows["plain"]["stays"] == "not_needed"
    # Other programs on this machine may take what came free: then it must not be called done.
    assert (code == 0) == (done["free_after_bytes"] >= wanted) and code in (0, 7)


def test_room_is_made_behind_a_gateway(live_router: RealRouter, corral: Corral, tmp_path: Path) -> None:
    """free asks the gateway and looks at the router behind it: pins hold, and what goes is seen to be freed."""
    with Router(live_router.url) as router:
        assert router.load("plain", "busy").ok
    assert corral(live_router.url, "pin", "busy")[0] == 0
    options = ["--router", live_router.url, "--listen", "127.0.0.1:0", "--json"]
    environ = {"CORRAL_STATE_DIR": str(tmp_path), "USER": "ann", "PYTHONPATH": SOURCE}
    with subprocess.Popen(
        [sys.executable, "-m", "corral", "serve", *options], stdout=subprocess.PIPE, text=True, env=environ
    ) as gateway:
        try:
            assert gateway.stdout is not None
            url = json.loads(gateway.stdout.readline())["listening"][0]
            code, document = corral(url, "free", "1024GiB", "--device", "host", "--best-effort")
        finally:
            gateway.terminate()

    assert code != 0, "no machine has so much"
    rows = {row["id"]: row for row in document["models"]}
    assert rows["plain"]["outcome"] == "unloaded" and rows["plain"]["freed_bytes"] > 0
    assert set(look(live_router.url)) == {"busy"}

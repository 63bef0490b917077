"""The idle keeper on the real server: it evicts what is idle and nothing else, whoever looks meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import corral as package
from corral.client import Router
from corral.sim.launch import RealRouter
from tests.live.conftest import busy, chat

pytestmark = pytest.mark.live

PATIENCE_S = 30.0
SOURCE = str(Path(package.__file__).parent.parent)


class Keeper:
    """A running ``corral keep --json``."""

    def __init__(self, url: str, folder: Path, *words: str) -> None:
        command = [sys.executable, "-m", "corral", "keep", "--url", url, "--json", *words]
        environ = {"CORRAL_STATE_DIR": str(folder), "USER": "ann", "PYTHONPATH": SOURCE}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, start_new_session=True
        )
        self.said: list[dict[str, Any]] = []
        self.err: list[str] = []
        self._readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_talk)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.said.append(json.loads(line) | {"at": time.monotonic()})

    def _read_talk(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as err:
            self.err += list(err)

    def find(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """What it has said so far of one kind."""
        return [one for one in self.said if one["event"] == event and fields.items() <= one.items()]

    def wait_for(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The newest of so many."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.find(event, **fields)) < count:
            assert time.monotonic() < deadline and self.process.poll() is None, (event, self.said, self.err)
            time.sleep(0.02)
        return self.find(event, **fields)[-1]

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it as systemd does."""
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        code = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join()
        return code


@pytest.fixture
def start_keeper(tmp_path: Path) -> Iterator[Callable[..., Keeper]]:
    """Starts keepers; all are ended."""
    keepers: list[Keeper] = []

    def start(url: str, *words: str) -> Keeper:
        keepers.append(Keeper(url, tmp_path, *words))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.end(signal.SIGKILL)


def stays(router: Router, name: str, seconds: float) -> bool:
    """Whether a model is resident all the while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if name not in [model.id for model in router.residents()]:
            return False
        time.sleep(0.1)
    return True


def test_evicts_after_a_chat_while_ps_runs_in_a_loop(
    live_router: RealRouter, start_keeper: Callable[..., Keeper], tmp_path: Path
) -> None:
    """A model goes when it has been idle for its time since the last chat, though somebody looks all the while."""
    url, over = live_router.url, threading.Event()

    def look() -> None:
        environ = {"CORRAL_STATE_DIR": str(tmp_path), "PYTHONPATH": SOURCE}
        while not over.is_set():
            command = [sys.executable, "-m", "corral", "ps", "--json", "--url", url]
            subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_S)

    keeper = start_keeper(url, "--idle", "3s")
    keeper.wait_for("watching")
    looker = threading.Thread(target=look)
    looker.start()
    try:
        assert chat(url, "plain", 2)
        chatted_at = time.monotonic()
        evicted = keeper.wait_for("evicted")
    finally:
        over.set()
        looker.join()

    assert ("plain", "unloaded") == (evicted["id"], evicted["outcome"])
    assert evicted["at"] - chatted_at > 2.5, "it went too early"
    assert evicted["idle_s"] >= 3.0 and evicted["cut"] == 0 and evicted["freed_bytes"] > 1 << 20
    with Router(url) as router:
        assert not router.residents()
    assert 143 == keeper.end()


def test_stream_longer_than_the_limit_is_not_cut(live_router: RealRouter, start_keeper: Callable[..., Keeper]) -> None:
    """A model that answers for longer than the limit stays, and goes when it has been idle for so long after that."""
    keeper = start_keeper(live_router.url, "--idle", "1s", "--match", "plain=500ms")
    keeper.wait_for("watching")
    # Under so many streams the server may leave a new connection waiting, so one from before is used.
    with Router(live_router.url) as router:
        assert router.load("plain", "busy").ok
        with busy(live_router.url, "busy"):
            keeper.wait_for("evicted", id="plain")
            assert stays(router, "busy", 2.5)
            assert not keeper.find("evicted", id="busy")
    evicted = keeper.wait_for("evicted", id="busy", outcome="unloaded")

    assert evicted["cut"] == 0
    assert "warn" not in "".join(keeper.err) and "Traceback" not in "".join(keeper.err)


def test_router_that_restarts_is_outlived(live_router: RealRouter, start_keeper: Callable[..., Keeper]) -> None:
    """A restart of the router is told once, and its new models are kept as those before."""
    keeper = start_keeper(live_router.url, "--idle", "1s")
    keeper.wait_for("watching")
    live_router.stop()
    keeper.wait_for("router_lost")
    live_router.start()
    keeper.wait_for("router_back")
    assert chat(live_router.url, "plain", 1)
    keeper.wait_for("evicted", id="plain")

    assert 1 == len(keeper.find("router_lost")) == len(keeper.find("router_back"))
    assert 130 == keeper.end(signal.SIGINT)


def test_pin_made_meanwhile_counts(
    live_router: RealRouter, start_keeper: Callable[..., Keeper], tmp_path: Path
) -> None:
    """A model that is pinned while the keeper runs stays, and goes when it is unpinned."""
    url = live_router.url
    keeper = start_keeper(url, "--idle", "1s")
    keeper.wait_for("watching")

    def corral(*words: str) -> None:
        environ = {"CORRAL_STATE_DIR": str(tmp_path), "PYTHONPATH": SOURCE}
        subprocess.run([sys.executable, "-m", "corral", *words, "--url", url, "-q"], env=environ, check=True)

    corral("pin", "plain")
    with Router(url) as router:
        assert router.load("plain", "busy").ok
        keeper.wait_for("evicted", id="busy")
        assert stays(router, "plain", 1.5)
    corral("unpin", "plain")
    keeper.wait_for("evicted", id="plain", outcome="unloaded")

"""A direct hold on the real server: what is asked for is answered and goes again, and nothing else is disturbed."""

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
from corral.wire.verbs import says_unheard
from tests.live.conftest import BUILD, busy, chat
from tests.support.live import QUOTED

pytestmark = pytest.mark.live

PATIENCE_S = 30.0
SOURCE = str(Path(package.__file__).parent.parent)
Run = Callable[..., tuple[int, Any]]


class Holding:
    """A running ``corral hold --json``, and what it has said."""

    def __init__(self, url: str, *words: str) -> None:
        command = [sys.executable, "-m", "corral", "hold", "--url", url, "--json", *words]
        environ = os.environ | {"PYTHONPATH": SOURCE, "USER": "ann"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
        )
        self.said: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.wait_for("begun")

    def find(self, event: str) -> list[dict[str, Any]]:
        """What it has said so far of one kind."""
        return [one for one in list(self.said) if one["event"] == event]

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The newest of so many."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.find(event)) < count:
            assert time.monotonic() < deadline and (self.process.poll() is None or self._reader.is_alive()), self.said
            time.sleep(0.02)
        return self.find(event)[-1]

    def end(self, number: int | None = None) -> int:
        """Its exit code when it has ended, by a signal if there is one."""
        if number is not None and self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as out:
            for line in out:
                self.said.append(json.loads(line))


@pytest.fixture
def hold() -> Iterator[Callable[..., Holding]]:
    """Starts holds; all are ended."""
    started: list[Holding] = []

    def start(url: str, *words: str) -> Holding:
        started.append(Holding(url, *words))
        return started[-1]

    yield start
    for one in started:
        one.end(signal.SIGKILL)


@pytest.fixture
def corral(live_router: RealRouter) -> Run:
    """Runs a command; returns its exit code and its document."""
    environ = os.environ | {"CORRAL_URL": live_router.url, "USER": "ann", "PYTHONPATH": SOURCE}

    def run(*words: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "corral", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


class Client(threading.Thread):
    """Asks one model again and again; a request under way when it is stopped is finished."""

    def __init__(self, url: str, model: str, pause_s: float) -> None:
        super().__init__()
        self._url, self._model, self._pause_s = url, model, pause_s
        self._is_over = threading.Event()
        self.answers: list[bytes] = []

    def run(self) -> None:
        """Ask until it is over."""
        while not self._is_over.is_set():
            self.answers.append(chat(self._url, self._model, 4))
            self._is_over.wait(self._pause_s)

    def stop(self) -> list[bytes]:
        """What it got that is no answer."""
        self._is_over.set()
        self.join(PATIENCE_S)
        assert not self.is_alive(), "a request hangs"
        return [answer for answer in self.answers if b'"choices"' not in answer]


def residents(url: str) -> set[str]:
    """What is resident now."""
    with Router(url) as router:
        return {model.id for model in router.residents()}


@pytest.fixture
def ask() -> Iterator[Callable[..., Client]]:
    """Starts clients that keep asking; all are stopped."""
    started: list[Client] = []

    def start(url: str, model: str, pause_s: float) -> Client:
        started.append(Client(url, model, pause_s))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def wait_for_more(clients: list[Client], more: int) -> None:
    """Until each client has got so many more answers."""
    before = [len(client.answers) for client in clients]
    deadline = time.monotonic() + PATIENCE_S
    while any(len(client.answers) < seen + more for client, seen in zip(clients, before, strict=True)):
        assert time.monotonic() < deadline, "a client is not answered"
        time.sleep(0.02)


def test_clients_that_keep_asking_are_answered(
    live_router: RealRouter, hold: Callable[..., Holding], ask: Callable[..., Client], corral: Run
) -> None:
    """While clients keep asking for a held model it is seen off time and again; they are answered, others as well."""
    url = live_router.url
    # Its stop-timeout is short: a request that slips in between the look and the stop is cut by then.
    holds = [hold(url, "busy", "--reason", "a game"), hold(url, "busy")]
    askers = [ask(url, "busy", 0.1), ask(url, "busy", 0.3)]
    other = ask(url, QUOTED, 0.1)
    holds[0].wait_for("came_up", 5)
    wait_for_more([other], 3)
    wait_without(url, "busy")
    began = time.monotonic()
    code, document = corral("release", "--all")
    released_s = time.monotonic() - began
    codes = [one.end() for one in holds]
    ended_s = time.monotonic() - began - released_s
    # What waited at the release is answered, and more after it.
    wait_for_more([*askers, other], 3)

    assert ([0, 0], 0, 2) == (codes, code, len(document["released"]))
    assert ended_s < 5, "a second, on a machine that is not busy"
    assert {"busy", QUOTED} <= residents(url)
    failed = [answer for client in askers for answer in client.stop()]
    assert [] == [answer for answer in failed if b"failed to load" in answer], "it was killed while it loaded"
    if BUILD < 11114:
        # Such a router sends a request to a child that has just ended: nobody has heard it, so nothing was cut.
        failed = [answer for answer in failed if not says_unheard(500, answer)]
    reported = sum(event["cut"] or 0 for event in holds[0].find("went_again"))
    assert len(failed) <= reported, "each cut is told"
    assert [] == other.stop()
    came = holds[0].find("came_up")
    assert os.getpid() in [peer["pid"] for event in came for peer in event["peers"] or ()]
    assert max(event["loads_per_minute"] for event in came) >= 5


def wait_without(url: str, model: str) -> None:
    """Until a model is not resident."""
    deadline = time.monotonic() + PATIENCE_S
    while model in residents(url):
        assert time.monotonic() < deadline, f"{model} stays"


def test_evicted_model_is_named(start_router: Callable[..., RealRouter], hold: Callable[..., Holding]) -> None:
    """Whoever had to go for a held model that came up is named."""
    url = start_router(models_max=1).url
    with Router(url) as router:
        assert router.load(QUOTED).ok
        holding = hold(url, "plain")
        chat(url, "plain", 4)
        evicted = holding.wait_for("evicted")
        holding.wait_for("went_again")

        assert (QUOTED, "plain") == (evicted["model"], evicted["by"])
        assert set() == residents(url)
    assert 143 == holding.end(signal.SIGTERM)


def test_unload_waits_and_release_restores(live_router: RealRouter, hold: Callable[..., Holding], corral: Run) -> None:
    """--unload waits for a stream, unloads all, and release --restore loads it again; the hold stays kept meanwhile."""
    url = live_router.url
    assert 0 == corral("load", "busy", QUOTED)[0]
    with busy(url, "busy"):
        holding = hold(url, "--all", "--unload")
        wait_without(url, QUOTED)
        assert {"busy"} == residents(url), "it is answering"
    assert {"unloaded"} == {
        model["outcome"] for model in holding.wait_for("unloaded")["models"] if model["id"] in ("busy", QUOTED)
    }
    assert 8 == corral("load", "plain")[0]
    assert {model["id"]: model["held"] for model in corral("ls")[1]["models"]} == dict.fromkeys(
        ["plain", QUOTED, "emoji 🐎 ü:Q4", "busy", "broken"], True
    )
    code, document = corral("release", "--all", "--restore")

    assert (0, {"busy", QUOTED}) == (code, {model["id"] for model in document["models"]})
    assert 0 == holding.end()
    assert {"busy", QUOTED} == residents(url)


def test_killed_guard_is_seen(live_router: RealRouter, hold: Callable[..., Holding], corral: Run) -> None:
    """After SIGKILL the hold shows as not enforced, and nobody sees the model off any more."""
    holding = hold(live_router.url, "plain", "--for", "1h")
    assert corral("holds")[1]["holds"][0]["enforced"]
    holding.end(signal.SIGKILL)
    chat(live_router.url, "plain", 4)
    (shown,) = [model for model in corral("ps")[1]["models"] if model["id"] == "plain"]

    assert (True, False) == (shown["held"], shown["hold_enforced"])
    assert [False] == [one["enforced"] for one in corral("holds")[1]["holds"]]
    assert {"plain"} == residents(live_router.url)


def test_hold_outlives_a_restart_of_the_router(live_router: RealRouter, hold: Callable[..., Holding]) -> None:
    """After the router was restarted, a held model that comes up is seen off as before."""
    holding = hold(live_router.url, "plain")
    live_router.restart()
    chat(live_router.url, "plain", 4)
    holding.wait_for("went_again")

    assert 130 == holding.end(signal.SIGINT)
    assert {"plain": 1} == holding.said[-1]["loads"]


def test_run_beside_a_hold(
    live_router: RealRouter, hold: Callable[..., Holding], ask: Callable[..., Client], tmp_path: Path
) -> None:
    """A hold and a run that keep the same models away do not fight: nothing is killed while it loads."""
    url = live_router.url
    holding, asker = hold(url, "--all"), ask(url, "busy", 0.1)
    holding.wait_for("came_up")
    command = [sys.executable, "-m", "corral", "run", "--url", url, "busy", "--", "sleep", "2"]
    environ = os.environ | {"PYTHONPATH": SOURCE}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
    failed = asker.stop()

    assert "Traceback" not in done.stderr
    assert [] == [answer for answer in failed if b"failed to load" in answer]
    assert holding.find("came_up")[-1]["loads_per_minute"] >= 3
    assert 143 == holding.end(signal.SIGTERM)

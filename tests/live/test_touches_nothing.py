"""Looking at a real router loads nothing, wakes nothing and keeps nothing awake, whichever command looks."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import corral as package
from corral.client import Router
from corral.faces.cli.commands import find_command
from corral.ops import StreamLost, StreamOpened
from corral.sim.launch import RealRouter
from tests.live.conftest import HAS_EVENTS

pytestmark = pytest.mark.live

SOURCE = str(Path(package.__file__).parent.parent)
SLEEP_S = 2
PATIENCE_S = 20.0
LOOKS: list[tuple[int, list[str]]] = [
    (0, ["ls", "-o", "wide"]),
    (0, ["ps"]),
    (0, ["ps", "-o", "wide"]),
    (0, ["doctor"]),
    (0, ["unload", "--all", "--dry-run"]),
    (0, ["unload", "broken", "--dry-run"]),
    (1, ["free", "1000TiB", "--dry-run"]),
    (0, ["keep", "--idle", "1s", "--dry-run"]),
    (0, ["wait", "busy", "--for", "unloaded"]),
]
"""Exit code and words of what only looks."""
WATCHES = [["keep", "--idle", "10m"], ["hold", "--all", "--for", "1m"], ["events"]]
"""What goes on looking until it is ended."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The surroundings of the commands."""
    return {"CORRAL_STATE_DIR": str(tmp_path / "state"), "HOME": str(tmp_path), "PYTHONPATH": SOURCE}


@contextmanager
def listening(url: str) -> Iterator[list[tuple[str, str | None]]]:
    """All that the router says meanwhile, model and status."""
    heard: list[tuple[str, str | None]] = []
    is_open, over = threading.Event(), threading.Event()

    def note(state: StreamOpened | StreamLost) -> None:
        if isinstance(state, StreamOpened):
            is_open.set()

    def listen() -> None:
        with Router(url) as router:
            for event in router.follow(note, time.monotonic() + 60):
                heard.append((event.model, event.status))
                if over.is_set():
                    return

    if not HAS_EVENTS:
        yield heard
        return
    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    assert is_open.wait(PATIENCE_S)
    yield heard
    over.set()


@contextmanager
def watching(corral: list[str], environ: dict[str, str]) -> Iterator[None]:
    """What goes on looking does, and is still at it in the end."""
    watches = [words for words in WATCHES if find_command(words[0]) is not None]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    running = [
        subprocess.Popen([*corral, *words, "--json"], env=environ, **pipes)  # type: ignore[call-overload]  # pipes
        for words in watches
        if HAS_EVENTS or words[0] != "events"
    ]
    try:
        yield
        assert [None] * len(running) == [process.poll() for process in running], watches
    finally:
        for process in running:
            process.terminate()
            process.communicate(timeout=PATIENCE_S)


def look(corral: list[str], environ: dict[str, str], words: list[str], code: int) -> None:
    """Run a command that looks."""
    command = [*corral, *words, "--json"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert code == done.returncode, (words, done.stdout, done.stderr)
    assert json.loads(done.stdout)


def read_states(router: Router) -> dict[str, str]:
    """The state of each model that is not unloaded."""
    return {model.id: model.status for model in router.list_models().models if model.status != "unloaded"}


def test_no_look_touches_a_model(start_router: Callable[..., RealRouter], environ: dict[str, str]) -> None:
    """While commands look again and again, a model falls asleep in its time and sleeps on, and no other is loaded."""
    server = start_router(sleep_idle_s=SLEEP_S)
    corral = [sys.executable, "-m", "corral", "--url", server.url]
    with Router(server.url) as router, listening(server.url) as heard:
        assert router.load("plain").ok
        began, before = time.monotonic(), server.read_log()
        with watching(corral, environ):
            while read_states(router) != {"plain": "sleeping"}:
                assert time.monotonic() - began < SLEEP_S + 6, "the idle timer was reset"
                for code, words in LOOKS:
                    look(corral, environ, words, code)
            for code, words in LOOKS * 2:
                look(corral, environ, words, code)
                assert {"plain": "sleeping"} == read_states(router), f"{words} woke it, or loaded another"
    said = server.read_log()[len(before) :]

    assert "spawning" not in said, "something was loaded"
    if HAS_EVENTS:
        states = [status for model, status in heard if model == "plain"]
        assert ["sleeping"] == states[states.index("loaded") + 1 :], "it was woken in between"
        assert {"plain"} == {model for model, _ in heard}


def test_keeper_takes_a_sleeping_model(start_router: Callable[..., RealRouter], environ: dict[str, str]) -> None:
    """A model that sleeps counts as idle by its sleep, and is unloaded without being woken."""
    server = start_router(sleep_idle_s=1)
    command = [sys.executable, "-m", "corral", "--url", server.url, "keep", "--idle", "3s", "--json"]
    with Router(server.url) as router, listening(server.url) as heard:
        assert router.load("plain").ok
        assert router.wait("plain", state="sleeping", timeout_s=PATIENCE_S).ok
        with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as keeper:
            assert keeper.stdout is not None
            evicted = next(one for one in map(json.loads, keeper.stdout) if one["event"] == "evicted")
            keeper.terminate()
            keeper.communicate(timeout=PATIENCE_S)

    assert 143 == keeper.returncode
    assert ("plain", "unloaded") == (evicted["id"], evicted["outcome"]) and evicted["idle_s"] >= 3
    if HAS_EVENTS:
        states = [status for _, status in heard]
        assert "loaded" not in states[states.index("sleeping") :], "it was woken first"

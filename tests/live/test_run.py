"""``corral run``, ``restore`` and ``recover`` on a real llama-server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral import Router
from corral.machine import read_process
from corral.sim.launch import RealRouter
from tests.live.conftest import busy, chat
from tests.support.live import QUOTED

pytestmark = pytest.mark.live

Start = Callable[..., "subprocess.Popen[str]"]
EMOJI = "emoji 🐎 ü:Q4"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a command with a ledger of the test's own."""
    started: list[subprocess.Popen[str]] = []

    def begin(url: str, *words: str) -> subprocess.Popen[str]:
        environ = {
            "CORRAL_STATE_DIR": str(tmp_path / "state"),
            "CORRAL_URL": url,
            "USER": "ann",
            "PATH": os.environ["PATH"],
        }
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([sys.executable, "-m", "corral", *words], env=environ, text=True, **pipes)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Code, stdout and stderr of a command, as soon as it has ended."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, out, err


def residents(url: str) -> list[str]:
    """Who is resident now."""
    with Router(url) as router:
        return sorted(model.id for model in router.residents())


def test_models_are_away_while_the_command_runs(start: Start, live_router: RealRouter) -> None:
    """The command finds the models gone; a client that asks is answered, and its model goes again; then all is back."""
    with Router(live_router.url) as router:
        assert router.load("plain", QUOTED, EMOJI).ok
        before = sorted(model.id for model in router.residents())
        process = start(live_router.url, "run", "--all", "--json", "--", "sh", "-c", "echo away; read line; exit 7")
        assert process.stdout is not None and "away\n" == process.stdout.readline()
        assert [] == residents(live_router.url)
        assert b'"choices"' in chat(live_router.url, "plain", 1)
        assert router.wait("plain", state="unloaded", timeout_s=20).ok
    code, out, err = finish(process)
    document = json.loads(err.splitlines()[-1])

    assert (7, "", before) == (code, out, residents(live_router.url))
    assert {"unloaded"} == {item["outcome"] for item in document["models"]}
    assert before == sorted(item["id"] for item in document["restored"] if item["outcome"] == "loaded")
    assert "and it was unloaded again: plain (1)." in err


def test_a_signal_reaches_the_command(start: Start, live_router: RealRouter) -> None:
    """Terminated, the command ends as it will, and the model is back."""
    with Router(live_router.url) as router:
        assert router.load("plain").ok
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    process = start(live_router.url, "run", "plain", "--", "sh", "-c", script)
    assert process.stdout is not None and "ready\n" == process.stdout.readline()
    process.send_signal(signal.SIGTERM)

    assert 9 == finish(process)[0] and ["plain"] == residents(live_router.url)


def test_a_model_that_answers_is_not_cut(start: Start, live_router: RealRouter) -> None:
    """While an answer is being written the command does not start: exit 6, and what went is back."""
    with Router(live_router.url) as router:
        assert router.load("plain", "busy").ok
    with busy(live_router.url, "busy"):
        code, out, err = finish(start(live_router.url, "run", "--grace", "300ms", "--", "echo", "ran"))
        assert ["busy", "plain"] == residents(live_router.url)

    assert (6, "") == (code, out) and "The command was not started." in err


def test_killed_and_recovered(start: Start, live_router: RealRouter) -> None:
    """Killed while its command runs, and the command after it, a run has left what recover puts back."""
    with Router(live_router.url) as router:
        assert router.load("plain", QUOTED).ok
    process = start(live_router.url, "run", "--", "sh", "-c", "echo $$; exec sleep 60")
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait(20)
    try:
        refused = finish(start(live_router.url, "recover"))
        assert [] == residents(live_router.url)
    finally:
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while read_process(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    noticed, done = finish(start(live_router.url, "ls", "-q")), finish(start(live_router.url, "recover"))

    assert 8 == refused[0] and f"(pid {pid})" in refused[2]
    assert "'corral recover r1' puts back what was unloaded for it." in noticed[2]
    assert 0 == done[0] and sorted(["plain", QUOTED]) == residents(live_router.url)


def test_nobody_is_evicted(start: Start, start_router: Callable[..., RealRouter]) -> None:
    """At the router's maximum a set comes back as far as there is room, and a client's model stays."""
    router = start_router(models_max=2)
    with Router(router.url) as client:
        assert client.load("plain", QUOTED).ok
        assert 0 == finish(start(router.url, "save", "both"))[0]
        assert client.unload_all().ok
        assert client.load(EMOJI).ok
    code, out, _ = finish(start(router.url, "restore", "both", "--json"))
    outcomes = [item["outcome"] for item in json.loads(out)["models"]]

    assert (5, ["loaded", "no_room"]) == (code, outcomes)
    assert EMOJI in residents(router.url) and 2 == len(residents(router.url))


def test_room_for_so_much(start: Start, live_router: RealRouter) -> None:
    """With --free what is asked for decides: nothing goes where there is room, and what cannot be is refused."""
    with Router(live_router.url) as router:
        assert router.load("plain").ok
    look = [sys.executable, "-m", "corral", "ps", "-q"]
    enough = finish(start(live_router.url, "run", "--free", "1MiB", "--device", "host", "--", *look))
    never = finish(start(live_router.url, "run", "--free", "900TiB", "--device", "host", "--", "echo", "ran"))

    assert (0, "plain\n") == enough[:2]
    assert (125, "") == never[:2] and "would still be missing" in never[2]

"""Routers as processes: found, started, restarted, and gone afterwards whatever happened."""

from __future__ import annotations

import http.client
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.sim.launch import LaunchedRouter, LaunchError, RealRouter, SimRouter, find_llama_server
from tests.support.live import LIVE_IDS, QUOTED

DEADLINE_S = 20.0
SOURCE = str(Path(corral.__file__).parent.parent)


def write_program(path: Path, text: str) -> str:
    """A shell script to be started in the place of llama-server."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def fetch(url: str, path: str, *, key: str = "", body: object = None) -> Any:
    """One request on a connection of its own."""
    host, _, prefix = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=DEADLINE_S)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        verb, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(verb, f"{'/' if prefix else ''}{prefix}{path}", data, headers)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def list_ids(router: LaunchedRouter, **options: Any) -> list[str]:
    """The ids that a router lists."""
    return [entry["id"] for entry in fetch(router.url, "/models", **options)["data"]]


def wait_until(is_so: Callable[[], bool]) -> None:
    """Return when ``is_so`` says so; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_group_gone(leader: int) -> bool:
    """Whether no process of the group is alive; a zombie that nobody has reaped yet counts as one that is."""
    try:
        os.killpg(leader, 0)
    except (ProcessLookupError, PermissionError):
        return True
    return False


def test_named_binary_goes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CORRAL_LLAMA_SERVER wins over the llama-server on PATH, which wins over nothing."""
    write_program(tmp_path / "llama-server", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CORRAL_LLAMA_SERVER", raising=False)

    assert str(tmp_path / "llama-server") == find_llama_server()

    monkeypatch.setenv("CORRAL_LLAMA_SERVER", "/named/llama-server")

    assert "/named/llama-server" == find_llama_server()


@pytest.mark.parametrize("name", ["", "*", "a]b", "a\nb", " a"])
def test_id_that_no_preset_can_hold(name: str) -> None:
    """An id that llama-server would read as another one, or not at all, is refused before anything starts."""
    with pytest.raises(ValueError, match="preset section"):
        RealRouter("llama-server", {name: "model.gguf"})


def test_preset_value_stays_in_its_section() -> None:
    """A line break in a value would begin another key."""
    with pytest.raises(ValueError, match="line break"):
        RealRouter("llama-server", {"a": {"model": "x\n[b]"}})


def test_binary_that_ends_at_once(tmp_path: Path) -> None:
    """A program that is no llama-server is named, with what it said last, and leaves no directory behind."""
    router = RealRouter(write_program(tmp_path / "server", "echo not made for this >&2; exit 3"), {})
    with pytest.raises(LaunchError) as caught, router:
        raise AssertionError("it started")

    assert str(tmp_path / "server") in caught.value.message
    assert "not made for this" in caught.value.hint
    assert router.process is None


def test_children_end_with_the_router(tmp_path: Path) -> None:
    """Stopping ends the whole process group, also a child that ignores every polite signal."""
    stubborn = f"trap '' TERM INT HUP; (while :; do sleep 0.05; done) & echo $! > {tmp_path}/child; wait"
    router = RealRouter(write_program(tmp_path / "server", stubborn), {}, unix_socket=str(tmp_path / "x.sock"))
    router._spawn([router.binary], dict(os.environ))
    wait_until(lambda: (tmp_path / "child").exists())
    assert router.process is not None
    leader = router.process.pid
    router.close()

    wait_until(lambda: is_group_gone(leader))


def test_simulator_starts_and_ends() -> None:
    """The simulator is started with the arguments given, restarts under its URL, and is gone afterwards."""
    with SimRouter(["--models", "2", "--model", QUOTED]) as router:
        url, folder, first = router.url, router.folder, router.process
        assert first is not None
        assert ["model-01", "model-02", QUOTED] == list_ids(router)
        router.restart()
        second = router.process
        assert second is not None

        assert (url, True) == (router.url, first.pid != second.pid)
        assert 3 == len(list_ids(router))

    assert second.returncode is not None
    assert not os.path.exists(folder)


def test_simulator_with_a_bad_argument() -> None:
    """A simulator that does not come up is an error with its own last words."""
    with pytest.raises(LaunchError) as caught, SimRouter(["--no-such-option"]):
        raise AssertionError("it started")

    assert "--no-such-option" in caught.value.hint


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_nothing_survives_an_error(error: type[BaseException]) -> None:
    """Ctrl-C and errors inside the block end the router like its ordinary end."""
    leaders = []

    def use() -> None:
        with SimRouter() as router:
            assert router.process is not None
            leaders.append(router.process.pid)
            raise error

    with pytest.raises(error):
        use()

    wait_until(lambda: is_group_gone(leaders[0]))


def test_nothing_survives_sudden_death() -> None:
    """The router ends even when the process that started it is killed outright."""
    use = "with SimRouter() as it: print(it.process.pid, flush=True); input()"
    command = [sys.executable, "-c", f"from corral.sim.launch import SimRouter\n{use}"]
    environment = os.environ | {"PYTHONPATH": SOURCE}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        leader = int(starter.stdout.readline())
        assert not is_group_gone(leader)
        starter.kill()

    wait_until(lambda: is_group_gone(leader))


@pytest.mark.live
def test_real_router_lists_odd_ids(live_router: RealRouter) -> None:
    """Quotes, spaces, slashes and emoji arrive as they were given."""
    assert sorted(LIVE_IDS) == sorted(list_ids(live_router))


@pytest.mark.live
def test_restart_forgets_what_was_resident(live_router: RealRouter) -> None:
    """After a restart the URL is the same and no model is resident, so every test begins alike."""
    url = live_router.url
    fetch(url, "/models/load", body={"model": "plain"})
    wait_until(lambda: "loaded" in json.dumps(fetch(url, "/models")["data"]))
    live_router.restart()

    assert url == live_router.url
    assert {"unloaded"} == {entry["status"]["value"] for entry in fetch(url, "/models")["data"]}


@pytest.mark.live
def test_real_children_end_with_the_router(
    llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]]
) -> None:
    """The model processes of a router that was killed outright are gone when the block ends."""
    with RealRouter(llama_server_binary, live_presets) as router:
        assert router.process is not None
        leader = router.process.pid
        assert fetch(router.url, "/models/load", body={"model": "plain"})["success"]
        wait_until(lambda: "loaded" in json.dumps(fetch(router.url, "/models")["data"]))
        os.kill(leader, signal.SIGKILL)

    wait_until(lambda: is_group_gone(leader))


@pytest.mark.live
def test_real_router_with_key_and_prefix(
    llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]], tmp_path: Path
) -> None:
    """Key and prefix hold, and the key is on no command line."""
    with RealRouter(llama_server_binary, live_presets, api_key="made-up", api_prefix="/pre") as router:
        assert router.url.endswith("/pre")
        assert len(LIVE_IDS) == len(list_ids(router, key="made-up"))
        assert router.process is not None
        shown = subprocess.run(
            ["ps", "-o", "args=", str(router.process.pid)], capture_output=True, text=True, check=True
        )

        assert "made-up" not in shown.stdout
        assert 401 == fetch(router.url, "/models/load", body={"model": "plain"})["error"]["code"]


@pytest.mark.live
def test_real_router_on_a_unix_socket(
    llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]], tmp_path: Path
) -> None:
    """A router on a socket restarts although the one before left its socket behind."""
    path = tmp_path / "router.sock"
    with RealRouter(llama_server_binary, live_presets, unix_socket=str(path)) as router:
        router.restart()

        assert f"unix://{path}" == router.url
        assert path.is_socket()


@pytest.mark.live
def test_port_taken_meanwhile(
    llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]], tmp_path: Path
) -> None:
    """A router that could not bind its port is started again on another one."""
    calls = tmp_path / "calls"
    twice = f'echo "$@" >> {calls}; [ $(wc -l < {calls}) -gt 1 ] || exit 1\nexec {llama_server_binary} "$@"'
    with RealRouter(write_program(tmp_path / "server", twice), live_presets) as router:
        first, second = (line.split("--port ")[1] for line in calls.read_text().splitlines())

        assert first != second
        assert router.url.endswith(f":{second}")

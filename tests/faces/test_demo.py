"""The demo: what it shows, and that nothing of it stays."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faces.kit import Result

Cli = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]
Finish = Callable[["subprocess.Popen[str]"], Result]


def test_demo_shows_the_main_job(spawn: Spawn, finish: Finish) -> None:
    """The commands are shown as they would be typed, with what they print, and it is said what they run on."""
    result = finish(spawn("demo", "--simulator", stderr=subprocess.STDOUT))
    commands = [line for line in result.out.splitlines() if line.startswith("$ corral ")]

    assert 0 == result.code
    assert "simulated router" in result.out.splitlines()[0]
    assert ["ls", "load", "ps", "unload", "ps"] == [line.split()[2] for line in commands]
    assert "'my \"odd\" model/v1'" in commands[1]
    assert result.out.index("Unloaded 3 models") < result.out.index("No resident models")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_demo_cleans_up_when_it_is_stopped(spawn: Spawn, finish: Finish, number: int, code: int) -> None:
    """Ctrl-C and SIGTERM in the middle end the demo, and the router with it."""
    process = spawn("demo", "--simulator")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("Loading ")
    process.send_signal(number)
    result = finish(process)
    url = next(line for line in result.out.splitlines() if "CORRAL_URL=" in line).partition("=")[2]

    assert code == result.code
    assert "Interrupted: " in result.err
    assert "Traceback" not in result.err
    assert 3 == finish(spawn("ls", "--url", url)).code


def test_demo_goes_on_without_a_server_that_does_not_start(
    spawn: Spawn, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A llama-server that is too old, broken or missing is told, and the simulator takes its place."""
    old = tmp_path / "llama-server"
    old.write_text("#!/bin/sh\necho 'error: invalid argument: --models-preset'; exit 1\n")
    old.chmod(0o755)
    for binary in (str(old), str(tmp_path / "missing")):
        monkeypatch.setenv("CORRAL_LLAMA_SERVER", binary)
        result = finish(spawn("demo"))

        assert 0 == result.code
        assert f"{binary} does not start as a router: " in result.err
        assert result.out.startswith("This is a simulated router")

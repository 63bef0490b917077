"""The demo: what it shows, and that nothing of it stays."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.faces.cli.demo_folder import PREFIX, make_folder, sweep
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
    assert "(verified: status only: a simulated router's models hold no memory)" in result.out
    assert result.out.index("Unloaded 3 models") < result.out.index("No resident models")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_demo_cleans_up_when_it_is_stopped(spawn: Spawn, finish: Finish, number: int, code: int) -> None:
    """Ctrl-C, SIGTERM and SIGHUP in the middle end the demo, and the router with it."""
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


def test_demo_as_a_document(spawn: Spawn, finish: Finish) -> None:
    """With --json the demo is one document, with that of each command in it."""
    result = finish(spawn("demo", "--simulator", "--json"))
    document = json.loads(result.out)

    assert (0, True, 0, True) == (result.code, document["ok"], document["exit_code"], document["simulated"])
    assert ["ls", "load", "ps", "unload", "ps"] == [step["argv"][1] for step in document["steps"]]
    assert all(step["document"]["ok"] for step in document["steps"])


def test_demo_reads_no_settings_and_remembers_nothing(
    spawn: Spawn, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken configuration, a key that nobody has and a state directory of the user's are none of its business."""
    config = tmp_path / ".config" / "corral" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("this is = = no TOML")
    monkeypatch.setenv("CORRAL_API_KEY", "no\nkey")
    monkeypatch.setenv("CORRAL_READ_TIMEOUT", "soon")
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))

    assert 0 == finish(spawn("demo", "--simulator")).code
    assert not (tmp_path / "state").exists()


def test_demo_clears_away_what_a_killed_one_left(
    spawn: Spawn, finish: Finish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After kill -9 a folder stays; the next demo removes it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    killed = spawn("demo", "--simulator")
    assert killed.stderr is not None
    assert killed.stderr.readline().startswith("Loading ")
    killed.kill()
    killed.wait(20)

    assert [True] == [path.is_dir() for path in tmp_path.iterdir()]
    assert 0 == finish(spawn("demo", "--simulator")).code
    assert [] == list(tmp_path.iterdir())


def test_only_a_demos_own_leftovers_are_removed(tmp_path: Path) -> None:
    """A folder in use, one of another name, a file, a link and another user's folder stay."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / f"{PREFIX}left" / "deep").mkdir(parents=True)
    kept = {"elsewhere", f"{PREFIX}link", f"{PREFIX}file"}
    if os.getuid() == 0:
        (tmp_path / f"{PREFIX}foreign").mkdir()
        os.chown(tmp_path / f"{PREFIX}foreign", 12345, 12345)
        kept.add(f"{PREFIX}foreign")
    with make_folder(str(tmp_path)) as used:
        removed = sweep(str(tmp_path))

        assert [str(tmp_path / f"{PREFIX}left")] == removed
        assert {*kept, Path(used).name} == {path.name for path in tmp_path.iterdir()}
    assert kept == {path.name for path in tmp_path.iterdir()}


def test_demo_ends_with_its_terminal(spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the terminal is closed the demo ends with 129, and so does everything that it started."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    master, slave = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = spawn(
        "demo", "--simulator", stdin=slave, stdout=slave, stderr=slave, text=False, preexec_fn=take_terminal
    )
    os.close(slave)
    shown = b""
    while b"Loading" not in shown:
        shown += os.read(master, 4096)
    os.close(master)

    assert 129 == process.wait(20)
    assert [] == list(tmp_path.iterdir())

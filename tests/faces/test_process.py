"""The command as a process: signals, pipes, disks, locales, and what it imports."""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from tests.faces.kit import reply

if TYPE_CHECKING:
    from tests.faces.kit import Answer, RawRouter, Result

    Spawn = Callable[..., subprocess.Popen[str]]
    Finish = Callable[[subprocess.Popen[str]], Result]
    Serve = Callable[[Answer], str]


SIGNALS = [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_signal_in_the_middle_of_an_unload(
    spawn: Spawn, finish: Finish, router: RawRouter, number: int, code: int
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end a command at once; it says for each model what was and was not done."""
    router.models["beta"] = "loading"
    posted = threading.Event()

    def accept(verb: str, model: str) -> bytes:
        posted.set()
        return reply(200, {"success": True})

    router.on_post = accept
    process = spawn("unload", "--all")
    assert process.stderr is not None
    assert "Waiting for beta: loading; it will be unloaded when it is up\n" == process.stderr.readline()
    assert "Unloading alpha\n" == process.stderr.readline()
    assert posted.wait(10)
    process.send_signal(number)
    result = finish(process)

    assert code == result.code
    assert ["alpha", "requested"] == result.out.splitlines()[0].split()[:2]
    assert "beta" in result.out
    assert "Interrupted: 0 unloaded, 1 asked for but not seen unloaded, 1 not asked for." in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("argv", [["ls"], ["events"], ["load", "a", "--json"]], ids=lambda argv: argv[0])
def test_signal_while_nothing_answers(
    spawn: Spawn, finish: Finish, serve: Serve, argv: list[str], number: int, code: int
) -> None:
    """A command that waits for its first answer ends at once, in one line."""
    asked: list[str] = []
    started = threading.Event()

    def hang(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        asked.append(path)
        assert started.wait(10)
        process.send_signal(number)

    process = spawn(*argv, "--url", serve(hang))
    started.set()
    result = finish(process)

    assert (code, ["/models"]) == (result.code, asked), result
    assert "Traceback" not in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_that_the_parent_ignores_is_ignored(spawn: Spawn, finish: Finish, serve: Serve, number: int) -> None:
    """A SIGTERM, or with nohup a SIGHUP, that was set to be ignored stays so, as for any well-behaved program."""
    started = threading.Event()

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        assert started.wait(10)
        process.send_signal(number)
        return reply(200, {"object": "list", "data": []})

    process = spawn("ps", "--url", serve(answer), preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    started.set()

    assert 0 == finish(process).code


def test_full_disk(spawn: Spawn, finish: Finish, router: RawRouter) -> None:
    """A stdout that takes nothing is told with exit 1; what was asked for is done all the same."""
    with open("/dev/full", "w") as full:
        result = finish(spawn("unload", "--all", stdout=full))

    assert 1 == result.code
    assert "corral: Cannot write the result: No space left on device." in result.err
    assert "unloaded" == router.models["alpha"] == router.models["beta"]
    assert "Traceback" not in result.err


def test_closed_stdout(spawn: Spawn, finish: Finish, router: RawRouter) -> None:
    """A stdout that was closed from the start is told with exit 1, and is no crash."""
    process = spawn("ls", stdout=None, preexec_fn=lambda: os.close(1))

    assert (1, "corral: Cannot write the result: Bad file descriptor.") == (
        process.wait(20),
        finish(process).err.splitlines()[0],
    )


def test_closed_stderr(spawn: Spawn, finish: Finish, router: RawRouter) -> None:
    """Without a stderr the result is still written, and the exit code is right."""
    result = finish(spawn("unload", "--all", stderr=None, preexec_fn=lambda: os.close(2)))

    assert 0 == result.code
    assert 2 == len(result.out.splitlines())


def test_full_stderr(spawn: Spawn, finish: Finish, router: RawRouter) -> None:
    """A stderr that takes nothing changes neither the result nor the exit code."""
    with open("/dev/full", "w") as full:
        result = finish(spawn("unload", "--all", stderr=full))

    assert 0 == result.code
    assert 2 == len(result.out.splitlines())


def test_reader_that_leaves(spawn: Spawn, finish: Finish, router: RawRouter) -> None:
    """A closed pipe ends a listing quietly, as it ends any unix tool."""
    router.models = {f"model-{at}": "loaded" for at in range(5000)}
    router.ports = dict.fromkeys(router.models, 1)
    process = spawn("ls", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert 141 == process.wait(20)
    assert process.stderr is not None
    assert "" == process.stderr.read()


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_poor_environments(
    spawn: Spawn, finish: Finish, router: RawRouter, tmp_path: Path, env: dict[str, str]
) -> None:
    """With next to no environment, or an ASCII locale, any name prints; nothing is lost."""
    env = {"CORRAL_STATE_DIR": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), **env}
    router.models, router.ports = {"🦙": "loaded"}, {"🦙": 1}
    url = os.environ["CORRAL_URL"]
    results = [finish(spawn(*argv, "--url", url, env=env)) for argv in (["ls"], ["unload", "🦙"], ["ls", "--json"])]

    assert [0, 0, 0] == [result.code for result in results]
    assert [("unload", "🦙")] == router.posts
    assert json.loads(results[2].out)["models"][0]["id"] == "🦙"
    assert results[0].out.splitlines()[1].split()[0] in ("🦙", "\\U0001f999")


def test_internal_error_is_one_line(spawn: Spawn, finish: Finish) -> None:
    """What nobody thought of is one line that asks for a report; CORRAL_DEBUG shows the rest."""
    # A module that cannot be imported stands for any mistake of our own.
    code = "import sys; sys.modules['corral.client'] = None; from corral.faces.cli import main; sys.exit(main(['ls']))"
    command = [sys.executable, "-c", code]
    environ = dict(os.environ) | {"PYTHONPATH": SOURCE}
    plain = subprocess.run(command, capture_output=True, text=True, env=environ)
    debug = subprocess.run(command, capture_output=True, text=True, env=environ | {"CORRAL_DEBUG": "1"})

    assert 1 == plain.returncode
    assert plain.stderr.startswith("corral: Internal error (ModuleNotFoundError")
    assert 2 == len(plain.stderr.splitlines())
    assert "Traceback" in debug.stderr


def test_home_that_is_not_told(spawn: Spawn, finish: Finish) -> None:
    """Services of systemd and env -i have no HOME: the one that a login would have set is used."""
    environ = {"XDG_CONFIG_HOME": os.devnull}
    results = [
        finish(spawn("doctor", "--json", "--url", "http://127.0.0.1:1", env=environ | home))
        for home in ({}, {"HOME": ""}, {"HOME": "/somewhere"})
    ]
    seen = [
        next(finding["seen"] for finding in json.loads(result.out)["findings"] if finding["check"] == "state")
        for result in results
    ]

    assert seen[0] == seen[1] and pwd.getpwuid(os.getuid()).pw_dir in seen[0]
    assert "/somewhere/" in seen[2]


SOURCE = str(Path(corral.__file__).parent.parent)
FORBIDDEN = {
    "typing",
    "dataclasses",
    "inspect",
    "asyncio",
    "pathlib",
    "logging",
    "importlib.metadata",
    "tomllib",
    "aiohttp",
    "subprocess",
    "sqlite3",
    "tempfile",
    "unittest",
    "difflib",
    "fnmatch",
    "shutil",
    "urllib.request",
    "concurrent.futures",
    "http.client",
    "email",
    "ssl",
}
HOT = {
    "--version": ["--version"],
    "ls": ["ls"],
    "ps": ["ps", "--json"],
    "load": ["load", "gamma"],
    "unload": ["unload", "--all"],
}


@pytest.mark.parametrize("name", HOT)
def test_hot_commands_import_little(router: RawRouter, name: str) -> None:
    """What a hot command imports stays off the list of modules that cost start-up time."""
    code = (
        "import sys; from corral.faces.cli import main; assert main(sys.argv[1:]) == 0; "
        "print('\\nMODULES', *sorted(sys.modules))"
    )
    environ = dict(os.environ) | {"PYTHONPATH": SOURCE}
    command = [sys.executable, "-S", "-c", code, *HOT[name]]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    modules = set(done.stdout.rpartition("MODULES ")[2].split())

    assert not FORBIDDEN & modules
    assert not {module for module in modules if module.startswith("corral.faces.cli.")} & {
        f"corral.faces.cli.{other}" for other in ("demo", "completion", "events", "wait")
    }
    if name == "--version":
        assert not {"json", "socket", "argparse", "corral.client", "corral.ops"} & modules

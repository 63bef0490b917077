"""Runs the command line, in this process and as one of its own, against servers that answer as told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.faces.cli import main
from tests.faces.kit import Answer, RawRouter, Result, ScriptedHandler, ScriptedServer

SOURCE = str(Path(corral.__file__).parent.parent)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine that runs the tests reaches the commands."""
    for name in list(os.environ):
        if name.startswith(("CORRAL_", "LLAMA_", "XDG_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Runs a command in this process."""

    def run(*argv: str) -> Result:
        capsys.readouterr()
        code = main(argv)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a command as a process of its own; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*argv: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        surroundings = {"PYTHONPATH": SOURCE} | (dict(os.environ) if env is None else env)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        process = subprocess.Popen([sys.executable, "-m", "corral", *argv], env=surroundings, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def finish() -> Callable[[subprocess.Popen[str]], Result]:
    """Waits for a process and takes what it left behind."""

    def wait(process: subprocess.Popen[str]) -> Result:
        out, err = process.communicate(timeout=20)
        return Result(process.returncode, out or "", err or "")

    return wait


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers as told, and returns its URL."""
    servers: list[ScriptedServer] = []

    def start(answer: Answer) -> str:
        server = ScriptedServer(("127.0.0.1", 0), ScriptedHandler)
        server.answer, server.over = answer, threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def router(serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch) -> RawRouter:
    """A raw router that the environment leads to: two resident models and one that is not."""
    raw = RawRouter({"alpha": "loaded", "beta": "sleeping", "gamma": "unloaded"})
    monkeypatch.setenv("CORRAL_URL", serve(raw))
    return raw

"""Completion: what each shell is given, tried out in bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from corral.faces.cli.commands import COMMANDS
from corral.faces.cli.entry import load_module

if TYPE_CHECKING:
    from tests.faces.kit import Answer, RawRouter, Result

    Cli = Callable[..., Result]
    Bash = Callable[[str], list[str]]
    Serve = Callable[[Answer], str]

_TRY = r"""
source <(corral completion bash)
COMP_LINE=$1; COMP_POINT=${#COMP_LINE}; COMP_WORDS=($1); COMP_CWORD=1
_corral
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def bash(tmp_path: Path) -> Bash:
    """Completes a line in bash; returns what is offered."""
    command = tmp_path / "corral"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m corral "$@"\n')
    command.chmod(0o755)
    own = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(corral.__file__).parent.parent),
        "LC_ALL": "C.UTF-8",
    }

    def complete(line: str) -> list[str]:
        environ = dict(os.environ) | own
        shell = ["bash", "--norc", "--noprofile", "-c", _TRY, "bash", line]
        done = subprocess.run(shell, capture_output=True, text=True, env=environ, timeout=20)
        assert "" == done.stderr
        return done.stdout.split("\n")[:-1]

    return complete


NAMES = {"qwen:8b": "loaded", "qwen:4b": "unloaded", 'say "hi"/to me': "loaded", "bad\nline": "loaded", "🦙": "loaded"}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("corral unl", ["unload"]),
        ("corral -q ev", ["events"]),
        ("corral help wa", ["wait"]),
        ("corral completion ", ["bash", "zsh", "fish"]),
        ("corral wait x --for l", ["loading", "loaded"]),
        ("corral hold x --for l", [""]),
        ("corral wait x --for loaded --time", ["--timeout"]),
        ("corral unload --dr", ["--dry-run"]),
        ("corral load --url u --timeo", ["--timeout"]),
        ("corral ls -o ", ["wide"]),
        ("corral load qw", ["qwen:8b", "qwen:4b"]),
        ("corral load qwen:", ["8b", "4b"]),
        ("corral unload qw", ["qwen:8b"]),
        ("corral unload --except say", [r"say\ \"hi\"/to\ me"]),
        ("corral load 'say", ['say "hi"/to me']),
        (r"corral load say\ ", [r"say\ \"hi\"/to\ me"]),
        ("corral load bad", [""]),
        ("corral load 🦙", ["🦙"]),
        ("corral ls --timeout ", [""]),
    ],
)
def test_bash(bash: Bash, router: RawRouter, line: str, offered: list[str]) -> None:
    """bash offers commands, options, values and names, quoted so that they can be used as they are."""
    router.models = dict(NAMES)
    router.ports = dict.fromkeys(NAMES, 1)

    assert offered == bash(line)


def test_names_come_from_the_router_of_the_line(bash: Bash, router: RawRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A --url on the half-typed line is where the names come from."""
    url = os.environ["CORRAL_URL"]
    monkeypatch.setenv("CORRAL_URL", "http://127.0.0.1:1")

    assert ["gamma"] == bash(f"corral load --url {url} g")
    assert ["gamma"] == bash(f"corral --url={url} load --no-wait g")


@pytest.mark.parametrize("answer", [b"<html>\r\n", b""])
def test_names_are_silent_on_trouble(cli: Cli, serve: Serve, answer: bytes) -> None:
    """Without a router, or with a wrong line, completion offers nothing and says nothing."""
    assert (0, "", "") == cli("__complete", "models", "--url", serve(lambda *request: answer))
    assert (0, "", "") == cli("__complete", "models", "--url", "ftp://x", "unload", "--foo")


def test_names_that_hang_are_given_up(cli: Cli, serve: Serve) -> None:
    """A router that hangs holds the shell for a second at most."""
    assert (0, "", "") == cli("__complete", "models", "--url", serve(lambda *request: None))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option_is_in_the_script(cli: Cli, shell: str) -> None:
    """The scripts know each command, alias and option; where the shell is installed it finds no fault in them."""
    script = cli("completion", shell).out
    for command in COMMANDS:
        assert all(name in script for name in (command.name, *command.aliases))
        for option in load_module(command).SPEC.options:
            assert all(
                flag in script or f"-l {flag[2:]} " in script or f"-s {flag[1:]} " in script for flag in option.flags
            )
    program = shutil.which(shell)
    if program is not None:
        assert 0 == subprocess.run([program, "-n"], input=script, text=True).returncode

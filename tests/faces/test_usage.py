"""Usage: help, versions, and mistakes on the command line, which cost one line and a hint each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corral
from corral.client import DEFAULT_URL
from corral.faces.cli.commands import COMMANDS, Command
from corral.faces.cli.entry import load_module
from corral.faces.cli.options import Spec, parse_in_full, read_plain, split_command
from corral.wire import BadArgumentError

if TYPE_CHECKING:
    from tests.faces.kit import RawRouter, Result

    Cli = Callable[..., Result]


def test_version(cli: Cli) -> None:
    """--version and -V print the version; --json as a document."""
    assert (0, f"corral {corral.__version__}\n", "") == cli("--version") == cli("-V")
    document = json.loads(cli("--version", "--json").out)

    assert {"schema_version": 1, "ok": True, "exit_code": 0, "version": corral.__version__} == document


def test_overview(cli: Cli) -> None:
    """--help lists every command and the default address; a bare corral shows the same as a usage error."""
    shown = cli("--help")

    assert all(f"  {command.name} " in shown.out for command in COMMANDS)
    assert DEFAULT_URL in shown.out
    assert shown == cli("help") == cli("-h")
    assert (2, shown.out) == cli()[:2]


@pytest.mark.parametrize("name", [name for command in COMMANDS for name in (command.name, *command.aliases)])
def test_help_of_each_command(cli: Cli, name: str) -> None:
    """Each command shows its own help, asked for in any of three ways, and needs no router for it."""
    shown = cli("help", name)

    assert 0 == shown.code
    assert shown.out.startswith("usage: corral ")
    assert shown == cli(name, "--help") == cli("-h", name)


MISTAKES = {
    "unknown command": (["unlaod"], "Did you mean 'corral unload'?"),
    "nothing like it": (["\x1b[31m"], "corral --help"),
    "help of nothing": (["help", "unlaod"], "Did you mean 'corral unload'?"),
    "option only": (["--json"], "corral --help"),
    "unknown option": (["ls", "--foo"], "corral help ls"),
    "abbreviated option": (["unload", "--al"], "corral help unload"),
    "name for ls": (["ls", "alpha"], "corral help ls"),
    "missing value": (["ls", "--url"], "corral help ls"),
    "bad choice": (["wait", "a", "--for", "done"], "corral help wait"),
    "no state": (["wait", "a"], "--for unloaded|"),
    "no name to wait for": (["wait", "--for", "loaded"], "corral ls"),
    "no name to load": (["load"], "corral ls"),
    "no name to unload": (["unload"], "--all"),
    "name with --all": (["unload", "--all", "a"], "one or the other"),
    "name with --tag": (["unload", "a", "--tag", "x"], "one or the other"),
    "bad duration": (["ls", "--timeout", "soon"], "90s"),
    "bad count": (["events", "--count", "0"], "from 1 on"),
    "no shell": (["completion"], "bash, zsh, fish"),
    "bad shell": (["completion", "csh"], "bash, zsh, fish"),
    "no such key file": (["ls", "--api-key-file", "/nonexistent"], "readable file"),
    "no such CA": (["ls", "--url", "https://127.0.0.1:1", "--ca-file", "/nonexistent"], "PEM"),
    "unknown exception": (["unload", "--all", "--except"], "corral help unload"),
    "name like an option": (["unload", "-foo"], "corral unload -- -name"),
    "name like a switch": (["unload", "-nfoo"], "corral unload -- -name"),
    "force too late": (["unload", "--all", "--force", "--timeout", "5s"], "--grace 0s"),
    "empty name": (["unload", ""], "corral help unload"),
    "empty pattern": (["unload", "--match", ""], "leave the option out"),
    "empty tag": (["unload", "--all", "--tag="], "leave the option out"),
    "empty exception": (["unload", "--all", "--except", ""], "leave the option out"),
    "empty address": (["unload", "--all", "--url", ""], "leave the option out"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(cli: Cli, case: str) -> None:
    """A mistake gives exit 2, one line that says what is wrong and one that says what to do; nothing on stdout."""
    argv, hint = MISTAKES[case]
    result = cli(*argv)

    assert 2 == result.code
    lines = result.err.splitlines()
    assert 2 == len(lines)
    assert lines[0].startswith("corral: ")
    assert hint in lines[1]
    assert all(line.isprintable() for line in lines)
    if "--json" not in argv:
        assert "" == result.out


def test_command_is_found_among_options() -> None:
    """The command is the first word that is neither an option nor an option's value."""
    assert ("ls", ["--url", "ps", "-q"]) == split_command(["--url", "ps", "ls", "-q"])
    assert ("ls", ["--url=ps"]) == split_command(["--url=ps", "ls"])
    assert (None, ["--url", "ps"]) == split_command(["--url", "ps"])
    assert (None, []) == split_command([])


def test_letters_that_stand_together_count(cli: Cli, router: RawRouter) -> None:
    """-aq is -a and -q; -ah is help and unloads nothing; a model that is called -q makes nothing quiet."""
    assert (0, "alpha\nbeta\n", "") == cli("unload", "-aq")
    assert cli("help", "unload") == cli("unload", "-ah")
    assert 2 == len(router.posts)
    router.models["-q"], router.ports["-q"] = "loaded", 1
    assert "Unloading -q" in cli("unload", "--", "-q").err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_names_the_default_of_every_duration(command: Command) -> None:
    """How long a command waits when nothing is said stands in its help."""
    durations = [option for option in load_module(command).SPEC.options if option.value == "DURATION"]

    assert all("default" in option.help or option.flags[0] in _NO_DEFAULT for option in durations), durations


_NO_DEFAULT = {"--since"}
"""Without these the thing they bound has no bound."""


def test_every_command_that_changes_something_has_dry_run() -> None:
    """--dry-run and --json are where the contract says."""
    flags = {c.name: {f for option in load_module(c).SPEC.options for f in option.flags} for c in COMMANDS}

    assert all("--dry-run" in flags[name] for name in ("load", "unload", "restore", "run", "recover"))
    assert all(
        "--json" in flags[name]
        for name in ("ls", "ps", "load", "unload", "wait", "events", "restore", "run", "recover")
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_dry_run_is_called_the_same_everywhere(command: Command) -> None:
    """What shows a plan with --dry-run does so with -n."""
    for option in load_module(command).SPEC.options:
        assert ("--dry-run" in option.flags) == ("-n" in option.flags and command.name != "log")


VALUES = ("a", "b c", "", "-", "-x", "--", "--all=1", "5s", "1h30m", "0s", "3", "-3", "2GiB", "unloaded", "loaded", "é")


def read_with_argparse(command: Command, spec: Spec, words: list[str]) -> dict[str, object] | str:
    """What the library makes of a line, or what it says of it."""
    try:
        return vars(parse_in_full(command, spec, words))
    except BadArgumentError as error:
        return error.message


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@given(data=st.data())
def test_plain_lines_are_read_as_argparse_reads_them(command: Command, data: st.DataObject) -> None:
    """What is read without argparse is what argparse would have read, and every mistake is left to it."""
    spec = load_module(command).SPEC
    flags = st.sampled_from([flag for option in spec.options for flag in option.flags])
    words = data.draw(st.lists(flags | st.sampled_from(VALUES), max_size=6))
    found = read_plain(spec, words)

    if found is not None:
        assert "--" not in words and read_with_argparse(command, spec, words) == vars(found)


def test_usual_lines_are_plain() -> None:
    """What people and scripts write every day is read without argparse, and gives what it says."""
    command = next(command for command in COMMANDS if command.name == "unload")
    spec = load_module(command).SPEC
    words = ["--url", "http://gpu-box:8080", "a", "--grace", "90s", "--json", "b", "--except", "c", "--except", "d"]
    found = read_plain(spec, words)

    assert found is not None and vars(found) == read_with_argparse(command, spec, words)
    assert (["a", "b"], 90.0, True, ["c", "d"], False) == (
        found.words,
        found.grace,
        found.json,
        getattr(found, "except"),
        found.all,
    )

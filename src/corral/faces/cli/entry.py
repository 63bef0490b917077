"""From words to exit code: find the command, run it, and turn whatever happens into a sentence and a code.

This is the only place where errors become text.
"""

from __future__ import annotations

import signal
from os import environ

from corral.faces.cli import exits
from corral.faces.cli.commands import COMMANDS, HIDDEN, Command, find_command
from corral.faces.cli.console import Console
from corral.faces.cli.options import QUIET, build_parser, parse, split_command
from corral.wire import BadArgumentError, CorralError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType
    from typing import Any, Protocol

    from corral.faces.cli.options import Spec

    class CommandModule(Protocol):
        """What every command's module has."""

        SPEC: Spec
        run: Callable[[Any, Console], int]


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the same as Ctrl-C, but for the exit code."""


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    console = Console(quiet=any(flag in argv for flag in QUIET.flags))
    received: list[int] = []
    previous = _catch_termination(received)
    try:
        code = _run_guarded(argv, console)
    finally:
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)
    code = console.finish(code)
    return exits.TERMINATED if received and code == exits.INTERRUPTED else code


def _catch_termination(received: list[int]) -> Any:
    """SIGTERM ends a command as Ctrl-C does; a parent that ignores it is respected. None when not changed."""

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    try:
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return None
        return signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Not the main thread: signals are somebody else's business.
        return None


def _run_guarded(argv: Sequence[str], console: Console) -> int:
    try:
        return _dispatch(argv, console)
    except KeyboardInterrupt:
        console.warn("corral: Interrupted.")
        return exits.INTERRUPTED
    except CorralError as error:
        return _report_error(error, argv, console)
    except Exception as error:
        if environ.get("CORRAL_DEBUG"):
            raise
        said = escape_controls(f"{type(error).__name__}: {error}")[:300]
        console.warn(f"corral: Internal error ({said}).\nPlease report it; CORRAL_DEBUG=1 shows where it happened.")
        return exits.FAILED


def _dispatch(argv: Sequence[str], console: Console) -> int:
    name, words = split_command(argv)
    if name is None:
        return _run_without_command(words, console)
    if name == "help":
        return _help(words, console)
    command = find_command(name)
    if command is None:
        raise _unknown_command(name)
    if command is HIDDEN:
        from corral.faces.cli.complete import complete

        return complete(words, console)
    module = load_module(command)
    before_mark = words[: words.index("--")] if "--" in words else words
    if "-h" in before_mark or "--help" in before_mark:
        return _show_command(command, module.SPEC, console)
    return module.run(parse(command, module.SPEC, words), console)


def load_module(command: Command) -> CommandModule:
    """Import a command's module."""
    from importlib import import_module

    module: Any = import_module(command.module)
    return module  # type: ignore[no-any-return]


def _run_without_command(words: Sequence[str], console: Console) -> int:
    if "--version" in words or "-V" in words:
        from corral.faces.cli.version import show_version

        return show_version(words)
    if "-h" in words or "--help" in words:
        return _show_overview(console)
    if words:
        raise BadArgumentError("No command was given.", "'corral --help' lists the commands.")
    _show_overview(console)
    return exits.USAGE


def _help(words: Sequence[str], console: Console) -> int:
    names = [word for word in words if not word.startswith("-")]
    if not names:
        return _show_overview(console)
    command = find_command(names[0])
    if command is None:
        raise _unknown_command(names[0])
    return _show_command(command, load_module(command).SPEC, console)


def _show_command(command: Command, spec: Spec, console: Console) -> int:
    console.write(build_parser(command, spec).format_help())
    return exits.DONE


def _show_overview(console: Console) -> int:
    width = max(len(command.name) for command in COMMANDS)
    listed = "\n".join(f"  {command.name:{width}}   {command.help}" for command in COMMANDS)
    console.line(_OVERVIEW.format(commands=listed))
    return exits.DONE


_OVERVIEW = """\
usage: corral COMMAND [options]

See and free the models of a llama.cpp router (llama-server with many models on one port).

commands:
{commands}

'corral help COMMAND' shows a command's options. 'corral --version' prints the version.
The router is the one of --url, CORRAL_URL, LLAMA_SERVER_URL, the configuration, or http://127.0.0.1:8080.
exit codes: 0 done and seen done, 1 error, 2 usage, 3 unreachable or no router, 4 unknown model,
            5 several kinds of outcome, 6 still busy, 7 came back, 9 API key, 130 interrupted, 143 terminated"""


def _unknown_command(name: str) -> BadArgumentError:
    from difflib import get_close_matches

    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    near = get_close_matches(name[:50], names, 1)
    hint = f"Did you mean 'corral {near[0]}'?" if near else "'corral --help' lists the commands."
    return BadArgumentError(f"There is no command {show_name(name)}.", hint)


def _report_error(error: CorralError, argv: Sequence[str], console: Console) -> int:
    code = exits.code_of_error(error)
    console.warn(f"corral: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
    if "--json" in argv and not console.wrote:
        from json import dumps

        from corral.faces.cli.words import describe_error

        console.line(dumps({"schema_version": 1, "error": describe_error(error), "exit_code": code}))
    return code

"""From words to exit code: find the command, run it, and turn whatever happens into a sentence and a code.

This is the only place where errors become text.
"""

from __future__ import annotations

from os import environ

from corral.faces.cli import exits
from corral.faces.cli.commands import COMMANDS, HIDDEN, Command, find_command
from corral.faces.cli.console import Console
from corral.faces.cli.notice import warn_of_leases
from corral.faces.cli.options import build_parser, parse, split_command
from corral.faces.cli.signals import Signals
from corral.wire import BadArgumentError, CorralError, escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from corral.faces.cli.options import Spec

    class CommandModule(Protocol):
        """What every command's module has."""

        SPEC: Spec
        run: Callable[[Any, Console], int]


class _Line:
    """One command line, as far as it has been understood."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self.spec: Spec | None = None
        self.args: Namespace | None = None

    @property
    def wants_json(self) -> bool:
        """Whether documents are asked for; what could not be parsed is asked word by word."""
        if self.args is not None:
            return getattr(self.args, "json", False)
        return "--json" in _before_mark(self._argv)

    def judge(self, error: CorralError | None) -> int:
        """The exit code of an error; None is one of Corral's own making."""
        own = None if self.spec is None else self.spec.failure
        if own is not None and not isinstance(error, exits.ExitError):
            return own
        return exits.FAILED if error is None else exits.code_of_error(error)


def run(argv: Sequence[str], signals: Signals | None = None) -> int:
    """Run one command line and return its exit code; ``signals`` are those of the run that this one is part of."""
    caught = Signals() if signals is None else signals
    console = Console(caught)
    if signals is None:
        caught.catch()
    try:
        return caught.settle(console.finish(_run_guarded(_Line(argv), argv, console)))
    except KeyboardInterrupt:
        # Once more, while the first was being told.
        return caught.settle(exits.INTERRUPTED)
    finally:
        if signals is None:
            caught.release()


def _run_guarded(line: _Line, argv: Sequence[str], console: Console) -> int:
    try:
        return _dispatch(line, argv, console)
    except KeyboardInterrupt:
        console.warn("corral: Interrupted.")
        return _fail(exits.INTERRUPTED, {"kind": "Interrupted", "message": "Interrupted.", "hint": ""}, line, console)
    except CorralError as error:
        console.warn(f"corral: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        from corral.faces.cli.words import describe_error

        return _fail(line.judge(error), describe_error(error), line, console)
    except Exception as error:
        if environ.get("CORRAL_DEBUG"):
            raise
        said = escape_controls(f"{type(error).__name__}: {error}")[:300]
        message, hint = f"Internal error ({said}).", "Please report it; CORRAL_DEBUG=1 shows where it happened."
        console.warn(f"corral: {message}\n{hint}")
        return _fail(line.judge(None), {"kind": "InternalError", "message": message, "hint": hint}, line, console)


def _fail(code: int, error: dict[str, Any], line: _Line, console: Console) -> int:
    """With --json an error is a document too, unless a part of one stands there already."""
    if line.wants_json and (console.is_stream or not console.wrote):
        from json import dumps

        from corral.faces.cli.documents import describe_failure

        console.line(dumps(describe_failure(console.settle(code), error, line.spec, line.args)))
    return code


def _dispatch(line: _Line, argv: Sequence[str], console: Console) -> int:
    name, words = split_command(argv)
    if name is None:
        return _run_without_command(line, words, console)
    if name == "help":
        return _help(line, words, console)
    command = find_command(name)
    if command is None:
        raise _unknown_command(name)
    if command is HIDDEN:
        from corral.faces.cli.complete import complete

        return complete(words, console)
    module = load_module(command)
    line.spec = module.SPEC
    before_mark = _before_mark(words)
    if "-h" in before_mark or "--help" in before_mark:
        return _show_command(line, command, module.SPEC, console)
    line.args = args = parse(command, module.SPEC, words)
    if args.help:
        # It stood among other letters, as in -ah.
        return _show_command(line, command, module.SPEC, console)
    console.quiet = getattr(args, "quiet", False)
    warn_of_leases(command.name, console)
    return module.run(args, console)


def _before_mark(words: Sequence[str]) -> Sequence[str]:
    return words[: words.index("--")] if "--" in words else words


def load_module(command: Command) -> CommandModule:
    """Import a command's module."""
    # Without importlib, whose import a short command feels; a name to fetch makes this give the module itself.
    module: Any = __import__(command.module, fromlist=["run"])
    return module  # type: ignore[no-any-return]  # as every command is


def _run_without_command(line: _Line, words: Sequence[str], console: Console) -> int:
    if "--version" in words or "-V" in words:
        from corral.faces.cli.version import show_version

        return show_version(words)
    if "-h" in words or "--help" in words:
        return _show_overview(line, console)
    if words:
        raise BadArgumentError("No command was given.", "'corral --help' lists the commands.")
    _show_overview(line, console)
    return exits.USAGE


def _help(line: _Line, words: Sequence[str], console: Console) -> int:
    names = [word for word in words if not word.startswith("-")]
    if not names:
        return _show_overview(line, console)
    command = find_command(names[0])
    if command is None:
        raise _unknown_command(names[0])
    return _show_command(line, command, load_module(command).SPEC, console)


def _show_command(line: _Line, command: Command, spec: Spec, console: Console) -> int:
    if line.wants_json:
        from corral.faces.cli.help import describe_command

        console.line(describe_command(command, spec))
    else:
        console.write(build_parser(command, spec).format_help())
    return exits.DONE


def _show_overview(line: _Line, console: Console) -> int:
    if line.wants_json:
        from corral.faces.cli.help import describe_commands

        console.line(describe_commands())
    else:
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
            5 several kinds of outcome, 6 still busy, 7 came back, 8 held or pinned, 9 API key,
            129 terminal closed, 130 interrupted, 141 reader gone, 143 terminated"""


def _unknown_command(name: str) -> BadArgumentError:
    from difflib import get_close_matches

    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    near = get_close_matches(name[:50], names, 1)
    hint = f"Did you mean 'corral {near[0]}'?" if near else "'corral --help' lists the commands."
    return BadArgumentError(f"There is no command {show_name(name)}.", hint)

"""The table of commands: what exists, where it lives, and one line about it. Help and completion read it."""

from __future__ import annotations

from corral.wire.record import Record


class Command(Record):
    """One command; its module is imported only when it is called."""

    name: str
    module: str
    help: str
    aliases: tuple[str, ...] = ()


COMMANDS = (
    Command("ls", "corral.faces.cli.ls", "list all models and their state"),
    Command("ps", "corral.faces.cli.ps", "list the resident models: those that hold memory"),
    Command("load", "corral.faces.cli.load", "load models and see them up"),
    Command("unload", "corral.faces.cli.unload", "unload models and see it done", ("stop", "eject")),
    Command("wait", "corral.faces.cli.wait", "wait until models reach a state"),
    Command("events", "corral.faces.cli.events", "show what the router says, as it says it"),
    Command("demo", "corral.faces.cli.demo", "show all this on a router of its own, then clean up"),
    Command("completion", "corral.faces.cli.completion", "print a completion script for bash, zsh or fish"),
)

HIDDEN = Command("__complete", "corral.faces.cli.complete", "what the completion scripts ask")


def find_command(name: str) -> Command | None:
    """The command with this name or alias; None when there is none."""
    for command in (*COMMANDS, HIDDEN):
        if name == command.name or name in command.aliases:
            return command
    return None

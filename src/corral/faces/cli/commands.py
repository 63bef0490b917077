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
    Command("free", "corral.faces.cli.free", "make so much memory free on a device, unloading as little as that takes"),
    Command("keep", "corral.faces.cli.keep", "unload what has been idle for too long, as long as this runs"),
    Command("wait", "corral.faces.cli.wait", "wait until models reach a state"),
    Command("run", "corral.faces.cli.run", "unload models, keep them away while a command runs, put them back"),
    Command("recover", "corral.faces.cli.recover", "put back what a corral run that was killed has left unloaded"),
    Command("save", "corral.faces.cli.save", "remember the resident models, in order, as a set"),
    Command("restore", "corral.faces.cli.restore", "load the models of a set again, as far as there is room"),
    Command("sets", "corral.faces.cli.sets", "list the remembered sets"),
    Command("forget", "corral.faces.cli.forget", "forget sets"),
    Command("pin", "corral.faces.cli.pin", "let no rule choose these models"),
    Command("unpin", "corral.faces.cli.unpin", "let rules choose these models again"),
    Command("pins", "corral.faces.cli.pins", "list the pinned models"),
    Command("hold", "corral.faces.cli.hold", "keep models from coming up for a while"),
    Command("holds", "corral.faces.cli.holds", "list what is kept from coming up, by whom and until when"),
    Command("release", "corral.faces.cli.release", "end holds, or let models out of them"),
    Command("log", "corral.faces.cli.log", "show what was done, by whom, and what came of it"),
    Command("events", "corral.faces.cli.events", "show what the router says, as it says it"),
    Command("doctor", "corral.faces.cli.doctor", "say what is wrong or odd, and what to do about it"),
    Command("orphans", "corral.faces.cli.orphans", "list model processes whose router is gone, and end them"),
    Command("serve", "corral.faces.cli.serve", "stand in front of a router: drain without loss, hold at the door"),
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

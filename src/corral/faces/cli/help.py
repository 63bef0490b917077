"""Help as a document, for ``--json``: from the same table as its text, the parser and the completion scripts."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.commands import COMMANDS
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral.faces.cli.commands import Command
    from corral.faces.cli.options import Option, Spec


def describe_commands() -> str:
    """All commands."""
    return dumps(begin_document(DONE) | {"commands": [_describe(command) for command in COMMANDS]})


def describe_command(command: Command, spec: Spec) -> str:
    """One command with its options."""
    usage = f"corral {command.name} {spec.usage}".rstrip()
    options = [_describe_option(option) for option in spec.options]
    detail = {"usage": usage, "options": options, "notes": spec.epilog}
    return dumps(begin_document(DONE) | {"command": _describe(command) | detail})


def _describe(command: Command) -> dict[str, Any]:
    return {"name": command.name, "aliases": command.aliases, "help": command.help}


def _describe_option(option: Option) -> dict[str, Any]:
    return {
        "flags": option.flags,
        "help": option.help,
        "value": option.value or None,
        "many": option.many,
        "choices": option.choices,
    }

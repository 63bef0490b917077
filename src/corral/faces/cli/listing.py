"""Models as rows and as JSON: what ``ls`` and ``ps`` share."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.wire import Model

_UNKNOWN = "-"


def print_models(models: Sequence[Model], url: str, console: Console, *, json: bool, wide: bool) -> None:
    """Print models in the way that was asked for."""
    if json:
        _print_json(models, url, console)
    elif console.quiet:
        for model in models:
            if not console.line(escape_controls(model.id)):
                return
    else:
        _print_table(models, console, wide=wide)


def describe_model(model: Model) -> dict[str, Any]:
    """A model for ``--json``; ``raw`` is the router's own entry, untouched."""
    return {
        "id": model.id,
        "status": model.status,
        "resident": model.is_resident,
        "aliases": model.aliases,
        "tags": model.tags,
        "port": model.port,
        "exit_code": model.exit_code,
        "raw": model.raw,
    }


def describe_state(model: Model) -> str:
    """The state in words, with the exit code of a child that failed."""
    status = escape_controls(model.status)
    return status if model.exit_code is None else f"{status} (exit {model.exit_code})"


def _print_json(models: Sequence[Model], url: str, console: Console) -> None:
    """One document, written model by model so that a long list is never in memory twice."""
    console.write(f'{{"schema_version": 1, "url": {dumps(url)}, "models": [')
    separator = "\n"
    for model in models:
        if not console.write(separator + dumps(describe_model(model))):
            return
        separator = ",\n"
    console.line("\n]}" if models else "]}")


def _print_table(models: Sequence[Model], console: Console, *, wide: bool) -> None:
    if not models:
        return
    header = ["NAME", "STATE", *(["ALIASES", "TAGS", "PORT"] if wide else [])]
    rows = [header]
    for model in models:
        row = [show_name(model.id), describe_state(model)]
        if wide:
            port = _UNKNOWN if model.port is None else str(model.port)
            row += [_join(model.aliases), _join(model.tags), port]
        rows.append(row)
    for line in format_rows(rows):
        if not console.line(line):
            return


def _join(names: Sequence[str]) -> str:
    return ",".join(show_name(name) for name in names) or _UNKNOWN

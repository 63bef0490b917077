"""Models as rows and as JSON: what ``ls`` and ``ps`` share."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import SCHEMA_VERSION
from corral.faces.cli.exits import DONE, INTERRUPTED
from corral.faces.cli.marks import Marks
from corral.wire import escape_controls, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.wire import Model

UNKNOWN = "-"
_NO_MARKS = Marks()


def print_models(
    models: Sequence[Model], url: str, console: Console, *, json: bool, wide: bool, marks: Marks = _NO_MARKS
) -> None:
    """Print models in the way that was asked for."""
    if json:
        print_document((describe_model(model) | marks.describe(model.id) for model in models), url, console)
    elif console.quiet:
        print_ids(models, console)
    elif models:
        _print_table(models, console, marks, wide=wide)


def print_ids(models: Iterable[Model], console: Console) -> None:
    """One id a line."""
    for model in models:
        if not console.line(quote_name(model.id)):
            return


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


def print_document(
    rows: Iterable[Mapping[str, Any]], url: str, console: Console, extra: Mapping[str, Any] | None = None
) -> None:
    """One document, written model by model so that a long list is never in memory twice; whole if interrupted.

    ``extra`` is what it says besides.
    """
    console.write(f'{{"schema_version": {SCHEMA_VERSION}, "url": {dumps(url)}, "models": [')
    separator = "\n"
    try:
        for row in rows:
            if not console.write(separator + dumps(row)):
                return
            separator = ",\n"
    except KeyboardInterrupt:
        if console.is_whole:
            _end_document(console, INTERRUPTED, extra or {})
        raise
    _end_document(console, DONE, extra or {})


def _end_document(console: Console, code: int, extra: Mapping[str, Any]) -> None:
    ok = "true" if code == DONE else "false"
    more = "".join(f", {dumps(key)}: {dumps(value)}" for key, value in extra.items())
    console.line(f'\n]{more}, "ok": {ok}, "exit_code": {console.settle(code)}}}')


def print_table(rows: Sequence[Sequence[str]], console: Console) -> None:
    """Rows below their header, without the columns that are empty below it."""
    kept = [at for at in range(len(rows[0])) if any(row[at] for row in rows[1:])]
    for line in format_rows([[row[at] for at in kept] for row in rows]):
        if not console.line(line):
            return


def join_names(names: Sequence[str]) -> str:
    """Aliases or tags in one cell."""
    return ",".join(show_name(name) for name in names) or UNKNOWN


def _print_table(models: Sequence[Model], console: Console, marks: Marks, *, wide: bool) -> None:
    rows = [["NAME", "STATE", *(["ALIASES", "TAGS", "PORT"] if wide else []), "MARKS"]]
    for model in models:
        row = [show_name(model.id), describe_state(model)]
        if wide:
            port = UNKNOWN if model.port is None else str(model.port)
            row += [join_names(model.aliases), join_names(model.tags), port]
        rows.append([*row, marks.show(model.id)])
    print_table(rows, console)

"""What commands on the ledger did, or would do, one row for each thing: as text and as JSON."""

from __future__ import annotations

from json import dumps

from corral.faces.cli.columns import format_rows
from corral.faces.cli.documents import begin_document
from corral.faces.cli.exits import DONE
from corral.wire import Record, quote_name, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from corral.faces.cli.console import Console


class Deed(Record):
    """What was done to one thing."""

    name: str
    """Of a model, a hold or a set."""
    action: str
    """What would be done: ``pin``, ``unpin``, ``release``, ``forget``, or ``leave``."""
    outcome: str
    """What was done, such as ``pinned`` or ``was_not_pinned``."""
    reason: str = ""
    """What else is to be said: of what is left alone, why."""

    @property
    def is_change(self) -> bool:
        """Whether anything was, or would be, changed."""
        return self.action != "leave"


def show_deeds(
    deeds: Sequence[Deed],
    key: str,
    url: str,
    args: Namespace,
    console: Console,
    extra: dict[str, Any] | None = None,
    code: int = DONE,
) -> None:
    """Print the rows; ``key`` is what they are called in the JSON document, which ``extra`` adds to."""
    if args.json:
        _print_json(deeds, key, begin_document(code, url) | (extra or {}), args.dry_run, console)
    elif args.dry_run:
        rows = [(show_name(deed.name), deed.action, deed.reason) for deed in deeds]
        for line in format_rows([("NAME", "ACTION", "REASON"), *rows] if rows else []):
            console.line(line)
    elif console.quiet:
        for deed in deeds:
            if deed.is_change:
                console.line(quote_name(deed.name))
    else:
        rows = [
            (show_name(deed.name), deed.outcome.replace("_", " "), deed.reason if deed.is_change else "")
            for deed in deeds
        ]
        for line in format_rows(rows):
            console.line(line)


def _print_json(deeds: Sequence[Deed], key: str, document: dict[str, Any], is_dry_run: bool, console: Console) -> None:
    if is_dry_run:
        document["dry_run"] = True
        rows = [{"id": deed.name, "action": deed.action, "reason": deed.reason} for deed in deeds]
    else:
        rows = [{"id": deed.name, "outcome": deed.outcome, "reason": deed.reason} for deed in deeds]
    console.line(dumps(document | {key: rows}))

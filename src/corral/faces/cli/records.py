"""The ledger as commands use it: where it is, which router a command is about, and what it has done, written down.

Imported late by commands that must start fast; ``sqlite3`` comes in only where there is a ledger to be read.
"""

from __future__ import annotations

from os import environ

from corral.client import DEFAULT_URL, Timeouts, identify
from corral.config import Flags, load_config
from corral.ledger import LedgerError, find_folder, has_ledger
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from corral.client.gateway import Gateway
    from corral.faces.cli.console import Console
    from corral.faces.cli.deeds import Deed
    from corral.ledger import Ledger
    from corral.ops import LoadReport, UnloadReport
    from corral.ops.promises import RouterKey

_NOTHING_TRIED = frozenset({"already_unloaded", "already_loaded", "not_requested"})
"""Outcomes of models for which nothing was to be done; what was left busy, or lacked room, was tried."""
SHORTLY, AT_ONCE = Timeouts(2.0, 5.0, 5.0), Timeouts(1.0, 2.0, 2.0)
"""So long it is looked whether a gateway answers: where one is to be expected, and where not."""


def find_router(args: Namespace) -> RouterKey:
    """The router that a command is about, without talking to it."""
    return identify(load_config(Flags(args.url), environ).url or DEFAULT_URL)


def open_ledger() -> Ledger:
    """The ledger, to be changed. Raises LedgerError where it cannot be: the command is about nothing else."""
    from corral.ledger import Ledger

    return Ledger.open(find_folder(environ))


def may_know() -> bool:
    """Whether there is a ledger that may say anything: one stat. False too where there is no place for one."""
    try:
        return has_ledger(find_folder(environ))
    except LedgerError:
        return False


def look_at_ledger() -> Ledger:
    """The ledger, to be read; an empty one where there is none. Raises LedgerError."""
    from corral.ledger import Ledger

    return Ledger.look(find_folder(environ))


def may_have_gateway() -> bool:
    """Whether there is a token of a gateway's, so that one may answer where a router is looked for: one stat."""
    if environ.get("CORRAL_TOKEN_FILE"):
        return True
    from os.path import exists

    try:
        return exists(f"{find_folder(environ)}/token")
    except LedgerError:
        return False


class AtGateway:
    """Where a gateway answers at the URL its ledger counts, and what a command does is done there.

    It is looked for first where there is a token of one, and otherwise only where this user's own ledger has nothing
    to tell, so that a router costs nobody time. Without its token a gateway tells nothing: that is an AuthError.
    """

    def __init__(self, args: Namespace, work: Callable[[Gateway], int], *, is_meant: bool = True) -> None:
        self._args, self._work = args, work
        self._may_ask = is_meant

    def first(self) -> int | None:
        """The exit code, where there is a token and a gateway; else None."""
        return self._ask(SHORTLY) if may_have_gateway() else None

    def instead_of(self, known: Collection[object]) -> int | None:
        """The exit code, where nothing is known here and a gateway answers; else None."""
        return None if known else self._ask(AT_ONCE)

    def _ask(self, limits: Timeouts) -> int | None:
        if not self._may_ask:
            return None
        from corral.faces.cli.gateway import try_gateway

        self._may_ask = False
        return try_gateway(self._args, self._work, limits)


def find_pinned(url: str, console: Console, *, may_skip: bool = True) -> tuple[str, ...]:
    """The pinned models of a router; none, and a sentence, where there is no place for a ledger.

    ``may_skip`` says whether the command can do its work without a ledger by --include-pinned.
    Raises LedgerError when there is a ledger that cannot be read: it may protect something.
    """
    try:
        folder = find_folder(environ)
    except LedgerError as error:
        console.say(f"No pins are known: {error.message} {error.hint}")
        return ()
    if not has_ledger(folder):
        return ()
    from corral.ledger import list_pinned

    try:
        return list_pinned(folder, identify(url))
    except LedgerError as error:
        if may_skip:
            error.hint = f"{error.hint} --include-pinned goes on without knowing what is pinned."
        raise


def record_report(
    report: UnloadReport | LoadReport,
    command: str,
    url: str,
    console: Console,
    reasons: Mapping[str, str] | None = None,
) -> None:
    """Write down what was seen to happen to each model, after all has been shown; ``reasons`` is why, by model."""
    console.flush()
    done = [item for item in report.outcomes if item.outcome not in _NOTHING_TRIED]
    rows = []
    for item in done:
        evicted = f"evicted {', '.join(map(show_name, item.evicted))}" if item.evicted else ""
        why = (reasons or {}).get(item.model, "")
        reason = "; ".join(part for part in (why, escape_controls(item.detail), evicted) if part)
        rows.append((item.model, item.outcome, item.freed_bytes, reason))
    _record(rows, command, url, console)


def record_deeds(deeds: Iterable[Deed], command: str, url: str, console: Console) -> None:
    """Write down what was changed in the ledger itself, after all has been shown."""
    console.flush()
    _record([(deed.name, deed.outcome, None, deed.reason) for deed in deeds if deed.is_change], command, url, console)


def _record(rows: Sequence[tuple[str, str, int | None, str]], command: str, url: str, console: Console) -> None:
    if not rows:
        return
    from time import time

    from corral.ledger import make_ids, note, read_owner
    from corral.ops.promises import LogEntry

    router, owner, now = identify(url), read_owner(environ), time()
    entries = [
        LogEntry(made, now, router, owner, command, command, name, outcome, freed_bytes, reason)
        for made, (name, outcome, freed_bytes, reason) in zip(make_ids(len(rows)), rows, strict=True)
    ]
    try:
        note(find_folder(environ), entries)
    except LedgerError as error:
        console.say(f"This was not written to the log: {error.message} {error.hint}")

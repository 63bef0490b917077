"""The log: what was done, by whom, and what was seen to come of it.

New entries go to ``recent``; this takes them over into the ledger when there are many, keeps the newest 100,000, and
reads both as one.
"""

from __future__ import annotations

import os
import time
from json import dumps, loads

from corral.ledger import recent
from corral.ledger.errors import LedgerError
from corral.ledger.place import LEDGER, RECENT
from corral.ops.promises import LogEntry, Owner, RouterKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

KEPT = 100_000
_TOO_MUCH_BYTES = 8 << 20
_BUSY_S = 0.2


def note(folder: str, entries: Sequence[LogEntry], *, full_bytes: int = recent.FULL_BYTES) -> None:
    """Add entries to the log in this folder, which is made where needed.

    At ``full_bytes`` what is recent is taken over into the ledger.
    Raises LedgerError when they could not be written, or when they are far too many to be taken over.
    """
    path = os.path.join(folder, RECENT)
    size = recent.append(path, entries)
    if size < full_bytes:
        return
    try:
        take_over(folder)
    except LedgerError:
        # Another time; until then they are safe where they are. That it never works must be told at some point.
        if size > _TOO_MUCH_BYTES:
            raise


def take_over(folder: str, *, kept: int = KEPT) -> None:
    """Move what is recent into the ledger, and forget the oldest entries beyond ``kept``. Raises LedgerError."""
    from corral.ledger.store import open_for_writing

    store = open_for_writing(os.path.join(folder, LEDGER), busy_s=_BUSY_S)
    path = os.path.join(folder, RECENT)
    try:
        with recent.Recent(path) as file:
            if file.is_contended:
                return
            entries = file.read()
            with store.transaction():
                for entry in entries:
                    # One that is there already was taken over by a process that did not live to empty the file.
                    store.execute(_INSERT, _write(entry))
                store.execute("DELETE FROM log WHERE number <= (SELECT max(number) FROM log) - ?", (kept,))
            file.clear()
    except FileNotFoundError:
        return
    except OSError as error:
        from corral.ledger.errors import explain_os

        raise explain_os(path, error, "written") from None
    finally:
        store.close()


def read_log(
    folder: str,
    *,
    since_wall: float | None = None,
    model: str | None = None,
    router: RouterKey | None = None,
    limit: int | None = None,
) -> tuple[list[LogEntry], int]:
    """The entries in the order in which they were written, and how many older ones ``limit`` left out.

    ``since_wall`` is in seconds since 1970. Raises LedgerError.
    """
    newest = recent.read(os.path.join(folder, RECENT))
    kept = [entry for entry in newest if _fits(entry, since_wall, model, router)]
    from corral.ledger.store import open_for_reading

    store = open_for_reading(os.path.join(folder, LEDGER))
    if store is None:
        return _cut(kept, len(kept), limit)
    try:
        where, values = _describe_filter(since_wall, model, router)
        older = store.read_number(f"SELECT count(*) FROM log {where}", values)
        order = f"SELECT * FROM log {where} ORDER BY number DESC LIMIT ?"
        found = store.read_each(_read, order, (*values, -1 if limit is None else limit))
    finally:
        store.close()
    entries = found[::-1]
    # Read first, the recent ones may since have been taken over.
    known = {entry.id for entry in entries}
    fresh = [entry for entry in kept if entry.id not in known]
    return _cut(entries + fresh, older + len(fresh), limit)


def make_ids(count: int) -> list[str]:
    """Ids for new entries."""
    stem = f"{time.time_ns():x}-{os.getpid():x}"
    return [f"{stem}-{at:x}" for at in range(count)]


def _cut(entries: list[LogEntry], total: int, limit: int | None) -> tuple[list[LogEntry], int]:
    shown = entries if limit is None else entries[max(0, len(entries) - limit) :]
    return shown, total - len(shown)


def _fits(entry: LogEntry, since_wall: float | None, model: str | None, router: RouterKey | None) -> bool:
    return (
        (since_wall is None or entry.wall >= since_wall)
        and (model is None or entry.model == model)
        and (router is None or entry.router.matches(router))
    )


def _describe_filter(
    since_wall: float | None, model: str | None, router: RouterKey | None
) -> tuple[str, tuple[object, ...]]:
    parts: list[str] = []
    values: list[object] = []
    if since_wall is not None:
        parts.append("wall >= ?")
        values.append(since_wall)
    if model is not None:
        parts.append("model = ?")
        values.append(dumps(model))
    if router is not None:
        parts.append("(router = ? OR label = ?)")
        values += [router.key, router.label]
    return f"WHERE {' AND '.join(parts)}" if parts else "", tuple(values)


def _write(entry: LogEntry) -> tuple[object, ...]:
    from corral.ledger.rows import write_text

    router, owner = entry.router, entry.owner
    who = (router.key, router.label, owner.user, owner.host, entry.command, entry.verb)
    what = (dumps(entry.model), write_text(entry.outcome), entry.freed_bytes, write_text(entry.reason))
    return (entry.id, entry.wall, *map(write_text, who), *what)


def _read(row: Any) -> LogEntry:
    router, owner = RouterKey(row["router"], row["label"]), Owner(row["user"], row["host"])
    names = ("command", "verb", "model", "outcome", "freed_bytes", "reason")
    command, verb, model, outcome, freed, reason = (row[name] for name in names)
    return LogEntry(row["id"], row["wall"], router, owner, command, verb, loads(model), outcome, freed, reason)


_INSERT = """
INSERT OR IGNORE INTO log (id, wall, router, label, user, host, command, verb, model, outcome, freed_bytes, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

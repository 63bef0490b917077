"""The ledger's tables, as the steps from each schema version to the next.

Rule for whoever edits this: a step that was released is never changed; a change is a new step at the end.

Ids of models are stored as JSON strings, because they may hold what SQLite's text cannot: lone surrogates.
"""

from __future__ import annotations

from corral.ledger.errors import explain_foreign, explain_newer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.ledger.store import Store

APPLICATION_ID = 0x436F7272
"""Marks the file as Corral's (``PRAGMA application_id``): "Corr"."""
PINNED_ID = 0x436F7270
"""The same of one that holds a pin, "Corp", so that its head tells it (``ledger.header``)."""
READABLE_SINCE = 2
"""Files of this schema and newer ones can be read as they are, where they cannot be brought up."""

_FIRST = (
    """CREATE TABLE holds (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        router TEXT NOT NULL, label TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL,
        created_wall REAL NOT NULL, created_boot REAL, boot_id TEXT NOT NULL,
        duration_s REAL NOT NULL,
        models TEXT, -- NULL: all
        excepted TEXT NOT NULL,
        reason TEXT NOT NULL,
        enforcer_pid INTEGER, enforcer_started INTEGER, enforcer_boot_id TEXT,
        released_wall REAL
    )""",
    """CREATE TABLE pins (
        router TEXT NOT NULL, label TEXT NOT NULL, model TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL,
        pinned_wall REAL NOT NULL,
        PRIMARY KEY (router, model)
    )""",
    """CREATE TABLE sets (
        router TEXT NOT NULL, label TEXT NOT NULL, name TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL,
        models TEXT NOT NULL, saved_wall REAL NOT NULL,
        PRIMARY KEY (router, name)
    )""",
    """CREATE TABLE leases (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        router TEXT NOT NULL, label TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL,
        created_wall REAL NOT NULL, created_boot REAL, boot_id TEXT NOT NULL,
        step TEXT NOT NULL,
        models TEXT NOT NULL, unloaded TEXT NOT NULL,
        hold TEXT, restores INTEGER NOT NULL,
        corral_pid INTEGER NOT NULL, corral_started INTEGER NOT NULL, corral_boot_id TEXT NOT NULL,
        command_pid INTEGER, command_started INTEGER, command_boot_id TEXT,
        ended_wall REAL
    )""",
    """CREATE TABLE log (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        wall REAL NOT NULL,
        router TEXT NOT NULL, label TEXT NOT NULL, user TEXT NOT NULL, host TEXT NOT NULL,
        command TEXT NOT NULL, verb TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL,
        freed_bytes INTEGER, -- NULL: not measured
        reason TEXT NOT NULL
    )""",
)

_HOLDS_REMEMBER = ("ALTER TABLE holds ADD COLUMN unloaded TEXT NOT NULL DEFAULT '[]'",)
"""What was unloaded when a hold began, to be loaded again at its release."""

_HEAD_TELLS_PINS = ("ALTER TABLE pins ADD COLUMN is_told INTEGER NOT NULL DEFAULT 1",)
"""From then on the application id tells whether there may be a pin; ``migrate`` sets it.

The column is for who does not know that: an older Corral that has the file open, whose next pin would not be told.
Its statement, which names no columns, fails by this one.
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _HOLDS_REMEMBER, _HEAD_TELLS_PINS)
"""Item N leads from version N to version N + 1; a new file has version 0."""


def is_current(store: Store, migrations: Sequence[Sequence[str]]) -> bool:
    """Whether the file has the newest schema.

    Raises LedgerError for a newer one, and for a database that is not Corral's. Changes nothing.
    """
    version = store.read_number("PRAGMA user_version")
    if version > len(migrations):
        raise explain_newer(store.path, version, len(migrations))
    if version == 0 and not store.read("SELECT 1 FROM sqlite_master LIMIT 1"):
        return False
    if store.read_number("PRAGMA application_id") not in (APPLICATION_ID, PINNED_ID):
        raise explain_foreign(store.path)
    return version == len(migrations)


def migrate(store: Store, migrations: Sequence[Sequence[str]]) -> None:
    """Bring the file to the newest schema, wholly or not at all; of several processes one does it."""
    with store.transaction():
        if is_current(store, migrations):
            return
        version = store.read_number("PRAGMA user_version")
        for step in migrations[version:]:
            for statement in step:
                store.execute(statement)
        has_pins = store.read_number("SELECT EXISTS (SELECT 1 FROM pins)")
        store.execute(f"PRAGMA application_id = {PINNED_ID if has_pins else APPLICATION_ID}")
        store.execute(f"PRAGMA user_version = {len(migrations)}")

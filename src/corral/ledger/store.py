"""One connection to the ledger's file: opening it with care, short transactions, errors in words.

Writers take SQLite's write lock first (BEGIN IMMEDIATE), so what they read inside a transaction is still so when
they write, and of two processes the second waits. Every commit is on the disk before it returns (synchronous=FULL).
``sqlite3`` is imported here and only when a file is opened.
"""

from __future__ import annotations

import os
from errno import EACCES, EISDIR

from corral.ledger import place
from corral.ledger.errors import explain_damage, explain_os, explain_sqlite
from corral.ledger.schema import MIGRATIONS, READABLE_SINCE, is_current, migrate

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, TypeVar

    Value = TypeVar("Value")

BUSY_S = 5.0
"""How long a writer waits for another."""
_CHECKPOINT_PAGES = 200
_NO_ROOM = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_IOERR", "SQLITE_FULL")
"""What SQLite says where it cannot make the files that it needs beside a WAL database."""


class Store:
    """An open ledger. Not for two threads; raises LedgerError and nothing else of SQLite's."""

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._file = _identify(path)
        self._version: int | None = None
        self.depth = 0
        """How many transactions are open, one within the other."""

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run one statement; returns the number of rows that it changed."""
        return self._run(statement, values).rowcount

    def insert(self, statement: str, values: Sequence[object]) -> int:
        """Run one INSERT; returns the number that the row got."""
        return self._run(statement, values).lastrowid or 0

    def read(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """All rows of a query; columns by name or position."""
        from sqlite3 import Error

        cursor = self._run(statement, values)
        try:
            return cursor.fetchall()
        except Error as error:
            raise explain_sqlite(self.path, error) from None

    def read_each(self, make: Callable[[Any], Value], statement: str, values: Sequence[object] = ()) -> list[Value]:
        """All rows of a query as values; one that holds what Corral does not write is damage."""
        rows = self.read(statement, values)
        try:
            return [make(row) for row in rows]
        except (TypeError, ValueError):
            raise explain_damage(self.path) from None

    def read_number(self, statement: str, values: Sequence[object] = ()) -> int:
        """The one number that a query gives."""
        return int(self.read(statement, values)[0][0])

    def transaction(self) -> Transaction:
        """``with store.transaction():`` all of it is done, or nothing. One within another is a part of that."""
        return Transaction(self)

    def is_changed(self) -> bool:
        """Whether another process has committed since the last call; takes a few microseconds."""
        version = self.read_number("PRAGMA data_version")
        is_new = self._version is not None and version != self._version
        self._version = version
        return is_new

    @property
    def is_replaced(self) -> bool:
        """Whether the file at the path is no longer the one that was opened: moved, deleted or newly made."""
        return _identify(self.path) != self._file

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        from sqlite3 import Error

        try:
            self._connection.close()
        except Error as error:
            raise explain_sqlite(self.path, error) from None

    def _run(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        from sqlite3 import Error

        try:
            return self._connection.execute(statement, values)
        except Error as error:
            raise explain_sqlite(self.path, error) from None


class Transaction:
    """What is executed within is committed at the end, or undone when anything goes wrong."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __enter__(self) -> None:
        if not self._store.depth:
            self._store.execute("BEGIN IMMEDIATE")
        self._store.depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.depth -= 1
        if self._store.depth:
            return
        if kind is None:
            try:
                self._store.execute("COMMIT")
                return
            except BaseException:
                self._undo()
                raise
        self._undo()

    def _undo(self) -> None:
        from corral.ledger.errors import LedgerError

        try:
            self._store.execute("ROLLBACK")
        except LedgerError:
            # SQLite has rolled back by itself, as it does when the disk is full; the first error is what counts.
            return


def open_for_writing(
    path: str,
    *,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
    busy_s: float = BUSY_S,
    mounts: str | None = None,
) -> Store:
    """Open the ledger, making it (mode 0600) or bringing it to this schema where needed. Raises LedgerError.

    ``mounts`` is what ``place.read_mounts`` says; None reads it.
    """
    place.make_folder(os.path.dirname(path))
    try:
        _make_file(path)
    except OSError as error:
        raise explain_os(path, error, "written") from None
    store = _connect(path, busy_s)
    try:
        if not is_current(store, migrations):
            migrate(store, migrations)
        _choose_journal(store, place.read_mounts() if mounts is None else mounts)
    except BaseException:
        store.close()
        raise
    return store


def _make_file(path: str) -> None:
    """Make the file if there is none; raises OSError also where there is one that can't be written.

    One that is there is not opened: closing it again would drop the locks of all connections that this process has
    to it, and the next process to close the ledger would take away the write-ahead log from under them.
    """
    try:
        # SQLite would make the file by the umask; its -wal and -shm take the mode of the file.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if os.path.isdir(path):
            raise IsADirectoryError(EISDIR, os.strerror(EISDIR)) from None
        if not os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(EACCES, os.strerror(EACCES)) from None


def open_for_reading(
    path: str, *, migrations: Sequence[Sequence[str]] = MIGRATIONS, busy_s: float = BUSY_S
) -> Store | None:
    """Open the ledger as it is; None when there is none. Raises LedgerError.

    Works on read-only media and full disks too, as long as the last to write it had closed it.
    """
    try:
        if os.stat(path).st_size == 0:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise explain_os(path, error) from None
    from corral.ledger.errors import LedgerError

    try:
        return _open_current(_connect(path, busy_s), migrations)
    except LedgerError as error:
        if not error.name.startswith(_NO_ROOM) or not _is_at_rest(path):
            raise
        return _open_immutable(path, busy_s, migrations, error)


def open_nothing(path: str) -> Store:
    """A ledger that holds nothing and keeps nothing, for readers where there is no file."""
    store = _connect(path, 0.0, "file::memory:")
    migrate(store, MIGRATIONS)
    return store


def _open_current(store: Store, migrations: Sequence[Sequence[str]]) -> Store | None:
    try:
        if not is_current(store, migrations):
            version = store.read_number("PRAGMA user_version")
            if not version:
                store.close()
                return None
            _bring_up(store, migrations, version)
    except BaseException:
        store.close()
        raise
    return store


def _bring_up(store: Store, migrations: Sequence[Sequence[str]], version: int) -> None:
    """Migrate for a reader, who can do without where nothing can be written."""
    from corral.ledger.errors import LedgerError

    try:
        migrate(store, migrations)
    except LedgerError as error:
        if version < READABLE_SINCE or not error.name.startswith(_NO_ROOM):
            raise


def _open_immutable(path: str, busy_s: float, migrations: Sequence[Sequence[str]], first: Exception) -> Store | None:
    """Where the companion files of a WAL database cannot be made, it opens by the promise that nobody writes it."""
    from urllib.parse import quote

    from corral.ledger.errors import LedgerError

    try:
        return _open_current(_connect(path, busy_s, f"file:{quote(path)}?immutable=1"), migrations)
    except LedgerError:
        raise first from None


def _connect(path: str, busy_s: float, uri: str = "") -> Store:
    import sqlite3

    try:
        connection = sqlite3.connect(uri or path, timeout=busy_s, isolation_level=None, uri=bool(uri))
    except sqlite3.Error as error:
        raise explain_sqlite(path, error) from None
    connection.row_factory = sqlite3.Row
    store = Store(path, connection)
    try:
        store.execute("PRAGMA synchronous = FULL")
        store.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    except BaseException:
        store.close()
        raise
    return store


def _choose_journal(store: Store, mounts: str) -> None:
    """WAL, so that readers and a writer do not wait for each other; not where its shared memory cannot work."""
    is_network = place.is_network(os.path.realpath(store.path), mounts)
    wanted = "delete" if is_network else "wal"
    from corral.ledger.errors import LedgerError

    try:
        if store.read("PRAGMA journal_mode")[0][0] != wanted:
            store.execute(f"PRAGMA journal_mode = {wanted}")
    except LedgerError:
        # Somebody else is in it just now. Either mode is safe; the next one to open it tries again.
        return


def _is_at_rest(path: str) -> bool:
    """Whether all that was committed stands in the file itself."""
    try:
        return os.stat(f"{os.path.realpath(path)}-wal").st_size == 0
    except OSError:
        return True


def _identify(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino

"""The newest log entries, in a plain file beside the ledger: one JSON object a line.

A command that has changed something pays a tenth of a millisecond for its record this way: it imports no database,
makes none, and waits for no disk. From time to time the file is taken over into the ledger and emptied.

Appending and emptying take turns by flock. A line cut short by a crash is passed over; a full disk leaves the file
as it was. Entries survive the end of any process, but the newest may be lost with the power.
"""

from __future__ import annotations

import os
import time
from errno import EACCES, EAGAIN, ENOSPC
from json import dumps, loads

from corral.ledger.errors import explain_os
from corral.ops.promises import LogEntry, Owner, RouterKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

FULL_BYTES = 256 << 10
"""At this size the file should be taken over."""
_PATIENCE_S = 0.5
_PAUSE_S = 0.01
_FAR = 1e12
"""No time is that far away; what is not a number compares as false."""


def append(path: str, entries: Sequence[LogEntry]) -> int:
    """Add entries, making the file (mode 0600) where needed; returns its size then. Raises LedgerError."""
    data = b"".join(_write_line(entry) for entry in entries)
    try:
        with Recent(path, os.O_CREAT) as recent:
            return recent.append(data)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise explain_os(path, error, "written") from None
    from corral.ledger.place import make_folder

    make_folder(os.path.dirname(path))
    try:
        with Recent(path, os.O_CREAT) as recent:
            return recent.append(data)
    except OSError as error:
        raise explain_os(path, error, "written") from None


def read(path: str) -> list[LogEntry]:
    """The entries, oldest first; empty when there is no file. Raises LedgerError."""
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise explain_os(path, error) from None


def parse(data: bytes) -> list[LogEntry]:
    """The entries of a file's content; lines that are none are passed over."""
    found = (_read_line(line) for line in data.split(b"\n") if line.strip())
    return [entry for entry in found if entry is not None]


class Recent:
    """The open file, locked against others; raises OSError."""

    def __init__(self, path: str, extra_flags: int = 0) -> None:
        self._path = path
        self._flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | extra_flags
        self._file = -1
        self.is_contended = False
        """Whether somebody else has kept the lock for too long: what is there must not be cleared."""

    def __enter__(self) -> Recent:
        self._file = os.open(self._path, self._flags, 0o600)
        try:
            self.is_contended = not _lock(self._file)
        except BaseException:
            os.close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Closing it gives up the lock.
        os.close(self._file)

    def append(self, data: bytes) -> int:
        """Add whole lines, all or none; returns the file's size then."""
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            # Somebody was killed within a line.
            data = b"\n" + data
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
        except BaseException:
            os.ftruncate(self._file, size)
            raise
        return size + len(data)

    def read(self) -> list[LogEntry]:
        """The entries, oldest first."""
        return parse(os.pread(self._file, os.fstat(self._file).st_size, 0))

    def clear(self) -> None:
        """Empty the file: its entries are safe elsewhere."""
        os.ftruncate(self._file, 0)


def _lock(file: int) -> bool:
    """Take the lock, trying for half a second: who keeps it longer is stopped or hangs. False when it was not had."""
    from fcntl import LOCK_EX, LOCK_NB, flock

    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            flock(file, LOCK_EX | LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (EAGAIN, EACCES):
                # A file system without locks says so at once, to everybody.
                return True
            if time.monotonic() >= deadline:
                return False
        time.sleep(_PAUSE_S)


def _write_line(entry: LogEntry) -> bytes:
    document = {
        "id": entry.id,
        "time": entry.wall,
        "router": entry.router.key,
        "label": entry.router.label,
        "user": entry.owner.user,
        "host": entry.owner.host,
        "command": entry.command,
        "verb": entry.verb,
        "model": entry.model,
        "outcome": entry.outcome,
        "freed_bytes": entry.freed_bytes,
        "reason": entry.reason,
    }
    return dumps(document).encode("ascii") + b"\n"


def _read_line(line: bytes) -> LogEntry | None:
    try:
        found = loads(line)
        texts = [found[name] for name in _TEXTS]
        freed = found["freed_bytes"]
        wall = float(found["time"])
    except (ValueError, KeyError, TypeError):
        return None
    is_known = freed is None or (isinstance(freed, int) and 0 <= freed < 1 << 63)
    if not all(isinstance(text, str) for text in texts) or not is_known or not abs(wall) < _FAR:
        return None
    identifier, router, label, user, host, command, verb, model, outcome, reason = texts
    who = Owner(user, host)
    return LogEntry(identifier, wall, RouterKey(router, label), who, command, verb, model, outcome, freed, reason)


_TEXTS = ("id", "router", "label", "user", "host", "command", "verb", "model", "outcome", "reason")

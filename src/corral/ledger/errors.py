"""What can be wrong with the ledger, and what to do about it. A file is never deleted or replaced."""

from __future__ import annotations

from errno import EDQUOT, ENOSPC

from corral.wire import CorralError, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3


class LedgerError(CorralError):
    """The ledger cannot be read or written; what it held before is as it was."""

    def __init__(self, message: str, hint: str = "", name: str = "") -> None:
        super().__init__(message, hint)
        self.name = name
        """SQLite's name for it, such as ``SQLITE_FULL``; empty when it was not SQLite's."""


ELSEWHERE = "Set CORRAL_STATE_DIR to a folder that you can write."
_FULL = (ENOSPC, EDQUOT)


def explain_os(path: str, error: OSError, verb: str = "read") -> LedgerError:
    """What the operating system said about a file or folder."""
    said = error.strerror or type(error).__name__
    hint = "Make room there, or set CORRAL_STATE_DIR to another place." if error.errno in _FULL else ELSEWHERE
    return LedgerError(f"{escape_controls(path)} cannot be {verb}: {said}.", hint)


def explain_sqlite(path: str, error: sqlite3.Error) -> LedgerError:
    """What SQLite said about the ledger's file."""
    shown = escape_controls(path)
    name = getattr(error, "sqlite_errorname", None) or ""
    for beginning, sentence, hint in _SENTENCES:
        if name.startswith(beginning):
            return LedgerError(sentence.format(path=shown), hint.format(path=shown), name)
    said = escape_controls(str(error)) or type(error).__name__
    return LedgerError(f"The ledger {shown} cannot be used: {said}.", ELSEWHERE, name)


def explain_damage(path: str) -> LedgerError:
    """A row holds what Corral never wrote."""
    shown = escape_controls(path)
    return LedgerError(f"The ledger {shown} is damaged: it holds what Corral does not write.", _MEND.format(path=shown))


def explain_newer(path: str, found: int, known: int) -> LedgerError:
    """The file was written by a later Corral."""
    return LedgerError(
        f"The ledger {escape_controls(path)} was written by a newer Corral (its schema is {found}, known is {known}).",
        "Upgrade this Corral, or set CORRAL_STATE_DIR to another folder; the file was not touched.",
    )


def explain_foreign(path: str) -> LedgerError:
    """The file is a database, but another program's."""
    return LedgerError(
        f"{escape_controls(path)} is a database, but no ledger of Corral's.",
        "Move it away, or set CORRAL_STATE_DIR to another folder; the file was not touched.",
    )


_MEND = (
    "Move it away with its companions (mv {path}* SOMEWHERE) and Corral begins a new one; there "
    "'sqlite3 ledger.db .recover' shows what can be saved."
)
_SENTENCES = (
    ("SQLITE_NOTADB", "The ledger {path} is damaged: it is no database.", _MEND),
    ("SQLITE_CORRUPT", "The ledger {path} is damaged.", _MEND),
    ("SQLITE_FULL", "The ledger {path} was not changed: the disk is full.", "Make room, then say it again."),
    ("SQLITE_IOERR", "The ledger {path} was not changed: the disk failed or is full.", "Make room, then say it again."),
    ("SQLITE_READONLY", "The ledger {path} cannot be written: it or its folder is read-only.", ELSEWHERE),
    ("SQLITE_BUSY", "The ledger {path} is locked by another process.", "Try again; 'fuser {path}' shows who has it."),
    ("SQLITE_LOCKED", "The ledger {path} is locked by another process.", "Try again; 'fuser {path}' shows who has it."),
    ("SQLITE_CANTOPEN", "The ledger {path} cannot be opened.", "Check who owns it and its folder. " + ELSEWHERE),
    ("SQLITE_PERM", "The ledger {path} cannot be opened.", "Check who owns it and its folder. " + ELSEWHERE),
)

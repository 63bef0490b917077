"""The ledger's file on bad days: newer, older, foreign, damaged, locked, read-only, full."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from corral.ledger import Ledger, LedgerError, note
from corral.ledger.header import may_hold_pins
from corral.ledger.schema import APPLICATION_ID, MIGRATIONS, READABLE_SINCE
from corral.ledger.store import Store, open_for_reading, open_for_writing
from tests.ledger.kit import NOW, OWNER, ROUTER, entry

_NOBODY = 65534
_LATER = (("CREATE TABLE extra (x)",), ("ALTER TABLE pins ADD COLUMN why TEXT NOT NULL DEFAULT ''",))
"""Two schema versions to come, made up."""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """The ledger's file; not there yet."""
    return str(tmp_path / "ledger.db")


def fill(path: str, migrations: tuple[tuple[str, ...], ...] = MIGRATIONS) -> None:
    """Make a ledger with a pin in it."""
    store = open_for_writing(path, migrations=migrations)
    store.execute(
        "INSERT INTO pins (router, label, model, user, host, pinned_wall) VALUES ('k', 'l', '\"a\"', '', '', 1)"
    )
    store.close()


def read_version(path: str) -> int:
    """The schema version in the file."""
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_new_file_is_marked(path: str) -> None:
    """A new ledger has the newest schema, Corral's mark, write-ahead logging, and every commit on the disk."""
    store = open_for_writing(path)

    assert [len(MIGRATIONS), APPLICATION_ID, 2] == [
        store.read_number(f"PRAGMA {name}") for name in ("user_version", "application_id", "synchronous")
    ]
    assert "wal" == store.read("PRAGMA journal_mode")[0][0]
    store.close()


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + len(_LATER)))
def test_every_older_schema_is_brought_up(path: str, version: int) -> None:
    """A ledger of any older schema is brought to the newest when it is opened, and keeps what it holds."""
    newest = MIGRATIONS + _LATER
    if version:
        fill(path, newest[:version])
    store = open_for_writing(path, migrations=newest)

    assert len(newest) == store.read_number("PRAGMA user_version")
    assert (['"a"'] if version else []) == [row["model"] for row in store.read("SELECT * FROM pins")]
    assert [] == store.read("SELECT x FROM extra")
    store.close()


def test_head_tells_whether_there_may_be_pins(path: str) -> None:
    """That nothing is pinned is read from the file itself; a pin shows from its commit on, until the last has gone."""
    open_for_writing(path).close()
    assert not may_hold_pins(path)
    folder = os.path.dirname(path)
    with Ledger.open(folder) as ledger:
        ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)
        during = may_hold_pins(path)
    after = may_hold_pins(path)
    with Ledger.open(folder) as ledger:
        ledger.pins.add(ROUTER, ["a", "b"], owner=OWNER, wall=1.0)
        ledger.pins.remove(ROUTER, ["a"])
    with_one = may_hold_pins(path)
    with Ledger.open(folder) as ledger:
        ledger.pins.remove(ROUTER, ["b"])

    assert during and after and with_one and not may_hold_pins(path)


def test_older_corral_cannot_pin_unseen(path: str) -> None:
    """A Corral from before the head told of pins, which has the file open, fails to write one: it would not be told."""
    old = open_for_writing(path, migrations=MIGRATIONS[:2])
    open_for_writing(path).close()
    with pytest.raises(LedgerError):
        old.execute("INSERT INTO pins VALUES ('k', 'l', '\"a\"', '', '', 1)")
    assert [] == old.read("SELECT * FROM pins")
    old.close()


def test_head_behind_a_symbolic_link(tmp_path: Path) -> None:
    """Where the ledger is a symbolic link, the log that is not moved over yet lies beside what that leads to."""
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").mkdir()
    open_for_writing(str(tmp_path / "real" / "ledger.db")).close()
    link = tmp_path / "linked" / "ledger.db"
    link.symlink_to(tmp_path / "real" / "ledger.db")
    before = may_hold_pins(str(link))
    with Ledger.open(str(link.parent)) as ledger:
        ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)

        assert not before and may_hold_pins(str(link))


def test_head_of_a_file_that_was_cut(path: str) -> None:
    """A ledger of which a part is missing is not believed."""
    open_for_writing(path).close()
    os.truncate(path, 4096)

    assert may_hold_pins(path)


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
@pytest.mark.parametrize("has_pin", [True, False])
def test_head_of_an_older_ledger(path: str, version: int, has_pin: bool) -> None:
    """The head of an older ledger says nothing; brought up, it tells by the pins that are there."""
    if has_pin:
        fill(path, MIGRATIONS[:version])
    else:
        open_for_writing(path, migrations=MIGRATIONS[:version]).close()
    before = may_hold_pins(path)
    open_for_writing(path).close()

    assert before and may_hold_pins(path) == has_pin


@pytest.mark.parametrize("ending", ["", "-wal", "-journal"])
def test_head_that_is_not_the_last_word(path: str, ending: str) -> None:
    """With a log that is still to be moved over, or junk for a file, there may be pins."""
    open_for_writing(path).close()
    Path(path + ending).write_bytes(b"junk")

    assert may_hold_pins(path) and may_hold_pins(f"{path}.gone") and may_hold_pins(os.path.dirname(path))


def test_hold_of_the_first_schema_is_kept(path: str) -> None:
    """A hold that an older Corral wrote goes on, with nothing to be loaded again."""
    store = open_for_writing(path, migrations=MIGRATIONS[:1])
    store.execute(
        "INSERT INTO holds (router, label, user, host, created_wall, boot_id, duration_s, models, excepted, reason) "
        "VALUES ('k', 'l', 'ann', 'box', 1, '', 9, '[\"a\"]', '[]', 'why')"
    )
    store.close()
    with Ledger.open(os.path.dirname(path)) as ledger:
        hold = ledger.holds.find("h1")

    assert hold is not None and (("a",), "why", ()) == (hold.models, hold.reason, hold.unloaded)


def test_reader_brings_up_an_older_schema(path: str) -> None:
    """Who only reads is not kept away by an older schema."""
    fill(path)
    store = open_for_reading(path, migrations=MIGRATIONS + _LATER)

    assert store is not None and [""] == [row["why"] for row in store.read("SELECT * FROM pins")]
    store.close()


def test_migration_is_done_wholly_or_not_at_all(path: str) -> None:
    """A step that fails in the middle leaves version and content as they were."""
    fill(path)
    broken = (*MIGRATIONS, ("DROP TABLE pins", "CREATE TABLE holds (x)"))
    with pytest.raises(LedgerError):
        open_for_writing(path, migrations=broken)

    assert len(MIGRATIONS) == read_version(path)
    store = open_for_writing(path)
    assert 1 == store.read_number("SELECT count(*) FROM pins")
    store.close()


@pytest.mark.parametrize("opener", [open_for_reading, open_for_writing])
def test_newer_schema_is_not_touched(path: str, opener: Callable[[str], Store | None]) -> None:
    """A ledger of a newer Corral is an error that says so, and no byte of it is changed."""
    fill(path, MIGRATIONS + _LATER)
    before = Path(path).read_bytes()
    said = rf"newer Corral \(its schema is {len(MIGRATIONS) + 2}, known is {len(MIGRATIONS)}\)"
    with pytest.raises(LedgerError, match=said) as caught:
        opener(path)

    assert "Upgrade" in caught.value.hint
    assert before == Path(path).read_bytes()


@pytest.mark.parametrize("opener", [open_for_reading, open_for_writing])
@pytest.mark.parametrize("version", [0, 1])
def test_foreign_database_is_not_touched(path: str, opener: Callable[[str], Store | None], version: int) -> None:
    """Another program's database is an error that says so, and is left alone."""
    connection = sqlite3.connect(path)
    connection.executescript(f"CREATE TABLE theirs (x); PRAGMA user_version = {version}")
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(LedgerError, match="no ledger of Corral's"):
        opener(path)

    assert before == Path(path).read_bytes()


@pytest.mark.parametrize("opener", [open_for_reading, open_for_writing])
def test_damaged_file_is_named_and_kept(path: str, opener: Callable[[str], Store | None]) -> None:
    """A file that is no database is an error with its name and what to do; it is never deleted or replaced."""
    Path(path).write_bytes(b"not a database, but long enough to look like one" * 100)
    before = Path(path).read_bytes()
    with pytest.raises(LedgerError, match="is damaged: it is no database") as caught:
        opener(path)

    assert path in caught.value.message and f"mv {path}*" in caught.value.hint
    assert before == Path(path).read_bytes()


def test_damage_inside_is_told(path: str) -> None:
    """Damage that shows only while reading is told in the same way."""
    fill(path)
    with open(path, "r+b") as file:
        # The first page says what tables there are; every other page is spoiled.
        file.seek(4096)
        file.write(b"\xff" * (os.path.getsize(path) - 4096))
    store = open_for_reading(path)
    assert store is not None
    with pytest.raises(LedgerError, match="is damaged"):
        store.read("SELECT * FROM pins")
    store.close()


@pytest.mark.parametrize("junk", ["'[5]'", "'{'", "x'ff'", "''"])
@pytest.mark.parametrize("column", ["holds.models", "holds.excepted", "holds.duration_s", "pins.model", "sets.models"])
def test_junk_in_a_row_is_damage(path: str, column: str, junk: str) -> None:
    """A row that Corral cannot have written is told as damage, by whoever meets it."""
    table, name = column.split(".")
    folder = os.path.dirname(path)
    with Ledger.open(folder) as ledger:
        ledger.holds.add(ROUTER, ("a",), owner=OWNER, duration_s=60.0, now=NOW)
        ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)
        ledger.sets.save("s", ROUTER, ("a",), owner=OWNER, wall=1.0)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE {table} SET {name} = {junk}")
    reads: dict[str, Callable[[Ledger], object]] = {
        "holds": lambda ledger: ledger.holds.list_in_force(NOW),
        "pins": lambda ledger: ledger.pins.list_pins(),
        "sets": lambda ledger: ledger.sets.list_sets(),
    }
    with Ledger.open(folder) as ledger, pytest.raises(LedgerError, match="is damaged"):
        reads[table](ledger)


def test_empty_file_is_a_new_ledger(path: str) -> None:
    """A file that was made but never written, as after a crash, holds nothing, and becomes a ledger when written."""
    Path(path).touch()

    assert None is open_for_reading(path)
    fill(path)
    assert len(MIGRATIONS) == read_version(path)


def test_locked_file_is_told_in_time(path: str) -> None:
    """A writer that another keeps waiting for too long says so."""
    fill(path)
    other = open_for_writing(path)
    store = open_for_writing(path, busy_s=0.05)
    with other.transaction(), pytest.raises(LedgerError, match="locked by another process"), store.transaction():
        pass
    with store.transaction():
        pass
    other.close()
    store.close()


def test_full_file_keeps_what_it_held(path: str) -> None:
    """When there is no more room, the transaction is undone as a whole, and reading goes on."""
    store = open_for_writing(path)
    store.execute(f"PRAGMA max_page_count = {store.read_number('PRAGMA page_count') + 2}")
    insert = "INSERT INTO sets VALUES ('k', 'l', ?, '', '', ?, 1)"
    store.execute(insert, ("first", "[]"))

    def overfill() -> None:
        with store.transaction():
            for number in range(100):
                store.execute(insert, (f"n{number}", "x" * 4000))

    with pytest.raises(LedgerError, match="the disk is full") as caught:
        overfill()

    assert "Make room" in caught.value.hint
    assert ["first"] == [row["name"] for row in store.read("SELECT * FROM sets")]
    store.close()


def test_mistake_within_a_transaction_undoes_it(path: str) -> None:
    """Whatever goes wrong within a transaction, nothing of it stays."""
    store = open_for_writing(path)

    def interrupt() -> None:
        with store.transaction():
            store.execute("INSERT INTO sets VALUES ('k', 'l', 'n', '', '', '[]', 1)")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert [] == store.read("SELECT * FROM sets")
    store.close()
    store.close()


def test_network_file_system_gets_no_wal(path: str) -> None:
    """Where other machines may write too, the ledger does without shared memory; back home it takes it up again."""
    mounts = f"disk / ext4 rw 0 0\nserver:/home {os.path.dirname(os.path.realpath(path))} nfs4 rw 0 0\n"
    store = open_for_writing(path, mounts=mounts)
    assert "delete" == store.read("PRAGMA journal_mode")[0][0]
    store.close()
    store = open_for_writing(path, mounts="disk / ext4 rw 0 0\n")
    assert "wal" == store.read("PRAGMA journal_mode")[0][0]
    store.close()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder that cannot be made is an error that names it and CORRAL_STATE_DIR."""
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match="cannot be made") as caught:
        Ledger.open(str(tmp_path / "file" / "corral"))
    assert "CORRAL_STATE_DIR" in caught.value.hint
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger.look(str(tmp_path / "file" / "corral"))
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(LedgerError, match="cannot be written"):
        Ledger.open(str(tmp_path))


@pytest.fixture
def guest() -> Iterator[Path]:
    """A folder of a user whom file modes bind; as root, the test becomes nobody for as long as it lasts."""
    is_root = os.geteuid() == 0
    with TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        if is_root:
            os.chown(folder, _NOBODY, _NOBODY)
            os.seteuid(_NOBODY)
        try:
            yield folder
        finally:
            folder.chmod(0o700)
            if is_root:
                os.seteuid(0)


def test_read_only_folder(guest: Path) -> None:
    """A ledger at rest on read-only media can be read, and says that it cannot be written."""
    with Ledger.open(str(guest)) as ledger:
        ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=NOW.wall)
    (guest / "ledger.db").chmod(0o400)
    guest.chmod(0o500)
    with Ledger.look(str(guest)) as ledger:
        assert ["a"] == [pin.model for pin in ledger.pins.list_pins()]
    with pytest.raises(LedgerError, match="cannot be written: Permission denied") as caught:
        Ledger.open(str(guest))
    assert "CORRAL_STATE_DIR" in caught.value.hint
    with pytest.raises(LedgerError, match="cannot be written: Permission denied"):
        note(str(guest), [entry(1)])


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_older_ledger_that_cannot_be_brought_up(guest: Path, version: int) -> None:
    """On read-only media an older ledger is read as it is, if it has all that is asked for; else it says why not."""
    fill(str(guest / "ledger.db"), MIGRATIONS[:version])
    (guest / "ledger.db").chmod(0o400)
    guest.chmod(0o500)
    if version < READABLE_SINCE:
        with pytest.raises(LedgerError, match="read-only"):
            Ledger.look(str(guest))
    else:
        with Ledger.look(str(guest)) as ledger:
            assert ["a"] == [pin.model for pin in ledger.pins.list_pins()]
            assert [] == ledger.holds.list_in_force(NOW) == ledger.leases.list_open() == ledger.sets.list_sets()


def test_unreadable_file(guest: Path) -> None:
    """A ledger that this user may not read is told, and is not taken for an empty one."""
    with Ledger.open(str(guest)):
        pass
    (guest / "ledger.db").chmod(0)
    with pytest.raises(LedgerError, match="cannot be opened") as caught:
        Ledger.look(str(guest))
    assert "Check who owns it" in caught.value.hint

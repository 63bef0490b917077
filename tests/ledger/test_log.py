"""The log: what was done is told later, in order, by whichever process asks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from corral.ledger import Ledger, LedgerError, make_ids, note, read_log
from corral.ledger.log import take_over
from tests.ledger.kit import ODD_IDS, OTHER, RENUMBERED, ROUTER, entry


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the log lies; not there yet."""
    return str(tmp_path / "state" / "corral")


def ids(folder: str, **filters: object) -> list[str]:
    """The ids of what the log tells."""
    entries, _ = read_log(folder, **filters)  # type: ignore[arg-type]  # the tests name the right filters
    return [found.id for found in entries]


def test_empty_log(folder: str) -> None:
    """Where nothing was done nothing is told, and reading makes nothing."""
    assert ([], 0) == read_log(folder)
    assert not Path(folder).exists()


def test_entries_come_back_as_they_were(folder: str) -> None:
    """An entry is told with all that was said in it, any id included, before and after it was taken over."""
    told = [
        entry(1, freed_bytes=5 << 30, reason="idle", router=OTHER),
        *(entry(number + 2, model) for number, model in enumerate(ODD_IDS)),
    ]
    note(folder, told)
    assert (told, 0) == read_log(folder)
    take_over(folder)
    assert (told, 0) == read_log(folder)
    assert 0 == (Path(folder) / "recent.ndjson").stat().st_size


def test_recording_makes_no_database(folder: str) -> None:
    """A record costs one small file, private to its owner."""
    note(folder, [entry(1)])

    assert ["recent.ndjson"] == os.listdir(folder)
    assert 0o600 == (Path(folder) / "recent.ndjson").stat().st_mode & 0o777
    assert 0o700 == Path(folder).stat().st_mode & 0o777


def test_filters_hold_for_old_and_new(folder: str) -> None:
    """Time, model, router and number narrow what is told, whether it was taken over or not."""
    note(folder, [entry(1, "a"), entry(2, "b", router=OTHER), entry(3, "a")])
    take_over(folder)
    note(folder, [entry(4, "b"), entry(5, "a", router=RENUMBERED)])

    assert ["id-3", "id-4", "id-5"] == ids(folder, since_wall=3.0)
    assert ["id-1", "id-3", "id-5"] == ids(folder, model="a")
    assert ["id-1", "id-3", "id-4"] == ids(folder, router=ROUTER)
    assert ["id-2", "id-5"] == ids(folder, router=RENUMBERED)
    assert ["id-5"] == ids(folder, router=OTHER, model="a", since_wall=2.0)
    assert [] == ids(folder, limit=0)
    assert ["id-4", "id-5"] == ids(folder, limit=2)
    assert ["id-3", "id-4", "id-5"] == ids(folder, limit=3)
    assert 2 == read_log(folder, limit=3)[1]
    assert ["id-1", "id-2", "id-3", "id-4", "id-5"] == ids(folder, limit=5) == ids(folder)


def test_taking_over_is_done_once(folder: str) -> None:
    """A process that died after taking entries over, before emptying the file, doubles nothing."""
    note(folder, [entry(1), entry(2)])
    recent = Path(folder) / "recent.ndjson"
    before = recent.read_bytes()
    take_over(folder)
    recent.write_bytes(before)

    assert ["id-1", "id-2"] == ids(folder)
    note(folder, [entry(3)])
    take_over(folder)
    assert ["id-1", "id-2", "id-3"] == ids(folder)


def test_oldest_entries_are_forgotten(folder: str) -> None:
    """The log keeps the newest entries, so many and no more, whatever the clock says."""
    note(folder, [entry(number, wall=float(-number)) for number in range(50)])
    take_over(folder, kept=20)
    note(folder, [entry(number) for number in range(50, 60)])
    take_over(folder, kept=20)

    assert [f"id-{number}" for number in range(40, 60)] == ids(folder)


def test_many_entries_are_taken_over_by_themselves(folder: str) -> None:
    """When the file has grown, the next record moves it into the ledger."""
    for number in range(20):
        note(folder, [entry(number)], full_bytes=1000)

    assert (Path(folder) / "ledger.db").exists()
    assert (Path(folder) / "recent.ndjson").stat().st_size < 1000
    assert 20 == len(ids(folder))


def test_line_cut_by_a_crash_is_passed_over(folder: str) -> None:
    """Half a line, an empty one or nonsense hides none of the others, and the next record begins a line of its own."""
    note(folder, [entry(1)])
    with open(Path(folder) / "recent.ndjson", "ab") as file:
        file.write(b'\n[1]\n{"id": "x"}\n\xff\xfe\n{"id": "id-')
    note(folder, [entry(2)])
    for name, value in (("time", "NaN"), ("time", "1e999"), ("freed_bytes", str(1 << 70)), ("id", "7")):
        with open(Path(folder) / "recent.ndjson", "ab") as file:
            file.write(file_line(name, value))
    assert ["id-1", "id-2"] == ids(folder)
    take_over(folder)
    assert ["id-1", "id-2"] == ids(folder)


def file_line(name: str, value: str) -> bytes:
    """A line whose field is not what it should be."""
    texts = ("id", "router", "label", "user", "host", "command", "verb", "model", "outcome", "reason")
    fields = dict.fromkeys(texts, '"x"') | {"time": "1", "freed_bytes": "null"} | {name: value}
    return ("{" + ", ".join(f'"{key}": {text}' for key, text in fields.items()) + "}\n").encode()


def test_damaged_ledger_does_not_stop_records(folder: str) -> None:
    """Records are kept where the ledger cannot take them, and reading says what is wrong."""
    note(folder, [entry(1)])
    (Path(folder) / "ledger.db").write_bytes(b"nonsense" * 1000)
    note(folder, [entry(2)], full_bytes=10)

    with pytest.raises(LedgerError, match="is damaged"):
        read_log(folder)
    (Path(folder) / "ledger.db").unlink()
    assert ["id-1", "id-2"] == ids(folder)


def test_records_pile_up_only_so_far(folder: str) -> None:
    """That they can never be taken over is told when they are far too many."""
    note(folder, [entry(1)])
    (Path(folder) / "ledger.db").write_bytes(b"nonsense" * 1000)
    with open(Path(folder) / "recent.ndjson", "ab") as file:
        file.write(b"\n" * (9 << 20))
    with pytest.raises(LedgerError, match="is damaged"):
        note(folder, [entry(2)])


def test_lock_that_is_never_given_up(folder: str) -> None:
    """A process that stands still with the file in its hands keeps no other from recording, and nothing is cleared."""
    note(folder, [entry(1)])
    with open(Path(folder) / "recent.ndjson", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        note(folder, [entry(2)], full_bytes=10)
    assert ["id-1", "id-2"] == ids(folder)
    assert 0 < (Path(folder) / "recent.ndjson").stat().st_size


def test_taking_over_nothing(folder: str) -> None:
    """Where nothing is recent there is nothing to take over."""
    with Ledger.open(folder):
        take_over(folder)
    assert [] == ids(folder)


def test_place_of_the_log_is_a_folder(folder: str) -> None:
    """A log that cannot be written or read is an error with its name."""
    (Path(folder) / "recent.ndjson").mkdir(parents=True)
    with pytest.raises(LedgerError, match=r"recent\.ndjson cannot be written: Is a directory"):
        note(folder, [entry(1)])
    with pytest.raises(LedgerError, match=r"recent\.ndjson cannot be read: Is a directory"):
        read_log(folder)


def test_ids_differ() -> None:
    """Every entry gets an id of its own."""
    assert 200 == len({*make_ids(100), *make_ids(100)})

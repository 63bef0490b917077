"""The ledger among processes that are killed, that write at the same time, and that find the disk full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import corral
from corral.ledger import Ledger, note, read_log
from corral.ledger.store import open_for_writing
from corral.ops.promises import STEPS
from tests.ledger.kit import NOW, OWNER, ROUTER, entry

ROOT = Path(__file__).resolve().parent.parent.parent
Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Starts one of the programs of ``child.py`` on the test's folder."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.ledger.child", words[0], str(tmp_path), *words[1:]]
        environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def step_and_kill(process: subprocess.Popen[str], steps: int) -> list[str]:
    """Let a child come so many steps far, then kill it; returns what it said."""
    assert process.stdin is not None and process.stdout is not None
    said = []
    for number in range(steps):
        if number:
            process.stdin.write("\n")
            process.stdin.flush()
        said.append(process.stdout.readline().strip())
    process.kill()
    process.wait(20)
    return said


@pytest.mark.parametrize("steps", range(1, 7))
def test_kill_within_a_transaction(child: Child, tmp_path: Path, steps: int) -> None:
    """Killed at any step of a transaction, all of it is there or nothing; the next process goes on."""
    said = step_and_kill(child("transact"), steps)
    store = open_for_writing(str(tmp_path / "ledger.db"))

    expected = ["one", "two"] if "committed" in said else []
    assert expected == [row["name"] for row in store.read("SELECT * FROM sets ORDER BY name")]
    assert "ok" == store.read("PRAGMA integrity_check")[0][0]
    with store.transaction():
        store.execute("DELETE FROM sets")
    store.close()


@pytest.mark.parametrize("steps", range(1, 6))
def test_kill_within_a_migration(child: Child, tmp_path: Path, steps: int) -> None:
    """Killed at any step of a schema change, the old schema and all that it held are there, or the new one."""
    with Ledger.open(str(tmp_path)) as ledger:
        ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)
    said = step_and_kill(child("migrate"), steps)
    if said[-1] == "done":
        return
    with Ledger.open(str(tmp_path)) as ledger:
        assert ["a"] == [pin.model for pin in ledger.pins.list_pins()]
        assert ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=1.0, now=NOW)


@pytest.mark.parametrize("steps", range(1, len(STEPS) + 2))
def test_kill_at_every_step_of_a_lease(child: Child, tmp_path: Path, steps: int) -> None:
    """Killed at any step, a lease that is not over is found by the next process, at that step, with its set."""
    said = step_and_kill(child("lease"), steps)
    with Ledger.look(str(tmp_path)) as ledger:
        found = [(lease.step, lease.models) for lease in ledger.leases.list_open()]

    assert found == ([] if said[-1] == "over" else [(said[-1], ("a", "b"))])


def test_kill_at_any_moment(child: Child, tmp_path: Path) -> None:
    """Killed again and again while it writes: what was said to be done is there, and nothing is there by half."""
    for kill in range(12):
        process = child("write_on")
        assert process.stdout is not None
        for _ in range(1 + kill % 5):
            done = int(process.stdout.readline())
        process.kill()
        process.wait(20)
        store = open_for_writing(str(tmp_path / "ledger.db"))
        rows = store.read("SELECT saved_wall, count(*) FROM sets GROUP BY saved_wall")
        assert {2} == {row[1] for row in rows}
        assert done + 1 <= len(rows)
        assert "ok" == store.read("PRAGMA integrity_check")[0][0]
        store.close()


def test_several_processes_lose_no_update(child: Child, tmp_path: Path) -> None:
    """What each process adds to what it found is there in the end."""
    with Ledger.open(str(tmp_path)) as ledger:
        ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    writers = [child("hammer", who, "40") for who in "abc"]

    assert [0, 0, 0] == [writer.wait(60) for writer in writers]
    expected = {f"{who}-{number}" for who in "abc" for number in range(40)}
    with Ledger.look(str(tmp_path)) as ledger:
        (hold,) = ledger.holds.list_in_force(NOW)
        pins = [pin.model for pin in ledger.pins.list_pins()]
    assert expected == set(hold.excepted)
    assert len(pins) == 121 and expected | {"common"} == set(pins)


def test_several_processes_make_one_ledger(child: Child, tmp_path: Path) -> None:
    """Processes that all find no ledger make one."""
    writers = [child("hammer", who, "0") for who in "abcd"]

    assert [0, 0, 0, 0] == [writer.wait(60) for writer in writers]
    with Ledger.look(str(tmp_path)) as ledger:
        assert [] == ledger.pins.list_pins()


def test_several_processes_lose_no_log_entry(child: Child, tmp_path: Path) -> None:
    """Entries that are written while others are taken over into the ledger are all there, once and in order."""
    writers = [child("scribble", who, "100") for who in "abc"]

    assert [0, 0, 0] == [writer.wait(60) for writer in writers]
    entries, older = read_log(str(tmp_path))
    assert (300, 0) == (len(entries), older)
    for who in "abc":
        assert [f"{who}-{number}" for number in range(100)] == [e.id for e in entries if e.id.startswith(who)]
    assert (tmp_path / "recent.ndjson").stat().st_size < 2000


def test_full_disk(child: Child, tmp_path: Path) -> None:
    """On a full disk the ledger says so and keeps what it held; so does the log."""
    process = child("fill")
    out, _ = process.communicate(timeout=60)
    lines = out.splitlines()

    assert (0, ["before", "before"]) == (process.returncode, lines[-2:])
    assert "was not changed: the disk" in lines[0]
    assert "recent.ndjson cannot be written" in lines[1]
    with Ledger.open(str(tmp_path)) as ledger:
        assert "before" == ledger.pins.list_pins()[0].model
        assert ["more"] == ledger.pins.add(ROUTER, ["more"], owner=OWNER, wall=1.0)
    note(str(tmp_path), [entry(0)])
    entries, _ = read_log(str(tmp_path))
    assert ["id-1", "id-2", "id-0"] == [entries[at].id for at in (0, 1, -1)]
    assert all(len(e.model) in (1, 5000) for e in entries)

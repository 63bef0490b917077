"""What is promised is there for the next process: holds, pins, sets, leases."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.ledger import Ledger, LedgerError, has_ledger, has_open_leases, read_promises
from corral.ops.measurement import Process
from corral.ops.promises import DRAINING, HELD, RESTORING, RUNNING, Actor
from corral.wire import BadArgumentError
from tests.ledger.kit import COMMAND, GUARD, NOW, ODD_IDS, OTHER, OWNER, RENUMBERED, ROUTER, later


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the ledger lies; not there yet."""
    return str(tmp_path / "state" / "corral")


@pytest.fixture
def ledger(folder: str) -> Iterator[Ledger]:
    """A new ledger."""
    with Ledger.open(folder) as opened:
        yield opened


def test_looking_makes_nothing(folder: str) -> None:
    """Who only looks finds nothing where nothing is, and leaves nothing behind."""
    with Ledger.look(folder) as ledger:
        assert [] == ledger.pins.list_pins() == ledger.sets.list_sets() == ledger.leases.list_open()
        assert [] == ledger.holds.list_in_force(NOW)
    assert not has_ledger(folder)
    assert not Path(folder).exists()


def test_private_to_its_owner(ledger: Ledger, folder: str) -> None:
    """Folder and files are for their owner alone."""
    ledger.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)

    assert 0o700 == Path(folder).stat().st_mode & 0o777
    assert {0o600} == {path.stat().st_mode & 0o777 for path in Path(folder).iterdir()}
    assert has_ledger(folder)


def test_hold_is_remembered(ledger: Ledger, folder: str) -> None:
    """A hold is in force for the next process, with all that was said about it."""
    hold = ledger.holds.add(
        ROUTER, ODD_IDS, owner=OWNER, duration_s=60.0, now=NOW, reason="a game \ud800", enforcer=GUARD
    )

    assert ("h1", ODD_IDS, 60.0, GUARD, NOW, "a game ?") == (
        hold.id,
        hold.models,
        hold.duration_s,
        hold.enforcer,
        hold.created,
        hold.reason,
    )
    assert (hold,) == read_promises(folder, later(59)).holds
    assert () == read_promises(folder, later(61)).holds


def test_ids_of_holds_are_never_used_twice(ledger: Ledger) -> None:
    """A hold that ended is forgotten with time, and its id is not given to another."""
    first = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=1.0, now=NOW)
    second = ledger.holds.add(ROUTER, ("a",), owner=OWNER, duration_s=9.0, now=later(2))
    assert ledger.holds.release(second.id, later(3))
    third = ledger.holds.add(ROUTER, ("a",), owner=OWNER, duration_s=9.0, now=later(4))

    assert ["h1", "h2", "h3"] == [first.id, second.id, third.id]
    assert [None, None, third] == [ledger.holds.find(name) for name in ("h1", "h2", "h3")]


def test_release(ledger: Ledger) -> None:
    """A release ends a hold once; there is nothing to end in one that is over or never was."""
    hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)

    assert [True, False, False, False] == [
        ledger.holds.release(name, later(1)) for name in (hold.id, hold.id, "h99", "nonsense")
    ]
    found = ledger.holds.find(hold.id)
    assert found is not None and later(1).wall == found.released_wall
    assert [] == ledger.holds.list_in_force(later(1))


def test_release_of_single_models(ledger: Ledger) -> None:
    """A model can be taken out of a hold, which ends with its last one; a hold on all goes on without it."""
    two = ledger.holds.add(ROUTER, ("a", "b"), owner=OWNER, duration_s=60.0, now=NOW)
    everything = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)

    smaller = ledger.holds.release_models(two.id, ["a"], NOW)
    assert smaller is not None and [False, True] == [smaller.covers("a"), smaller.covers("b")]
    ended = ledger.holds.release_models(two.id, ["b", "b"], NOW)
    assert ended is not None and NOW.wall == ended.released_wall
    assert None is ledger.holds.release_models(two.id, ["b"], NOW)
    assert None is ledger.holds.release_models("h77", ["b"], NOW)
    rest = ledger.holds.release_models(everything.id, ["a"], NOW)
    assert rest is not None and [False, True] == [rest.covers("a"), rest.covers("b")]
    assert [rest] == ledger.holds.list_in_force(NOW)


def test_enforcer_may_change(ledger: Ledger) -> None:
    """A hold says which process sees to it now."""
    hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    ledger.holds.set_enforcer(hold.id, GUARD)
    found = ledger.holds.find(hold.id)

    assert None is hold.enforcer
    assert found is not None and GUARD == found.enforcer


def test_hold_remembers_exceptions_and_what_it_saw_off(ledger: Ledger) -> None:
    """A hold of all but some is that from the start, and what was unloaded for it comes back in its order."""
    hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW, excepted=("b",))
    ledger.holds.set_unloaded(hold.id, ["z", *ODD_IDS])
    found = ledger.holds.find(hold.id)

    assert (True, False, ()) == (hold.covers("a"), hold.covers("b"), hold.unloaded)
    assert found is not None and ("z", *ODD_IDS) == found.unloaded


def test_holds_of_one_router(ledger: Ledger) -> None:
    """A hold is about its router, under its old address or name as well."""
    ours = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    theirs = ledger.holds.add(OTHER, None, owner=OWNER, duration_s=60.0, now=NOW)

    assert [ours] == ledger.holds.list_in_force(NOW, ROUTER)
    assert [theirs] == ledger.holds.list_in_force(NOW, RENUMBERED)
    assert [ours, theirs] == ledger.holds.list_in_force(NOW)


@pytest.mark.parametrize("model", ODD_IDS)
def test_any_id_can_be_pinned(ledger: Ledger, folder: str, model: str) -> None:
    """Any id is pinned, found again and unpinned, character by character."""
    assert [model] == ledger.pins.add(ROUTER, [model], owner=OWNER, wall=5.0)
    (pin,) = read_promises(folder, NOW).pins
    assert (model, ROUTER, OWNER, 5.0) == (pin.model, pin.router, pin.owner, pin.pinned_wall)
    assert [model] == ledger.pins.remove(ROUTER, [model])
    assert [] == ledger.pins.list_pins()


def test_pins_are_pinned_once(ledger: Ledger) -> None:
    """Pinning and unpinning again is nothing new; pins follow a router to its new address."""
    assert ["a", "b"] == ledger.pins.add(OTHER, ["a", "b", "a"], owner=OWNER, wall=1.0)
    assert ["c"] == ledger.pins.add(RENUMBERED, ["a", "c"], owner=OWNER, wall=2.0)
    assert [] == ledger.pins.list_pins(ROUTER)
    assert ["a", "b", "c"] == [pin.model for pin in ledger.pins.list_pins(RENUMBERED)]
    assert ["b", "c"] == ledger.pins.remove(RENUMBERED, ["b", "c", "d"])
    assert ["a"] == [pin.model for pin in ledger.pins.list_pins()]


def test_sets_keep_their_order(ledger: Ledger) -> None:
    """A set is remembered in order, replaced by the next of its name, and forgotten when told."""
    assert None is ledger.sets.save("evening", OTHER, ("b", "a", *ODD_IDS), owner=OWNER, wall=1.0)
    before = ledger.sets.save("evening", RENUMBERED, (), owner=OWNER, wall=2.0)
    ledger.sets.save("evening", ROUTER, ("z",), owner=OWNER, wall=3.0)

    assert before is not None and ("b", "a", *ODD_IDS) == before.models
    found = ledger.sets.find("evening", RENUMBERED)
    assert found is not None and ((), 2.0) == (found.models, found.saved_wall)
    assert [2.0] == [item.saved_wall for item in ledger.sets.list_sets(OTHER)]
    assert [True, False] == [ledger.sets.forget("evening", OTHER) for _ in range(2)]
    assert [("evening", ROUTER)] == [(item.name, item.router) for item in ledger.sets.list_sets()]


@pytest.mark.parametrize("name", ["", " ", " a", "-a", "a\nb", "\x1b[31m", "x" * 101])
def test_names_of_sets_can_be_typed(ledger: Ledger, name: str) -> None:
    """A set's name that nobody could type again is refused."""
    with pytest.raises(BadArgumentError):
        ledger.sets.save(name, ROUTER, (), owner=OWNER, wall=1.0)


def test_lease_goes_step_by_step(ledger: Ledger, folder: str) -> None:
    """A lease remembers its step and all that recovery needs, until it is over."""
    lease = ledger.leases.begin(ROUTER, ("b", "a"), owner=OWNER, corral=GUARD, now=NOW)
    assert ("r1", "saved", None, None, ()) == (lease.id, lease.step, lease.command, lease.hold, lease.unloaded)
    ledger.leases.advance(lease.id, DRAINING, hold="h1")
    ledger.leases.advance(lease.id, DRAINING, unloaded=("b",))
    now = ledger.leases.advance(lease.id, RUNNING, command=COMMAND)

    assert now is not None and (now,) == read_promises(folder, NOW).leases
    assert (RUNNING, "h1", ("b",), COMMAND, ("b", "a"), True) == (
        now.step,
        now.hold,
        now.unloaded,
        now.command,
        now.models,
        now.restores,
    )
    assert [True, False] == [ledger.leases.end(lease.id, 9.0) for _ in range(2)]
    assert None is ledger.leases.advance(lease.id, RUNNING)
    assert [] == ledger.leases.list_open()
    ended = ledger.leases.find(lease.id)
    assert ended is not None and 9.0 == ended.ended_wall
    assert None is ledger.leases.find("h1")


def test_lease_is_claimed_by_one(ledger: Ledger) -> None:
    """Of two processes that find a lease left behind, one becomes responsible; nobody claims what is over."""
    lease = ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW, restores=False)
    first, second = (Actor(Process(pid, 5), "boot-1") for pid in (21, 22))
    claimed = ledger.leases.claim(lease, first)

    assert claimed is not None and (first, False) == (claimed.corral, claimed.restores)
    assert None is ledger.leases.claim(lease, second)
    ledger.leases.end(lease.id, 1.0)
    assert None is ledger.leases.claim(claimed, second)


def test_old_leases_are_forgotten(ledger: Ledger) -> None:
    """Leases that are over do not pile up; open ones stay, however old."""
    old = ledger.leases.begin(OTHER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    for _ in range(130):
        ledger.leases.end(ledger.leases.begin(ROUTER, (), owner=OWNER, corral=GUARD, now=NOW).id, 1.0)

    assert [old] == ledger.leases.list_open() == ledger.leases.list_open(OTHER)
    assert [] == ledger.leases.list_open(ROUTER)
    assert [None, True] == [ledger.leases.find("r2"), ledger.leases.find("r131") is not None]


def test_change_by_another_is_noticed(ledger: Ledger, folder: str) -> None:
    """A reader that asks often learns when somebody else has changed the ledger, and only then."""
    with Ledger.look(folder) as reader:
        assert [False, False] == [reader.changed(), reader.changed()]
        hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
        assert [True, False] == [reader.changed(), reader.changed()]
        assert [hold] == reader.holds.list_in_force(NOW, ROUTER)
        ledger.holds.release(hold.id, NOW)
        assert reader.changed()
        assert [] == reader.holds.list_in_force(NOW, ROUTER)
    assert not ledger.changed()


def test_ledger_that_goes_and_comes_is_noticed(ledger: Ledger, folder: str) -> None:
    """A ledger that is moved away is empty for its readers; a new one at its place is taken up."""
    ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    with Ledger.look(folder) as reader:
        ledger.close()
        (Path(folder) / "ledger.db").rename(Path(folder) / "away.db")
        assert reader.changed()
        assert [] == reader.holds.list_in_force(NOW)
        with Ledger.open(folder) as new:
            new.pins.add(ROUTER, ["a"], owner=OWNER, wall=1.0)
        assert reader.changed()
        assert ["a"] == [pin.model for pin in reader.pins.list_pins()]


def test_ledger_that_comes_back_is_used_again(ledger: Ledger, folder: str) -> None:
    """A folder that is away for a while, as on a disk that is mounted again, is an error only for as long."""
    hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    away = Path(folder).rename(Path(folder).with_name("away"))
    Path(folder).write_bytes(b"")
    with pytest.raises(LedgerError):
        ledger.changed()
    Path(folder).unlink()
    away.rename(folder)

    assert [hold] == ledger.holds.list_in_force(NOW, ROUTER)
    ledger.holds.release(hold.id, NOW)


def test_one_stat_tells_that_nothing_is_owed(ledger: Ledger, folder: str) -> None:
    """While a lease is open there is a mark beside the ledger, and none before and after."""
    seen = [has_open_leases(folder)]
    first = ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    second = ledger.leases.begin(OTHER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    for lease in (first, second):
        seen.append(has_open_leases(folder))
        ledger.leases.end(lease.id, 1.0)
    assert [False, True, True, False] == [*seen, has_open_leases(folder)]
    assert not has_open_leases(f"{folder}/nowhere")


def test_mark_left_behind(ledger: Ledger, folder: str) -> None:
    """A mark without a lease, as a crash may leave it, is removed by whoever finds it to be one."""
    lease = ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    ledger.leases.tidy()
    assert has_open_leases(folder)
    ledger.leases.end(lease.id, 1.0)
    Path(folder, "leases.open").touch()
    ledger.leases.tidy()
    assert not has_open_leases(folder)


def test_no_lease_without_its_mark(ledger: Ledger, folder: str) -> None:
    """Where the mark cannot be made no lease begins: a crash must not go unnoticed."""
    Path(folder, "leases.open").mkdir()
    with pytest.raises(LedgerError, match="cannot be made"):
        ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    assert [] == ledger.leases.list_open()


def test_changes_that_belong_together(ledger: Ledger) -> None:
    """What is changed within one transaction is there as a whole, or not at all."""

    def change(ends_badly: bool) -> None:
        with ledger.transaction():
            lease = ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
            hold = ledger.holds.add(ROUTER, ("a",), owner=OWNER, duration_s=60.0, now=NOW)
            ledger.leases.advance(lease.id, DRAINING, hold=hold.id)
            if ends_badly:
                raise ValueError

    with pytest.raises(ValueError):
        change(True)
    assert [] == ledger.leases.list_open() and [] == ledger.holds.list_in_force(NOW)
    change(False)
    assert (
        ["h1"] == [lease.hold for lease in ledger.leases.list_open()] == [h.id for h in ledger.holds.list_in_force(NOW)]
    )


def test_hand_over(ledger: Ledger) -> None:
    """What one lease cannot put back, because another one's hold covers it, is owed by that one, once."""
    ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW)
    ledger.leases.advance("r1", HELD, hold="h1")

    assert ("a", "b", "c") == ledger.leases.hand_over(("b", "a", "c"), "h1").models  # type: ignore[union-attr]  # there is one
    assert None is ledger.leases.hand_over(("b",), "h9")
    ledger.leases.advance("r1", RESTORING)
    assert None is ledger.leases.hand_over(("d",), "h1")


def test_take_over(ledger: Ledger) -> None:
    """A run that begins its hold while another is putting back takes over what that one may not load any more."""
    ledger.leases.begin(ROUTER, ("a", "b"), owner=OWNER, corral=GUARD, now=NOW)
    ledger.leases.begin(ROUTER, ("x",), owner=OWNER, corral=GUARD, now=NOW)
    ledger.leases.begin(OTHER, ("y",), owner=OWNER, corral=GUARD, now=NOW)
    ledger.leases.begin(ROUTER, ("z",), owner=OWNER, corral=GUARD, now=NOW, restores=False)
    for name in ("r1", "r3", "r4"):
        ledger.leases.advance(name, RESTORING)
    last = ledger.leases.begin(ROUTER, ("c", "b"), owner=OWNER, corral=GUARD, now=NOW)
    some = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=9.0, now=NOW, excepted=("a",))
    every = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=9.0, now=NOW)

    assert ("c", "b") == ledger.leases.take_over(last.id, some).models  # type: ignore[union-attr]  # there is one
    taken = ledger.leases.take_over(last.id, every)
    assert taken is not None and (("c", "b", "a"), ("b", "a")) == (taken.models, tuple(taken.unloaded))
    ledger.leases.end(last.id, 1.0)
    assert None is ledger.leases.take_over(last.id, every)


def test_nothing_is_handed_to_a_run_that_puts_nothing_back(ledger: Ledger) -> None:
    """A lease of a run with --no-restore takes over nothing."""
    ledger.leases.begin(ROUTER, ("a",), owner=OWNER, corral=GUARD, now=NOW, restores=False)
    ledger.leases.advance("r1", HELD, hold="h1")
    assert None is ledger.leases.hand_over(("b",), "h1")


def test_change_of_another_process_is_seen_after_one_of_our_own(ledger: Ledger, folder: str) -> None:
    """Whoever opens and closes the ledger beside an open one, in this process, leaves that one's locks alone."""
    hold = ledger.holds.add(ROUTER, None, owner=OWNER, duration_s=60.0, now=NOW)
    with Ledger.look(folder) as watcher:
        assert not watcher.changed()
        with Ledger.open(folder) as other:
            other.holds.set_unloaded(hold.id, ["a"])
        assert watcher.changed()
        ledger.close()
        program = "import sys; from corral.ledger import Ledger; ledger = Ledger.open(sys.argv[1]); "
        program += "ledger.holds.set_unloaded('h1', sys.argv[2:]); ledger.close()"
        for word in ("b", "c", "d"):
            subprocess.run([sys.executable, "-c", program, folder, word], check=True, timeout=20)
            assert watcher.changed(), word
            found = watcher.holds.find(hold.id)
            assert found is not None and (word,) == found.unloaded

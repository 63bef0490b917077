"""What the ledger's tests run as processes of their own: ``python -m tests.ledger.child WHAT FOLDER WORDS``."""

from __future__ import annotations

import os
import resource
import sys

from corral.ledger import Ledger, LedgerError, note
from corral.ledger.schema import MIGRATIONS
from corral.ledger.store import open_for_writing
from corral.ops.promises import STEPS
from tests.ledger.kit import GUARD, NOW, OWNER, ROUTER, entry


def say(word: str) -> None:
    """Tell the test how far this has come, and go on when it says so, if ever."""
    print(word, flush=True)
    sys.stdin.readline()


def transact(folder: str) -> None:
    """Two rows that belong together, one statement at a time."""
    store = open_for_writing(os.path.join(folder, "ledger.db"))
    transaction = store.transaction()
    say("opened")
    transaction.__enter__()
    say("begun")
    for name in ("one", "two"):
        store.execute("INSERT INTO sets VALUES ('k', 'l', ?, '', '', '[]', 1)", (name,))
        say(name)
    transaction.__exit__(None, None, None)
    say("committed")
    store.close()
    say("closed")


def migrate(folder: str) -> None:
    """A schema change that stops between its statements."""

    class Slow(tuple[str, ...]):
        def __iter__(self):  # type: ignore[no-untyped-def]  # a tuple that takes its time
            for statement in super().__iter__():
                say("step")
                yield statement
            say("step")

    slow = Slow(("CREATE TABLE extra (x)", "ALTER TABLE pins ADD COLUMN why TEXT", "DROP TABLE log"))
    open_for_writing(os.path.join(folder, "ledger.db"), migrations=(*MIGRATIONS, slow)).close()
    say("done")


def lease(folder: str) -> None:
    """A lease that goes through its steps."""
    with Ledger.open(folder) as ledger:
        begun = ledger.leases.begin(ROUTER, ("a", "b"), owner=OWNER, corral=GUARD, now=NOW)
        say(begun.step)
        for step in STEPS[1:]:
            ledger.leases.advance(begun.id, step, hold="h1", unloaded=("a",))
            say(step)
        ledger.leases.end(begun.id, 1.0)
        say("over")


def write_on(folder: str) -> None:
    """Pairs of rows without end, each transaction with a number higher than the last; says each when it is done."""
    store = open_for_writing(os.path.join(folder, "ledger.db"))
    first = store.read_number("SELECT count(*) FROM sets") // 2
    for number in range(first, first + 1_000_000):
        with store.transaction():
            for half in ("a", "b"):
                store.execute("INSERT INTO sets VALUES ('k', 'l', ?, '', '', '[]', ?)", (f"{number}{half}", number))
        print(number, flush=True)


def hammer(folder: str, who: str, times: str) -> None:
    """Changes that each build on what was there before."""
    with Ledger.open(folder) as ledger:
        for number in range(int(times)):
            changed = ledger.holds.release_models("h1", [f"{who}-{number}"], NOW)
            assert changed is not None
            ledger.pins.add(ROUTER, [f"{who}-{number}", "common"], owner=OWNER, wall=1.0)


def scribble(folder: str, who: str, times: str) -> None:
    """Log entries, taken over again and again."""
    for number in range(int(times)):
        note(folder, [entry(number, id=f"{who}-{number}")], full_bytes=2000)


def fill(folder: str) -> None:
    """Write until the disk is full; then show that nothing was lost and that small things still work."""
    with Ledger.open(folder) as ledger:
        ledger.pins.add(ROUTER, ["before"], owner=OWNER, wall=1.0)
        note(folder, [entry(1)])
        # SIGXFSZ is ignored by Python, so that a file at its limit is an error of the write.
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            for number in range(10_000):
                ledger.pins.add(ROUTER, [f"{number}{'x' * 5000}"], owner=OWNER, wall=1.0)
        except LedgerError as error:
            print(error.message)
        try:
            for number in range(2, 10_000):
                note(folder, [entry(number, "x" * 5000)], full_bytes=1 << 30)
        except LedgerError as error:
            print(error.message)
        print(ledger.pins.list_pins()[0].model)
    # No room at all: not even for what SQLite needs beside the ledger in order to read it.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 300_000))
    with Ledger.look(folder) as ledger:
        print(ledger.pins.list_pins()[0].model)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

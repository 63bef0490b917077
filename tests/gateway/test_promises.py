"""What is promised at a gateway, on clocks that jump."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from corral.gateway.gate import Gate
from corral.gateway.promises import PromiseKeeper
from corral.ops.admission import Held, Limits
from corral.ops.door import Door
from corral.ops.promises import Moment, Owner
from tests.gateway.house import run

WALL = 1_800_000_000.0


class Clocks:
    """The three clocks of a machine: the wall's, the one since boot, and the loop's, which stands during a suspend."""

    def __init__(self) -> None:
        self.wall, self.boot_s, self.loop_s = WALL, 5000.0, 100.0

    def pass_by(self, seconds: float, *, set_by: float = 0.0, asleep: bool = False) -> None:
        """Time passes, and somebody sets the wall clock."""
        self.wall += seconds + set_by
        self.boot_s += seconds
        self.loop_s += 0.0 if asleep else seconds

    def read(self) -> Moment:
        """What they say."""
        return Moment(self.wall, self.boot_s, "this-boot", "box")


@asynccontextmanager
async def holding(folder: Path, clocks: Clocks, patience_s: float = 10.0) -> AsyncIterator[PromiseKeeper]:
    """A keeper with a hold of an hour."""
    gate = Gate(Door(Limits()), clock=lambda: clocks.loop_s)
    keeper = PromiseKeeper(str(folder), "http://127.0.0.1:1", gate, lambda: clocks.loop_s, clocks.read, patience_s)
    try:
        await keeper.start()
        await keeper.hold(("beta",), (), Owner("otto", "box"), 3600.0, "")
        yield keeper
    finally:
        await keeper.close()


@pytest.mark.parametrize("set_by", [-86400.0 * 365, 86400.0 * 365, 0.0])
def test_wall_clock_that_is_set(tmp_path: Path, set_by: float) -> None:
    """However the wall clock is set, a hold lasts as long as it was to; its end is told by the clock as it is now."""

    async def work() -> None:
        clocks = Clocks()
        async with holding(tmp_path, clocks) as keeper:
            clocks.pass_by(600.0, set_by=set_by)
            await keeper.catch_up()
            (held,) = keeper.holds
            assert _count_left(held, clocks) == pytest.approx(3000.0)
            ends = {-31536000.0: "2026-01-15 09:00:00", 31536000.0: "2028-01-15 09:00:00", 0.0: "2027-01-15 09:00:00"}
            assert held.until == f"{ends[set_by]} UTC"
            clocks.pass_by(3000.5)
            await keeper.catch_up()
            assert keeper.holds == ()

    run(work())


def test_suspend_counts(tmp_path: Path) -> None:
    """While the machine sleeps a hold goes on: it ends when it was to end, not later by the time of the sleep."""

    async def work() -> None:
        clocks = Clocks()
        async with holding(tmp_path, clocks) as keeper:
            clocks.pass_by(3000.0, asleep=True)
            await keeper.catch_up()
            (held,) = keeper.holds
            assert _count_left(held, clocks) == pytest.approx(600.0)
            clocks.pass_by(601.0, asleep=True)
            await keeper.catch_up()
            assert keeper.holds == ()

    run(work())


def test_ledger_that_hangs(tmp_path: Path) -> None:
    """Whoever only wants to know what is promised is not kept waiting by a ledger that takes its time."""

    async def work() -> None:
        async with holding(tmp_path, Clocks(), patience_s=0.05) as keeper:
            with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                pinning = asyncio.create_task(keeper.pin(["beta"], Owner("otto", "box")))
                for _ in range(3):
                    await keeper.catch_up()
                assert not pinning.done() and len(keeper.holds) == 1
            assert await pinning == ["beta"]
            await keeper.catch_up()
            assert [pin.model for pin in keeper.pins] == ["beta"]

    run(work())


def test_end_beside_a_ledger_that_hangs(tmp_path: Path) -> None:
    """A gateway ends although its ledger takes its time; what was begun is written down all the same."""

    async def work() -> None:
        with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
            async with holding(tmp_path, Clocks(), patience_s=0.05) as keeper:
                other.execute("BEGIN IMMEDIATE")
                pinning = asyncio.create_task(keeper.pin(["beta"], Owner("otto", "box")))
                await asyncio.sleep(0)
                await keeper.close()
                assert not pinning.done()
        assert await pinning == ["beta"]
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    run(work())


def _count_left(held: Held, clocks: Clocks) -> float:
    return held.ends_at - clocks.loop_s

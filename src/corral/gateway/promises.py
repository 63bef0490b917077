"""The ledger behind a gateway: holds, pins, sets and the log, read and written by one thread.

What is in force goes to the gate before the first request is taken, and again whenever anybody changes the ledger:
also a ``corral hold`` on the router's own address, or a second gateway. A ledger that cannot be read at the start is
an error, because it may hold something; one that fails later leaves in force what was known.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TypeVar

from corral.client import identify
from corral.gateway.gate import Gate
from corral.gateway.logs import log, log_action
from corral.ledger import Ledger, LedgerError, make_ids, note, read_log, read_moment, read_owner
from corral.machine.identity import read_boot_id, read_process
from corral.machine.procfs import is_living
from corral.ops.admission import Held
from corral.ops.measurement import Process
from corral.ops.promises import (
    Actor,
    Hold,
    LogEntry,
    Moment,
    Owner,
    Pin,
    Promises,
    RouterKey,
    SavedSet,
    count_left,
    is_enforced,
)
from corral.wire import CorralError, show_name

Value = TypeVar("Value")
LOOK_S = 1.0
"""How soon a change by another process is seen."""
_SLACK_S = 0.5
"""A difference of the clocks that is not worth telling."""


class PromiseKeeper:
    """What is promised about one router."""

    def __init__(
        self,
        folder: str,
        url: str,
        gate: Gate,
        clock: Callable[[], float] = monotonic,
        read_now: Callable[[], Moment] = read_moment,
        patience_s: float = 6.0,
    ) -> None:
        self.router: RouterKey = identify(url)
        self.owner: Owner = read_owner(os.environ)
        """Who runs the gateway."""
        self._folder, self._gate, self._clock, self._read_now = folder, gate, clock, read_now
        self._patience_s = patience_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="corral-ledger")
        self._ledger: Ledger | None = None
        self._promises = Promises()
        self._is_behind = True
        """Whether the ledger holds more than was read; like the ledger for the thread alone."""
        self._actor: Actor | None = None
        self._failure: CorralError | None = None
        """Why the ledger could not be read the last time; None when it could."""
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Put in force what the ledger promises. Raises LedgerError."""
        await self._run(self._open)
        await self._use(self._read)
        self._apply()
        self._task = asyncio.create_task(self._watch(), name="corral-promises")

    async def close(self) -> None:
        """Look no more; what is promised stays in the ledger."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._is_closed:
            return
        self._is_closed = True
        # A disk that hangs must not keep the gateway from ending; what the thread still has to do it does all the same.
        with suppress(LedgerError, TimeoutError):
            async with asyncio.timeout(self._patience_s):
                await asyncio.shield(self._run(self._close))
        self._thread.shutdown(wait=False)

    @property
    def holds(self) -> tuple[Held, ...]:
        """The holds in force now."""
        return self._gate.door.holds

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The pins."""
        return self._promises.pins

    async def hold(
        self, models: tuple[str, ...] | None, excepted: tuple[str, ...], owner: Owner, duration_s: float, reason: str
    ) -> Held:
        """Begin a hold (None: on all models but ``excepted``); it is in force when this returns. Raises LedgerError."""

        def add(ledger: Ledger) -> Hold:
            moment = self._read_now()
            return ledger.holds.add(
                self.router,
                models,
                owner=owner,
                duration_s=duration_s,
                now=moment,
                reason=reason,
                excepted=excepted,
                enforcer=self._actor,
            )

        hold = await self._change(add)
        found = next((held for held in self.holds if held.hold.id == hold.id), None)
        # It may have ended in this moment: it was very short, or somebody was quick to release it.
        return found or Held(hold, self._clock(), _tell_end(hold, self._read_now()))

    async def remember_unloaded(self, hold_id: str, models: Sequence[str]) -> None:
        """Write down what was unloaded when a hold began, so that it can be put back."""
        await self._change(lambda ledger: ledger.holds.set_unloaded(hold_id, models))

    async def release(self, hold_id: str) -> bool:
        """End a hold; False when there was none."""
        return await self._change(lambda ledger: ledger.holds.release(hold_id, self._read_now()))

    async def release_model(self, model: str) -> tuple[str, ...]:
        """Let a model out of all holds; returns their ids."""
        ids = [held.hold.id for held in self.holds if held.hold.covers(model)]

        def let_out(ledger: Ledger) -> None:
            for hold_id in ids:
                ledger.holds.release_models(hold_id, [model], self._read_now())

        await self._change(let_out)
        return tuple(ids)

    async def pin(self, models: Sequence[str], owner: Owner) -> list[str]:
        """Pin models; returns those that were not pinned before."""
        wall = self._read_now().wall
        return await self._change(lambda ledger: ledger.pins.add(self.router, models, owner=owner, wall=wall))

    async def unpin(self, models: Sequence[str]) -> list[str]:
        """Take pins away; returns those that were pinned."""
        return await self._change(lambda ledger: ledger.pins.remove(self.router, models))

    async def list_sets(self) -> list[SavedSet]:
        """The sets by name."""
        return await self._use(lambda ledger: ledger.sets.list_sets(self.router))

    async def save_set(self, name: str, models: tuple[str, ...], owner: Owner) -> SavedSet | None:
        """Remember a set; returns the one of that name from before."""
        wall = self._read_now().wall
        return await self._change(lambda ledger: ledger.sets.save(name, self.router, models, owner=owner, wall=wall))

    async def forget_set(self, name: str) -> bool:
        """Forget a set; False when there was none."""
        return await self._change(lambda ledger: ledger.sets.forget(name, self.router))

    async def read_log(
        self, since_wall: float | None, model: str | None, limit: int | None
    ) -> tuple[list[LogEntry], int]:
        """The newest entries, oldest first, and how many older ones there are."""
        return await self._run(
            lambda: read_log(self._folder, since_wall=since_wall, model=model, router=self.router, limit=limit)
        )

    async def record(self, owner: Owner, command: str, rows: Sequence[tuple[str, str, int | None, str]]) -> None:
        """Write down what was done, in the ledger and in the gateway's own log.

        A row has a model's id, the outcome, what was freed and why.
        """
        if rows:
            told = ", ".join(f"{show_name(name)} {outcome.replace('_', ' ')}" for name, outcome, _, _ in rows)
            log_action(owner.label, command, told)
        wall = self._read_now().wall
        entries = [
            LogEntry(made, wall, self.router, owner, command, command, name, outcome, freed_bytes, reason)
            for made, (name, outcome, freed_bytes, reason) in zip(make_ids(len(rows)), rows, strict=True)
        ]
        try:
            if entries:
                await self._run(lambda: note(self._folder, entries))
        except LedgerError as error:
            log.warning("this was not written to the ledger: %s %s", error.message, error.hint)

    async def catch_up(self) -> None:
        """Put in force what others have written to the ledger; one that fails now leaves in force what was known."""
        failure: CorralError | None = None
        try:
            # An unload must not wait for a disk that hangs.
            async with asyncio.timeout(self._patience_s):
                await self._use(self._catch_up)
        except CorralError as error:
            failure = error
        except TimeoutError:
            failure = LedgerError("the ledger does not answer.", "Look at the disk that it lies on.")
        except Exception as error:  # noqa: BLE001 - a row that nobody can read must not end the watch over all others
            failure = LedgerError(f"the ledger cannot be read: {type(error).__name__}: {error}.")
        if failure is not None and self._failure is None:
            log.warning("what was promised stays in force, but %s %s", failure.message, failure.hint)
        elif failure is None and self._failure is not None:
            log.info("the ledger can be used again")
        self._failure = failure
        # Also without a change: holds end, and after a suspend the clocks have drifted apart.
        self._apply()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            await self.catch_up()

    def _apply(self) -> None:
        moment, now = self._read_now(), self._clock()
        holds = [held for held in (_place(hold, moment, now) for hold in self._promises.holds) if held.ends_at > now]
        pinned = frozenset(pin.model for pin in self._promises.pins)
        before = self._gate.door.holds
        if pinned == self._gate.door.pinned and len(before) == len(holds) and all(map(_is_same, before, holds)):
            return
        self._gate.promise(holds, pinned)

    # In the thread.

    def _open(self) -> None:
        self._ledger = Ledger.open(self._folder)
        self._ledger.changed()
        process = read_process(os.getpid())
        self._actor = None if process is None else Actor(process, read_boot_id() or "")

    def _close(self) -> None:
        if self._ledger is not None:
            self._ledger.close()

    def _catch_up(self, ledger: Ledger) -> None:
        known = self._promises.holds
        was_replaced = ledger.is_replaced
        self._is_behind = ledger.changed() or was_replaced or self._is_behind
        # Who saw to a hold may have died without a word: a second gateway, or a command beside the router.
        if not self._is_behind and not self._list_orphaned(known, self._read_now()):
            return
        self._read(ledger)
        left = {hold.id for hold in self._promises.holds}
        gone = [hold.id for hold in known if hold.id not in left] if was_replaced else []
        if gone:
            log.warning("the ledger was moved or deleted, and these holds with it: %s", ", ".join(gone))

    def _read(self, ledger: Ledger) -> None:
        """What is promised; a hold that nobody sees to any more is seen to by this process."""
        moment = self._read_now()
        promises = ledger.read_promises(moment).select(self.router)
        left = self._list_orphaned(promises.holds, moment)
        for hold in left:
            # Where the disk is full, it is in force all the same.
            with suppress(LedgerError):
                ledger.holds.set_enforcer(hold.id, self._actor)
        self._promises = ledger.read_promises(moment).select(self.router) if left else promises
        self._is_behind = False

    def _list_orphaned(self, holds: Sequence[Hold], moment: Moment) -> list[Hold]:
        """Those in force that nobody sees to any more, as far as this process can do so."""
        if self._actor is None:
            return []
        in_force = [hold for hold in holds if count_left(hold, moment) > 0]
        return [hold for hold in in_force if is_enforced(hold, moment, _find_living(hold)) is False]

    async def _change(self, work: Callable[[Ledger], Value]) -> Value:
        """Change the ledger and put in force what it says then. Raises LedgerError.

        Where that fails, or nobody waits for it any more, the next look catches up.
        """

        def run(ledger: Ledger) -> Value:
            # A file that was moved away is not the ledger any more.
            ledger.changed()
            self._is_behind = True
            found = work(ledger)
            self._read(ledger)
            return found

        found = await self._use(run)
        self._apply()
        return found

    async def _use(self, work: Callable[[Ledger], Value]) -> Value:
        def run() -> Value:
            assert self._ledger is not None, "it was started"
            return work(self._ledger)

        return await self._run(run)

    async def _run(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _find_living(hold: Hold) -> list[Process]:
    return [hold.enforcer.process] if hold.enforcer is not None and is_living("/proc", hold.enforcer.process) else []


def _place(hold: Hold, moment: Moment, now: float) -> Held:
    """A hold on the door's clock."""
    return Held(hold, now + count_left(hold, moment), _tell_end(hold, moment))


def _tell_end(hold: Hold, moment: Moment) -> str:
    ends = datetime.fromtimestamp(round(moment.wall + count_left(hold, moment)), UTC)
    return f"{ends:%Y-%m-%d %H:%M:%S} UTC"


def _is_same(one: Held, other: Held) -> bool:
    # The end in words moves when the wall clock is set.
    return one.hold == other.hold and one.until == other.until and abs(one.ends_at - other.ends_at) < _SLACK_S

"""What operators and the door have done at the router: drains, loads, room. Each is written to the log once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from corral.client.aio import AsyncRouter
from corral.gateway.admission import Refusal
from corral.gateway.drains import Drain, Drains, Order, run_unload
from corral.gateway.gate import Gate
from corral.gateway.promises import PromiseKeeper
from corral.gateway.tasks import Tasks
from corral.gateway.watcher import Watcher
from corral.ops import Load, LoadReport, Outcome, Selection, select
from corral.ops import outcome as words
from corral.ops.promises import Owner
from corral.wire import CorralError, Listing, Model, RefusedError, escape_controls, show_name

LOAD_S = 600.0
_NOTHING_DONE = frozenset({words.ALREADY_UNLOADED, words.ALREADY_LOADED, words.NOT_REQUESTED})


class Operator:
    """Acts on one router. Every method tells the outcome of each model, and none of them raises for one."""

    def __init__(self, router: AsyncRouter, gate: Gate, watcher: Watcher, promises: PromiseKeeper) -> None:
        self._router, self._gate, self._watcher, self._promises = router, gate, watcher, promises
        self.drains = Drains(router, gate, self._note_drain)
        self._tasks = Tasks()
        gate.hand = self

    async def close(self) -> None:
        """Stop; the router goes on with what it was asked."""
        await self.drains.close()
        await self._tasks.close()

    async def find(self, selection: Selection) -> tuple[Listing, list[Model]]:
        """The models that are meant, by a fresh list. Raises CorralError, UnknownModelError among them."""
        listing = await self._watcher.refresh()
        return listing, select(listing, selection)

    async def begin_unload(self, selection: Selection, order: Order) -> tuple[list[Drain], list[Outcome]]:
        """Begin to drain what is meant and resident; of what was named and is not, the outcome is told at once.

        Raises CorralError, UnknownModelError among them.
        """
        _, models = await self.find(selection)
        resident = [model for model in models if model.is_resident or model.status == "downloading"]
        idle = [
            Outcome(model.id, words.ALREADY_UNLOADED, model.status)
            for model in models
            if model not in resident and selection.names
        ]
        return self.drains.begin([(model.id, model.stop_timeout_s) for model in resident], order), idle

    async def unload(self, selection: Selection, order: Order) -> list[Outcome]:
        """Drain and unload what is meant, and wait for the end of it. Raises CorralError."""
        drains, outcomes = await self.begin_unload(selection, order)
        # Whoever asked may go away: the drains go on.
        return [*await asyncio.gather(*(asyncio.shield(drain.result) for drain in drains)), *outcomes]

    async def load(self, names: Sequence[str], owner: Owner, command: str) -> list[Outcome]:
        """Load models one after another, through the door. Raises CorralError."""
        _, models = await self.find(Selection(tuple(names)))
        outcomes = []
        for model in models:
            if model.is_resident and model.status != "loading":
                outcomes.append(Outcome(model.id, words.ALREADY_LOADED, model.status))
                continue
            refusal = await self._gate.admit_load(model.id)
            outcomes.append(_tell_load(model.id, refusal))
        await self._record(owner, command, outcomes)
        return outcomes

    # What the door asks for.

    def begin_load(self, model: str) -> None:
        """Load a model, and tell the door."""
        self._tasks.start(self._load(model))

    def begin_room(self, victim: str, wanted: str) -> None:
        """Unload an idle model for another one, and tell the door."""
        self._tasks.start(self._make_room(victim, wanted))

    async def _load(self, model: str) -> None:
        failure = "the gateway was stopped"
        try:
            report: LoadReport = await self._router.run(Load((model,), timeout_s=LOAD_S))
            outcome = report.outcomes[0]
            is_up = outcome.outcome in (words.LOADED, words.ALREADY_LOADED)
            failure = "" if is_up else outcome.detail or outcome.outcome.replace("_", " ")
        except CorralError as error:
            failure = error.message.removesuffix(".")
        finally:
            with suppress(CorralError):
                await self._watcher.refresh()
            self._gate.answer_load(model, failure)

    async def _make_room(self, victim: str, wanted: str) -> None:
        is_gone = False
        try:
            outcome = (await run_unload(self._router, [victim], 0.0, False))[victim]
            is_gone = outcome.outcome in (words.UNLOADED, words.NOT_SEEN_FREE, words.ALREADY_UNLOADED)
            row = (victim, outcome.outcome, outcome.freed_bytes, f"room for {show_name(wanted)}")
            if outcome.outcome not in _NOTHING_DONE:
                await self._promises.record(Owner("gateway", self._promises.owner.host), "make-room", [row])
        except CorralError:
            # It stays; the door tries another, or again later.
            is_gone = False
        finally:
            self._gate.answer_room(victim, is_gone=is_gone)

    # The log.

    def _note_drain(self, drain: Drain, outcome: Outcome) -> None:
        self._tasks.start(self._record(drain.order.owner, drain.order.command, [outcome]))

    async def _record(self, owner: Owner, command: str, outcomes: Sequence[Outcome]) -> None:
        rows = [
            (item.model, item.outcome, item.freed_bytes, escape_controls(item.detail))
            for item in outcomes
            if item.outcome not in _NOTHING_DONE
        ]
        await self._promises.record(owner, command, rows)


def _tell_load(model: str, refusal: Refusal | None) -> Outcome:
    """The outcome of a load that went through the door."""
    if refusal is None:
        return Outcome(model, words.LOADED, "loaded")
    name = words.LOAD_FAILED if refusal.code == "load_failed" else words.REFUSED
    error = RefusedError(refusal.message, status=refusal.status, kind=refusal.code)
    return Outcome(model, name, None, detail=refusal.message, error=error)

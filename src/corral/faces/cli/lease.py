"""The steps of a lease, each written down before what it names is done, and how a lease is settled in the end.

``corral run`` takes them one by one; ``corral recover`` settles what a run that was killed has left behind.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from os import environ

from corral.faces.cli.restoring import restore
from corral.ledger import LedgerError, read_moment, read_owner
from corral.machine import read_process
from corral.ops import LoadReport, Outcome
from corral.ops.measurement import Process
from corral.ops.outcome import NOT_REQUESTED
from corral.ops.promises import DRAINING, FREED, HELD, RESTORING, RUNNING, Actor, count_left, is_in_force, list_owed
from corral.wire import CorralError, Record, UnknownModelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ledger import Ledger
    from corral.ops.promises import Hold, Lease, RouterKey
    from corral.wire import Listing, Model

STOPPING_S = 1.0
"""What is added to a stop-timeout before it is concluded that a model does not stop."""


class Cover(Record):
    """What a hold is about."""

    models: tuple[str, ...] | None
    """Ids; None means all but ``excepted``."""
    excepted: tuple[str, ...] = ()


class LeaseOverError(CorralError):
    """Somebody else has dealt with the lease, such as ``corral recover --force``."""


class LeaseLostError(LedgerError):
    """The ledger does not know the lease any more: it was replaced or deleted."""


class Settled(Record):
    """What became of a lease in the end."""

    report: LoadReport
    """Of what was put back; empty when nothing was owed."""
    handed: dict[str, str]
    """Models that another run keeps away and will put back in our place, with the id of its lease."""
    is_over: bool
    """Whether nothing is owed any more; else ``corral recover`` goes on."""
    unwritten: LedgerError | None = None
    """Why the end of the hold could not be written down; it ends at its expiry."""


class OpenLease:
    """A lease that this process is responsible for. Every method raises LedgerError; most raise LeaseOverError."""

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger = ledger
        self._lease = lease
        self.hold: Hold | None = None

    @classmethod
    def begin(cls, ledger: Ledger, router: RouterKey, models: tuple[str, ...], *, restores: bool) -> OpenLease:
        """Write down what is to be put back; nothing was touched yet."""
        lease = ledger.leases.begin(
            router, models, owner=read_owner(environ), corral=name_self(), now=read_moment(), restores=restores
        )
        return cls(ledger, lease)

    @property
    def id(self) -> str:
        """Such as ``r3``."""
        return self._lease.id

    @property
    def lease(self) -> Lease:
        """The lease as it was last written."""
        return self._lease

    def begin_hold(self, cover: Cover, duration_s: float, reason: str) -> Hold:
        """Put the hold in force."""
        with self._ledger.transaction():
            self.hold = self._ledger.holds.add(
                self._lease.router,
                cover.models,
                owner=self._lease.owner,
                duration_s=duration_s,
                now=read_moment(),
                reason=reason,
                excepted=cover.excepted,
                enforcer=self._lease.corral,
            )
            self._advance(HELD, hold=self.hold.id)
            self._lease = self._ledger.leases.take_over(self._lease.id, self.hold) or self._lease
        return self.hold

    def ask(self, model: str, *, is_owed: bool = True) -> None:
        """This model is about to be asked to unload; ``is_owed`` where it is to come back, in the set or not so far."""
        with self._ledger.transaction():
            # Another run may have handed over some of its own meanwhile.
            found = self._ledger.leases.find(self._lease.id) or self._lease
            if found.step != DRAINING or model not in found.unloaded:
                owed = (model,) if is_owed else ()
                models, unloaded = (tuple(dict.fromkeys((*old, *owed))) for old in (found.models, found.unloaded))
                self._advance(DRAINING, models=models, unloaded=unloaded)

    def free(self, models: tuple[str, ...]) -> None:
        """These were seen unloaded; the command is about to be started."""
        self._advance(FREED, unloaded=models)

    def run(self, command: Process) -> None:
        """This process is about to become the command."""
        self._advance(RUNNING, command=Actor(command, self._lease.corral.boot_id))

    def is_changed(self) -> bool:
        """Whether somebody has changed the ledger since this was asked last."""
        return self._ledger.changed()

    def is_expired(self) -> bool:
        """Whether the hold has lasted as long as it was to, a suspended machine's time included."""
        return self.hold is not None and count_left(self.hold, read_moment()) <= 0

    def read_others(self) -> list[Hold]:
        """All holds on its router, its own included."""
        return self._ledger.holds.list_in_force(read_moment(), self._lease.router)

    def read_hold(self) -> Hold | None:
        """The hold as it is now; None when it is over."""
        now = read_moment()
        found = None if self.hold is None else self._ledger.holds.find(self.hold.id)
        return found if found is not None and is_in_force(found, now) else None

    def settle(
        self, router: Router, console: Console, *, timeout_s: float | None = None, stopping: tuple[str, ...] = ()
    ) -> Settled:
        """End the hold, put back what is owed and, if that was done as far as it can be, end the lease.

        ``stopping`` are models that were asked to unload by somebody else in this process and may still be listed.
        Where nothing can be written any more the models come back all the same, and the lease stays.
        """
        unwritten, before = None, self._lease
        try:
            before = self._begin_to_settle()
        except LedgerError as error:
            unwritten = error
        owed = list_owed(before)
        if owed:
            wait_until_gone(router, before.unloaded if before.step == DRAINING else stopping)
        report, handed = self._put_back(owed, router, console, timeout_s)
        is_over = not (report.error or report.interrupted or _is_left_undone(report))
        if unwritten is not None:
            is_over = is_over and isinstance(unwritten, LeaseLostError)
        elif is_over:
            self._ledger.leases.end(self._lease.id, time.time())
        return Settled(report, handed, is_over, unwritten)

    def _begin_to_settle(self) -> Lease:
        """Write down what is about to be done; returns the lease as it was before."""
        with self._ledger.transaction():
            before = self._ledger.leases.find(self._lease.id) or self._lease
            self._advance(RESTORING)
            if before.hold is not None:
                self._ledger.holds.release(before.hold, read_moment())
            return before

    def _put_back(
        self, owed: tuple[str, ...], router: Router, console: Console, timeout_s: float | None
    ) -> tuple[LoadReport, dict[str, str]]:
        """Load one after another; before each it is seen whether another run holds it by now, and takes it over."""
        outcomes: list[Outcome] = []
        handed: dict[str, str] = {}
        started = time.monotonic()
        end, known, own = LoadReport((), 0.0), len(self._lease.models), self._lease.hold
        for at, model in enumerate(owed):
            taker = self._hand_over(model)
            if taker is not None:
                handed[model] = taker
                continue
            left_s = None if timeout_s is None else max(0.001, timeout_s - (time.monotonic() - started))
            try:
                end = restore(
                    router,
                    [model],
                    console,
                    proven_max=known,
                    has_evicted=any(item.evicted for item in outcomes),
                    timeout_s=left_s,
                    own_hold=own,
                )
            except CorralError as error:
                if not outcomes:
                    raise
                end = LoadReport((Outcome(model, NOT_REQUESTED, None),), 0.0, error=error)
            outcomes += end.outcomes
            if end.interrupted or end.error is not None:
                outcomes += [Outcome(rest, NOT_REQUESTED, None) for rest in owed[at + 1 :]]
                break
        return LoadReport(tuple(outcomes), time.monotonic() - started, end.interrupted, end.error), handed

    def _hand_over(self, model: str) -> str | None:
        """Let another run whose hold covers a model put it back when it ends; returns the id of its lease."""
        with suppress(LedgerError):
            holds = self._ledger.holds.list_in_force(read_moment(), self._lease.router)
            for hold in holds:
                # Ours is still there where its end could not be written down.
                is_another = hold.id != self._lease.hold and hold.covers(model)
                found = is_another and self._ledger.leases.hand_over((model,), hold.id)
                if found:
                    return found.id
        return None

    def _advance(self, step: str, **known: object) -> None:
        lease = self._ledger.leases.advance(self._lease.id, step, **known)  # type: ignore[arg-type]  # as it takes them
        if lease is None and self._ledger.leases.find(self._lease.id) is None:
            raise LeaseLostError(f"The ledger does not know lease {self._lease.id} any more: it was replaced.")
        if lease is None:
            raise LeaseOverError(
                f"Lease {self._lease.id} is over: another process has dealt with it.",
                "'corral log' and 'corral ps' show what was done, and what is resident now.",
            )
        self._lease = lease


def name_self() -> Actor:
    """This process, for certain."""
    return Actor(read_process() or Process(os.getpid(), 0), read_moment().boot_id)


def wait_until_gone(router: Router, models: tuple[str, ...]) -> None:
    """Wait for models that were asked to stop: until then the list shows them as if nothing had happened."""
    stopping = [model for model in _find(router.list_models(), models) if model.is_resident]
    if stopping:
        limit_s = max(model.stop_timeout_s for model in stopping) + STOPPING_S
        with suppress(UnknownModelError):
            # One that has left the list meanwhile has stopped as well.
            report = router.wait(*[model.id for model in stopping], state="unloaded", timeout_s=limit_s)
            if report.interrupted:
                raise KeyboardInterrupt


def _find(listing: Listing, models: tuple[str, ...]) -> list[Model]:
    return [model for model in listing.models if model.id in models]


def _is_left_undone(report: LoadReport) -> bool:
    """Whether anything was not even tried."""
    return any(item.outcome in ("not_requested", "unreachable", "denied") for item in report.outcomes)

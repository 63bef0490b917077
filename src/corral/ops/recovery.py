"""Which leases to recover: those that a run which was killed has left behind, and no others."""

from __future__ import annotations

from corral.ops.promises import AT_WORK, COMMAND_LIVES, ELSEWHERE, LEFT_BEHIND, OVER, judge_lease
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from corral.ops.measurement import Process
    from corral.ops.promises import Lease, Moment

RECOVER = "recover"
LEAVE = "leave"
"""There is nothing to be done about it."""
REFUSE = "refuse"
"""Something stands in the way that a person must deal with."""


class Recovery(Record):
    """What is to be done about one lease."""

    lease: Lease
    action: str
    verdict: str
    """What has become of the lease, by ``judge_lease``."""
    reason: str
    """In words, why."""


def plan_recovery(
    leases: Sequence[Lease], now: Moment, living: Collection[Process], *, is_named: bool, force: bool
) -> list[Recovery]:
    """Decide about each of these leases; ``living`` are those of their processes that were seen alive.

    With ``force`` a set comes back though its command lives. What was named and cannot be recovered is refused;
    otherwise only a command that lives stands in the way.
    """
    return [_decide(lease, judge_lease(lease, now, living), is_named, force) for lease in leases]


def list_actors(leases: Sequence[Lease]) -> list[Process]:
    """The processes whose life decides about these leases."""
    found = [actor for lease in leases for actor in (lease.corral, lease.command) if actor is not None]
    return [actor.process for actor in found]


def _decide(lease: Lease, verdict: str, is_named: bool, force: bool) -> Recovery:
    standing = REFUSE if is_named else LEAVE
    if verdict == LEFT_BEHIND:
        return Recovery(lease, RECOVER, verdict, "its corral is gone")
    if verdict == COMMAND_LIVES:
        pid = lease.command.process.pid if lease.command is not None else 0
        if force:
            return Recovery(lease, RECOVER, verdict, f"its command (pid {pid}) still runs, and --force was said")
        return Recovery(lease, REFUSE, verdict, f"its command still runs (pid {pid}) and uses what was freed")
    if verdict == AT_WORK:
        return Recovery(lease, standing, verdict, f"its corral is at work (pid {lease.corral.process.pid})")
    if verdict == ELSEWHERE:
        where = f"it was taken on {lease.owner.host}, and what runs there cannot be seen from here"
        return Recovery(lease, standing, verdict, where)
    assert verdict == OVER, verdict
    return Recovery(lease, LEAVE, verdict, "nothing is owed any more")

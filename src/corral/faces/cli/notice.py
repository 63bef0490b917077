"""The line that every command says when a ``corral run`` was killed and its set is still owed."""

from __future__ import annotations

from os import environ

from corral.ledger import has_open_leases
from corral.ledger.place import find_folder
from corral.wire import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.faces.cli.console import Console
    from corral.ops.promises import Lease

_SILENT = frozenset({"recover", "completion"})
"""One says it all by itself; the other is read by a shell at its start."""
_NAMED = 3


def warn_of_leases(command: str, console: Console) -> None:
    """Say what was left behind; costs one stat where no lease is open, and says nothing on trouble."""
    if command in _SILENT:
        return
    try:
        folder = find_folder(environ)
        if has_open_leases(folder):
            _look(folder, console)
    except (CorralError, OSError):
        # 'corral doctor' tells what is wrong with the ledger; this command may not need it.
        return


def _look(folder: str, console: Console) -> None:
    from corral.ledger import Ledger, read_moment
    from corral.machine import find_living
    from corral.ops.promises import COMMAND_LIVES, LEFT_BEHIND, judge_lease
    from corral.ops.recovery import list_actors

    with Ledger.look(folder) as ledger:
        leases = ledger.leases.list_open()
    if not leases:
        with Ledger.open(folder) as ledger:
            ledger.leases.tidy()
        return
    living, now = find_living(list_actors(leases)), read_moment()
    verdicts = {lease.id: judge_lease(lease, now, living) for lease in leases}
    left = [lease for lease in leases if verdicts[lease.id] == LEFT_BEHIND]
    running = [lease for lease in leases if verdicts[lease.id] == COMMAND_LIVES]
    if left or running:
        console.warn(_tell(left, running))


def _tell(left: list[Lease], running: list[Lease]) -> str:
    leases = left or running
    named = ", ".join(f"{lease.id} ({lease.router.label})" for lease in leases[:_NAMED])
    more = f" and {len(leases) - _NAMED} more" if len(leases) > _NAMED else ""
    cure = " ".join(["corral recover", *(lease.id for lease in leases[:_NAMED])]) if not more else "corral recover"
    what = "puts back what was unloaded for it" if any(lease.restores for lease in leases) else "ends its hold"
    if left:
        return f"corral: corral run {named}{more} did not live to its end: '{cure}' {what}."
    pids = ", ".join(str(lease.command.process.pid) for lease in leases[:_NAMED] if lease.command is not None)
    return f"corral: corral run {named}{more} was killed while its command goes on (pid {pids}): '{cure}' afterwards."

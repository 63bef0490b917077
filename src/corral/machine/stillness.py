"""Whether children that were seen without a connection still have none, without looking at every socket again.

A look at all connections walks through a table that is as large as the machine: it takes milliseconds where these
questions come every millisecond, just before a model is asked to go and just after. A connection that is new to a child
either waits to be accepted, which the listening socket tells, or is an open file that the child did not have before.

Rule for whoever edits this: open files are read before the walk that they are to stand for, and the queue before the
open files; in the other order a connection could pass in between.
"""

from __future__ import annotations

from corral.machine.procfs import list_open_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from corral.machine.family import Kin
    from corral.machine.sockets import Sockets
    from corral.ops.measurement import Process

    OpenSockets = Mapping[Process, frozenset[str] | None]


class Stillness:
    """Remembers of each child that had no connection which sockets it had open."""

    def __init__(self, proc: str, sockets: Sockets) -> None:
        self._proc, self._sockets = proc, sockets
        self._known: dict[Process, frozenset[str]] = {}

    def read(self, children: Iterable[Kin]) -> OpenSockets:
        """The open sockets of each child; None where its files may not be read."""
        return {one.process: self._read(one.process.pid) for one in children}

    def learn(self, children: Iterable[Kin], before: OpenSockets, counts: Mapping[int, int]) -> None:
        """The connections were counted; ``before`` was read just before that."""
        for one in children:
            known = before[one.process] if counts.get(one.port) == 0 else None
            if known is None:
                self._known.pop(one.process, None)
            else:
                self._known[one.process] = known

    def holds(self, router: int, children: Sequence[Kin]) -> bool:
        """Whether none of these has a connection, for certain; False where only a walk can tell."""
        if not all(one.process in self._known for one in children):
            return False
        queues = self._sockets.read_queues(router, {one.port for one in children})
        if queues is None or any(queues.values()):
            return False
        return all(self._is_as_known(one.process) for one in children)

    def _is_as_known(self, process: Process) -> bool:
        """A child that stops closes sockets; only one that is new matters."""
        found = self._read(process.pid)
        return found is not None and found <= self._known[process]

    def _read(self, pid: int) -> frozenset[str] | None:
        files = list_open_files(self._proc, pid)
        return None if files is None else frozenset(target for _, target in files if target.startswith("socket:"))

"""The router from in front: where it listens, who waits for an answer, and whether its key is there for all to read."""

from __future__ import annotations

from corral.machine.netlink import ask_kernel
from corral.machine.procfs import read_age, read_arguments
from corral.machine.sockets import LISTENING, Sockets, show_address
from corral.machine.waiting import find_waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.machine.sockets import Ask
    from corral.ops.measurement import Process


class Front:
    """What is seen of a router on this machine whose process is known (``Measurement.router``).

    Parameters:
        router: its process.
        port: where it listens; 0 for a unix socket, of which less is seen.
        proc: the root of the tree.
        ask: asks the kernel for sockets; None means to read the tables in ``proc``, which tell of no waiting.
    """

    def __init__(self, router: Process, port: int, *, proc: str = "/proc", ask: Ask | None = ask_kernel) -> None:
        self._router, self._port, self._proc, self._ask = router, port, proc, ask
        self._sockets = Sockets(proc, ask)

    def find_addresses(self) -> tuple[str, ...] | None:
        """The addresses that the router listens on, without the port; None when they cannot be seen."""
        rows = self._sockets.read_of(self._router.pid, (LISTENING,)) if self._port else None
        if rows is None:
            return None
        return tuple(sorted({show_address(row.local) for row in rows if row.local_port == self._port}))

    def find_waiting(self) -> tuple[float, ...] | None:
        """For how long each request has waited that the router took and has not begun to answer, longest first.

        None when that cannot be seen: on a unix socket, in another network, on an old kernel.
        """
        if not self._port or self._ask is None or not self._sockets.shares(self._router.pid):
            return None
        return find_waiting(self._port)

    def shows_key(self) -> bool | None:
        """Whether an API key stands on the router's command line, which every user can read; None if we cannot."""
        args = read_arguments(self._proc, self._router.pid)
        return None if args is None else any(arg == "--api-key" or arg.startswith("--api-key=") for arg in args)

    def read_age(self, process: Process) -> float | None:
        """For how many seconds a process has run; None when the system does not say."""
        age_s = read_age(self._proc, process)
        return None if age_s is None else max(0.0, age_s)

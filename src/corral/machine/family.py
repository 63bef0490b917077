"""The router's process and its children, found once and remembered.

A child of the router has ``--port`` and ``--alias`` on its command line and ``LLAMA_SERVER_ROUTER_PORT`` in its
environment. Whose child it is decides who listens at the router's address (``Doorway.is_of``), and the list must know
at least one of them by port and name. Where the listener cannot be known, the command lines must equal those that the
list shows, to the letter: among them is a port that the kernel drew by lot.

Source: ``server_models::load`` and ``update_args`` in llama.cpp ``tools/server/server-models.cpp``, b11434.
"""

from __future__ import annotations

from os import getpid

from corral.machine.procfs import (
    is_living,
    list_children,
    list_pids,
    read_arguments,
    read_environment,
    read_file,
    read_stat,
)
from corral.ops.measurement import Process
from corral.wire import Record, escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from corral.machine.door import Doorway
    from corral.wire import Model

ROUTER_PORT = "LLAMA_SERVER_ROUTER_PORT"
_CHILD_MODE = "LLAMA_SERVER_CHILD_MODE"
"""Set in the environment of a child that only downloads."""
_SEARCH_EVERY_S = 1.0
"""How often the whole of /proc is looked through, or the router's children, when nothing says that it is needed."""
_NOT_SEEN = (
    "no process seen here is a child of this router: it may run in a container, hidden from this user, "
    "or behind a tunnel"
)


class Kin(Record):
    """A process that some router has started for a model."""

    process: Process
    parent: int
    port: int
    alias: str
    """The model's id."""
    args: tuple[str, ...]
    router_port: str | None
    """As its environment says; None when that may not be read."""

    def is_of(self, model: Model) -> bool:
        """Whether the list says that this model's child has this name and port."""
        return self.alias == model.id and self.port == model.port

    def has_args_of(self, model: Model) -> bool:
        """Whether its command line is the one that the list shows."""
        status = model.raw.get("status")
        args = status.get("args") if isinstance(status, dict) else None
        return isinstance(args, list) and list(self.args) == args


class Family(Record):
    """The router and its children; without a router a reason, unless nothing resident calls for one."""

    router: Process | None = None
    children: tuple[Kin, ...] = ()
    reason: str = ""


def read_kin(proc: str, pid: int) -> Kin | None:
    """Read a process; None when it is not a router's child, or has ended."""
    line = read_file(f"{proc}/{pid}/cmdline")
    if line is None or b"\0--port\0" not in line or b"\0--alias\0" not in line:
        return None
    args = read_arguments(proc, pid) or ()
    port, alias, stat = find_option(args, "--port"), find_option(args, "--alias"), read_stat(proc, pid)
    if stat is None or stat.has_ended or alias is None or port is None or not _is_number(port):
        return None
    environment = read_environment(proc, pid)
    if environment is not None and (ROUTER_PORT not in environment or environment.get(_CHILD_MODE) == "download"):
        return None
    router_port = None if environment is None else environment[ROUTER_PORT]
    return Kin(stat.process, stat.parent, int(port), alias, args, router_port)


def find_option(args: Sequence[str], name: str) -> str | None:
    """What follows an option on a command line."""
    return next((args[at + 1] for at in range(1, len(args) - 1) if args[at] == name), None)


class FamilyFinder:
    """Finds the router's family and keeps it from look to look; what is known costs next to nothing."""

    def __init__(self, doorway: Doorway, proc: str, clock: Callable[[], float]) -> None:
        self._doorway, self._proc, self._clock = doorway, proc, clock
        self._router: Process | None = None
        self._kin: dict[int, Kin] = {}
        self._reason = ""
        self._wanted: set[int] = set()
        self._search_at = 0.0

    def find(self, models: Sequence[Model], only: Collection[str] = ()) -> Family:
        """Look for the children of these models and their siblings.

        With ``only``, none but the children of these names are sure to live still.
        """
        self._forget_the_dead(only)
        now = self._clock()
        wanted = {model.port for model in models if model.is_resident and model.port is not None}
        is_due = now >= self._search_at or wanted != self._wanted
        if self._router is not None and (is_due or not wanted <= {kin.port for kin in self._kin.values()}):
            self._add_children(self._router.pid)
        elif self._router is None and is_due:
            self._search(models, bool(wanted))
        if is_due:
            self._wanted, self._search_at = wanted, now + _SEARCH_EVERY_S
        return Family(self._router, tuple(self._kin.values()), self._reason)

    def find_router(self) -> Process | None:
        """The router's process as far as it is known, looked for by who listens if it is not."""
        return self.find(()).router

    def _forget_the_dead(self, only: Collection[str]) -> None:
        if self._router is not None and not is_living(self._proc, self._router):
            self._router, self._kin = None, {}
            self._search_at = 0.0
        # Made anew, because other threads may be looking too.
        self._kin = {
            pid: kin
            for pid, kin in [*self._kin.items()]
            if (only and kin.alias not in only) or is_living(self._proc, kin.process)
        }

    def _add_children(self, router: int) -> None:
        # Of the dead a new child may have the number.
        self._forget_the_dead(())
        pids = list_children(self._proc, router)
        for pid in list_pids(self._proc) if pids is None else pids:
            if pid not in self._kin and (kin := read_kin(self._proc, pid)) is not None and kin.parent == router:
                self._kin[pid] = kin

    def _search(self, models: Sequence[Model], is_any_wanted: bool) -> None:
        families = _group(read_kin(self._proc, pid) for pid in list_pids(self._proc))
        sure, possible = [], []
        for parent, kin in families.items():
            known = _match(kin, models)
            verdict = self._doorway.is_of(parent, by_user=bool(known))
            if verdict and (known or not is_any_wanted):
                sure.append(parent)
            elif verdict is None and known and all(one.has_args_of(model) for one, model in known):
                possible.append(parent)
        chosen = sure or possible
        self._reason = "several routers answer at this address" if len(chosen) > 1 else ""
        if not chosen:
            self._search_listener(is_any_wanted)
        elif len(chosen) == 1 and (stat := read_stat(self._proc, chosen[0])) is not None:
            self._router = stat.process
            self._kin = {kin.process.pid: kin for kin in families[chosen[0]]}

    def _search_listener(self, is_any_wanted: bool) -> None:
        """No child tells the router, so ask who listens: a router without children, or a tunnel, if it can be seen."""
        found = self._doorway.find_listener()
        if found is None or self._is_llama_server(found):
            # Children that are listed and not seen: this is not the machine, or not the router, that sent the list.
            self._reason = _NOT_SEEN if is_any_wanted else ""
            self._router = None if is_any_wanted else found
        elif self._is_simulator(found):
            self._reason = "a simulated router's models hold no memory"
        else:
            who = f"{escape_controls(found.name)} (pid {found.pid}) answers at {self._doorway.label}"
            self._reason = f"{who}, a tunnel or proxy: use the router's own address on its own machine"

    def _is_simulator(self, process: Process) -> bool:
        return process.pid == getpid() or "corral.sim" in (read_arguments(self._proc, process.pid) or ())

    def _is_llama_server(self, process: Process) -> bool:
        args = read_arguments(self._proc, process.pid) or ("",)
        return "llama" in process.name or "llama" in args[0].rpartition("/")[2]


def _group(found: Iterable[Kin | None]) -> dict[int, list[Kin]]:
    families: dict[int, list[Kin]] = {}
    for kin in found:
        if kin is not None:
            families.setdefault(kin.parent, []).append(kin)
    return families


def _match(kin: Iterable[Kin], models: Sequence[Model]) -> list[tuple[Kin, Model]]:
    by_id = {model.id: model for model in models}
    pairs = ((one, by_id.get(one.alias)) for one in kin)
    return [(one, model) for one, model in pairs if model is not None and one.is_of(model)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6

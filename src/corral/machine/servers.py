"""The llama-servers of this machine, for whoever does not know at which address the router is."""

from __future__ import annotations

from corral.machine.family import find_option, read_kin
from corral.machine.netlink import ask_kernel
from corral.machine.procfs import list_open_files, list_pids, read_arguments, read_environment
from corral.machine.sockets import LISTENING, Sockets
from corral.wire import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.machine.sockets import Ask

_PREFIX_FLAG, _PREFIX_VARIABLE = "--api-prefix", "LLAMA_ARG_API_PREFIX"
_TLS_FLAG = "--ssl-cert-file"


class Server(Record):
    """Where a llama-server listens."""

    port: int
    prefix: str = ""
    """Its ``--api-prefix``."""
    is_tls: bool = False


def find_servers(proc: str = "/proc", ask: Ask | None = ask_kernel) -> tuple[Server, ...]:
    """The llama-servers that listen on this machine, by port; routers' children are left out.

    Only those whose open files may be read: this user's own, or all for root.
    """
    rows = Sockets(proc, ask).read_own((LISTENING,)) or []
    ports = {f"socket:[{row.inode}]": row.local_port for row in rows}
    found: dict[int, Server] = {}
    for pid in list_pids(proc):
        args = read_arguments(proc, pid)
        if not args or "llama" not in args[0].rpartition("/")[2] or read_kin(proc, pid) is not None:
            continue
        for _, target in list_open_files(proc, pid) or ():
            if target in ports:
                found[ports[target]] = Server(ports[target], _find_prefix(proc, pid, args), _TLS_FLAG in args)
    return tuple(found[port] for port in sorted(found))


def _find_prefix(proc: str, pid: int, args: Sequence[str]) -> str:
    prefix = find_option(args, _PREFIX_FLAG)
    if prefix is None:
        prefix = (read_environment(proc, pid) or {}).get(_PREFIX_VARIABLE, "")
    return prefix.rstrip("/")

"""Builds the trees that the readers of this room read: ``/proc``, ``/sys`` and ``/dev`` in a folder of the test.

What they hold is written as the kernel's documentation describes it, and compared with what Linux 6.18 shows where
that could be read; no file of a graphics device could. A file that is left out stands for one that may not be read.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path

from corral.machine.procfs import count_ticks
from corral.ops.measurement import Process
from corral.wire import Model, read_model

HOST = "host"
"""The network that the reader itself is in."""
BINARY = "/opt/llama/llama-server"
MIB = 1 << 20
FIRST_PIDS = "pid:[4026531836]"


class Tree:
    """A machine in a folder; ``proc``, ``sys`` and ``dev`` are its roots."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.proc, self.sys, self.dev = (str(root / name) for name in ("proc", "sys", "dev"))
        for path in (self.proc, self.sys, self.dev):
            Path(path).mkdir()
        self._inode = 1000
        self.write("proc/meminfo", "MemTotal:  8192 kB\nMemAvailable:  4096 kB\nAnonPages:  2048 kB\n")
        self._get_network(HOST)
        self.link("proc/net", str(root / "net" / HOST))
        self.link("proc/self/ns/net", f"net:[{HOST}]")
        self.link("proc/self/ns/pid", FIRST_PIDS)

    def write(self, path: str, text: str | bytes) -> None:
        """Write a file, by its path below the root."""
        target = self._root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link, as ``/proc`` has them."""
        place = self._root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(target)

    def remove(self, path: str) -> None:
        """Take a file, a link or a folder away."""
        place = self._root / path
        if place.is_dir() and not place.is_symlink():
            for inside in place.iterdir():
                self.remove(str(inside.relative_to(self._root)))
            place.rmdir()
        else:
            place.unlink()

    def add_process(
        self,
        pid: int,
        *,
        parent: int = 1,
        name: str = "program",
        args: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        user: int = 1000,
        state: str = "S",
        threads: int = 1,
        started: int | None = None,
        files: Mapping[int, str] | None = None,
        net: str = HOST,
        exe: str = "",
    ) -> Process:
        """A process; ``environ`` and ``files`` may not be read when they are None."""
        start = 100 * pid if started is None else started
        # Fields 5 and following: 20 is the number of threads, 22 the time of the start.
        fields = [str(pid), f"({name})", state, str(parent), *["0"] * 15, str(threads), "0", str(start), *["0"] * 20]
        self.write(f"proc/{pid}/stat", " ".join(fields) + "\n")
        self.write(f"proc/{pid}/cmdline", "".join(arg + "\0" for arg in args))
        self.write(f"proc/{pid}/status", f"Name:\t{name}\nUid:\t{user}\t{user}\t{user}\t{user}\nThreads:\t{threads}\n")
        self.link(f"proc/{pid}/net", str(self._get_network(net)))
        self.link(f"proc/{pid}/ns/net", f"net:[{net}]")
        self.link(f"proc/{pid}/exe", exe or (args[0] if args else name))
        if environ is not None:
            self.write(f"proc/{pid}/environ", "".join(f"{key}={value}\0" for key, value in environ.items()))
        if files is not None:
            (self._root / f"proc/{pid}/fd").mkdir()
            for number, target in files.items():
                self.link(f"proc/{pid}/fd/{number}", target)
        (self._root / f"proc/{pid}/task/{pid}").mkdir(parents=True)
        self.write(f"proc/{pid}/task/{pid}/children", "")
        siblings = self._root / f"proc/{parent}/task/{parent}/children"
        if siblings.exists():
            siblings.write_text(f"{siblings.read_text()}{pid} ", encoding="ascii")
        return Process(pid, start, name)

    def add_router(self, pid: int = 500, port: int = 8080, *, net: str = HOST, user: int = 1000) -> Process:
        """A router that listens at a port of the loopback interface."""
        inode = self.add_socket(port, net=net, user=user)
        args = [BINARY, "--port", str(port)]
        return self.add_process(
            pid, name="llama-server", args=args, environ={}, files={3: f"socket:[{inode}]"}, net=net, user=user
        )

    def add_child(
        self, pid: int, alias: str, port: int, *, parent: int = 500, net: str = HOST, router_port: str = "8080"
    ) -> Process:
        """A router's child for a model; it listens at its port."""
        self.add_socket(port, net=net)
        environ = {"PATH": "/bin", "LLAMA_SERVER_ROUTER_PORT": router_port}
        args = build_args(alias, port)
        return self.add_process(pid, parent=parent, name="llama-server", args=args, environ=environ, files={}, net=net)

    def add_socket(
        self,
        port: int,
        *,
        net: str = HOST,
        address: str = "127.0.0.1",
        state: int = 10,
        remote: tuple[str, int] | None = None,
        user: int = 1000,
        inode: int | None = None,
        left_s: float | None = None,
    ) -> int:
        """A TCP socket, by default one that listens; returns its inode. ``left_s`` is when its timer runs out."""
        self._inode += 1
        number = self._inode if inode is None else inode
        is_v6 = ":" in address
        far, far_port = remote or ("::" if is_v6 else "0.0.0.0", 0)
        timer = "00:00000000" if left_s is None else f"03:{round(left_s * count_ticks()):08X}"
        line = (
            f"   0: {show_hex(address)}:{port:04X} {show_hex(far)}:{far_port:04X} {state:02X} 00000000:00000000 "
            f"{timer} 00000000  {user}        0 {number} 1 00000000932fe101 100 0 0 10 0\n"
        )
        with (self._get_network(net) / ("tcp6" if is_v6 else "tcp")).open("a", encoding="ascii") as file:
            file.write(line)
        return number

    def connect(self, port: int, client_port: int, *, net: str = HOST, inode: int = 0) -> None:
        """A connection on the loopback interface: the server's end and the client's."""
        self.add_socket(port, net=net, state=1, remote=("127.0.0.1", client_port))
        self.add_socket(client_port, net=net, state=1, remote=("127.0.0.1", port), inode=inode or None)

    def end(self, port: int, client_port: int, left_s: float, *, client_closed: bool = False, net: str = HOST) -> None:
        """A connection that has ended; the end that closed it first remembers it for ``left_s`` more seconds."""
        local, remote = (client_port, port) if client_closed else (port, client_port)
        self.add_socket(local, net=net, state=6, remote=("127.0.0.1", remote), inode=0, left_s=left_s)

    def _get_network(self, name: str) -> Path:
        folder = self._root / "net" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            for table in ("tcp", "tcp6"):
                head = (
                    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
                )
                (folder / table).write_text(head, encoding="ascii")
            unix = "Num       RefCount Protocol Flags    Type St Inode Path\n"
            (folder / "unix").write_text(unix, encoding="ascii")
            (folder / "fib_trie").write_text(_FIB_TRIE, encoding="ascii")
            (folder / "if_inet6").write_text(_IF_INET6, encoding="ascii")
        return folder


def show_hex(address: str) -> str:
    """An address as the tables in ``net`` print it."""
    raw = ip_address(address).packed
    words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
    return "".join((word[::-1] if sys.byteorder == "little" else word).hex() for word in words).upper()


def build_args(alias: str, port: int) -> list[str]:
    """The command line of a child."""
    return [BINARY, "--host", "127.0.0.1", "--port", str(port), "--alias", alias, "--model", f"/models/{alias}.gguf"]


def listed(alias: str, port: int | None, status: str = "loaded", args: Sequence[str] | None = None) -> Model:
    """A model as the router lists it, with the command line of its child."""
    line = build_args(alias, port) if args is None and port is not None else list(args or ())
    model = read_model({"id": alias, "status": {"value": status, "args": line}})
    assert model is not None
    return model


_FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 192.0.2.0
        /24 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 127.0.0.1
           /32 host LOCAL
     +-- 192.0.2.0/24 2 0 2
           |-- 192.0.2.7
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
_IF_INET6 = """00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000007 02 40 00 80     eth0
"""

"""Unix sockets that accept connections, as ``/proc/PID/net/unix`` shows them."""

from __future__ import annotations

from corral.machine.procfs import read_file

_LISTENS = 0x10000
"""The flag of a socket that accepts connections, ``__SO_ACCEPTCON``."""


def find_unix_listeners(net: str, path: str) -> list[int] | None:
    """The inodes of the sockets that accept connections at this path; None when there is no table."""
    table = read_file(f"{net}/unix")
    if table is None:
        return None
    wanted = path.encode(errors="surrogateescape")
    return [inode for bound, inode in _parse(table) if _is_path(bound, wanted)]


def _parse(table: bytes) -> list[tuple[bytes, int]]:
    """Path and inode of each listening socket; the columns are number, references, protocol, flags, type, state, ..."""
    found = []
    for line in table.splitlines():
        fields = line.split(None, 7)
        if len(fields) < 8 or not fields[6].isdigit() or len(fields[6]) > 20:
            continue
        try:
            is_listening = bool(int(fields[3], 16) & _LISTENS)
        except ValueError:
            continue
        if is_listening:
            found.append((fields[7], int(fields[6])))
    return found


def _is_path(bound: bytes, wanted: bytes) -> bool:
    """A server may have bound its socket by a path that is relative to where it runs."""
    return bound == wanted or (not bound.startswith((b"/", b"@")) and wanted.endswith(b"/" + bound.removeprefix(b"./")))

"""What is seen of a router from in front, in trees built from the kernel's documentation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.machine.front import Front
from corral.ops.measurement import Process

ROUTER = Process(100, 5000, "llama-server")
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "   0: {}:{:04X} 00000000:0000 {} 00000000:00000000 00:00000000 00000000     0        0 77 1 0 100 0 0 10 0\n"


def write(tmp_path: Path, name: str, text: str) -> None:
    """Put a file into the tree."""
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def front(tmp_path: Path, port: int = 8080) -> Front:
    """The router in this tree."""
    return Front(ROUTER, port, proc=str(tmp_path), ask=None)


def test_addresses(tmp_path: Path) -> None:
    """Only the router's port counts, in the router's own network, and only where somebody listens."""
    rows = [ROW.format("0100007F", 8080, "0A"), ROW.format("00000000", 9, "0A"), ROW.format("0200007F", 8080, "01")]
    write(tmp_path, "100/net/tcp", HEAD + "".join(rows))
    write(tmp_path, "100/net/tcp6", HEAD + ROW.format("0" * 32, 8080, "0A"))

    assert ("127.0.0.1", "::") == front(tmp_path).find_addresses()
    assert front(tmp_path, 0).find_addresses() is None
    assert Front(ROUTER, 8080, proc=str(tmp_path / "none"), ask=None).find_addresses() is None


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("llama-server\0--api-key\0secret\0", True),
        ("llama-server\0--api-key=secret\0", True),
        ("llama-server\0--api-key-file\0/k\0", False),
    ],
)
def test_key_on_the_command_line(tmp_path: Path, line: str, shown: bool) -> None:
    """A key among the arguments is noticed, a file that holds one is not."""
    write(tmp_path, "100/cmdline", line)

    assert shown is front(tmp_path).shows_key()


def test_command_line_that_cannot_be_read(tmp_path: Path) -> None:
    """What cannot be read is not known."""
    assert front(tmp_path).shows_key() is None


def test_age(tmp_path: Path) -> None:
    """The age of a process is the time since boot, less its start in clock ticks."""
    write(tmp_path, "uptime", "1000.50 3000.00\n")
    ticks = os.sysconf("SC_CLK_TCK")

    assert 900.5 == pytest.approx(front(tmp_path).read_age(Process(1, 100 * ticks)) or 0.0)
    assert Front(ROUTER, 1, proc=str(tmp_path / "none"), ask=None).read_age(ROUTER) is None


def test_without_the_kernel_nothing_is_known_of_waiting(tmp_path: Path) -> None:
    """The tables in /proc do not tell who waits."""
    assert front(tmp_path).find_waiting() is None

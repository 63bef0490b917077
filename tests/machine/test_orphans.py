"""Orphans: only what is proven by every mark, and signals only to the very process that was proven."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from corral.machine.identity import read_process
from corral.machine.orphans import find_orphans, kill, kill_orphan
from corral.ops.measurement import Orphan, Process
from tests.machine.tree import BINARY, Tree, build_args

USER = 1000
ENVIRON = {"LLAMA_SERVER_ROUTER_PORT": "8080"}


def add_orphan(tree: Tree, pid: int = 501, **differs: Any) -> Process:
    """A child whose router is gone, but for what differs."""
    facts: dict[str, Any] = {"parent": 1, "name": "llama-server", "args": build_args("a", 41001), "environ": ENVIRON}
    return tree.add_process(pid, **(facts | {"user": USER} | differs))


def find(tree: Tree, *listed: int) -> tuple[Orphan, ...]:
    """The orphans of the user."""
    return find_orphans(tree.proc, listed, USER)


@pytest.fixture
def init(tree: Tree) -> Process:
    """Process 1."""
    return tree.add_process(1, parent=0, name="systemd", args=["/sbin/init"], user=0)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A real process that waits for its input to end."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        yield process
        process.kill()


def test_orphan(tree: Tree, init: Process) -> None:
    """A child of the user under process 1 is an orphan, with the memory that it holds."""
    process = add_orphan(tree)
    tree.write("proc/501/smaps_rollup", "Pss_Anon:  300 kB\n")

    assert (Orphan(process, "a", 41001, 8080, 300 << 10),) == find(tree)


@pytest.mark.parametrize("reaper", ["systemd", "tini", "containerd-shim-runc-v2"])
def test_orphan_of_a_subreaper(tree: Tree, reaper: str) -> None:
    """What a user's systemd or a container's first process has adopted is an orphan too."""
    tree.add_process(40, parent=1, name=reaper, args=[f"/usr/bin/{reaper}"], user=USER)
    add_orphan(tree, parent=40)

    assert [501] == [orphan.process.pid for orphan in find(tree)]


@pytest.mark.parametrize(
    "differs",
    [
        {"user": 7},
        {"parent": 40},
        {"parent": 41},
        {"environ": {"PATH": "/bin"}},
        {"environ": None},
        {"args": [BINARY, "--port", "41001"]},
        {"args": [BINARY, "--alias", "a", "--port", "x"]},
        {"state": "Z"},
        {"environ": ENVIRON | {"LLAMA_SERVER_CHILD_MODE": "download"}},
    ],
    ids=[
        "another user's",
        "its router lives",
        "its parent is unknown",
        "not a child",
        "environment unreadable",
        "no alias",
        "no port",
        "ended",
        "a download",
    ],
)
def test_not_proven_is_no_orphan(tree: Tree, init: Process, differs: dict[str, Any]) -> None:
    """One mark that is missing is enough: it is no orphan, and it is not signalled."""
    tree.add_process(40, name="llama-server", args=[BINARY], user=USER)
    process = add_orphan(tree, **differs)

    assert () == find(tree)
    assert not kill_orphan(tree.proc, process, (), USER)


def test_listed_port_is_no_orphan(tree: Tree, init: Process) -> None:
    """A process whose port a living router lists is that router's."""
    add_orphan(tree)

    assert () == find(tree, 41001)


def test_router_that_is_process_1(tree: Tree) -> None:
    """In a container the router may be process 1 itself: its children are no orphans."""
    tree.add_process(1, parent=0, name="llama-server", args=[BINARY], user=USER)
    add_orphan(tree)

    assert () == find(tree)


@pytest.mark.parametrize(
    ("name", "args", "count"),
    [("sh", ["/bin/sh"], 1), ("llama-server", ["router"], 0), ("x", ["llama-server"], 0), ("sh", [], 0)],
)
def test_parent_of_the_same_user_whose_program_is_hidden(tree: Tree, name: str, args: list[str], count: int) -> None:
    """If process 1 is the user's own and its program may not be read, a name in common may mean the router."""
    tree.add_process(1, parent=0, name=name, args=args, user=USER)
    tree.remove("proc/1/exe")
    add_orphan(tree)

    assert count == len(find(tree))


def test_odd_port_of_the_router(tree: Tree, init: Process) -> None:
    """A router's port that is no number is unknown."""
    add_orphan(tree, environ={"LLAMA_SERVER_ROUTER_PORT": "x" * 9})

    assert [None] == [orphan.router_port for orphan in find(tree)]


def test_proven_process_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that is proven is ended, with a handle of it and without."""
    process = read_process(sleeper.pid)
    if process is None:
        pytest.skip("no /proc here")

    assert kill(process, lambda: True)
    assert -signal.SIGKILL == sleeper.wait(10)


def test_kill_without_handles(sleeper: subprocess.Popen[bytes]) -> None:
    """Where the system has no handles of processes, or forbids them, the number must do."""

    def forbidden(pid: int) -> int:
        raise PermissionError(pid)

    assert kill(Process(sleeper.pid, 1), lambda: True, open_handle=forbidden, number=signal.SIGTERM)
    assert -signal.SIGTERM == sleeper.wait(10)


def test_process_that_is_not_proven_lives(sleeper: subprocess.Popen[bytes]) -> None:
    """What is not proven with the process held fast is not signalled."""
    assert not kill(Process(sleeper.pid, 1), lambda: False)
    assert sleeper.poll() is None


def test_process_that_ended_is_not_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    """A process that ends after the proof is not signalled, whoever has its number then."""

    def end() -> bool:
        sleeper.kill()
        sleeper.wait()
        return True

    assert not kill(Process(sleeper.pid, 1), end)


def test_proof_is_of_the_same_process(tree: Tree, init: Process) -> None:
    """An orphan with the number of the one that was shown, but another start, is another one."""
    process = add_orphan(tree)

    assert not kill_orphan(tree.proc, Process(process.pid, 7), (), USER)


def test_own_process() -> None:
    """This process is no orphan."""
    assert os.getpid() not in {orphan.process.pid for orphan in find_orphans("/proc", (), os.geteuid())}

"""The llama-servers of a machine: those that listen, and none of their children."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from corral.machine.servers import Server, find_servers
from tests.machine.tree import BINARY, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine with a router on 8080 that has one child, and a web server on 80."""
    tree = Tree(tmp_path)
    tree.add_router()
    tree.add_child(501, "a", 40001)
    tree.add_process(80, args=["/usr/sbin/nginx"], files={3: f"socket:[{tree.add_socket(80)}]"})
    return tree


def add_server(tree: Tree, pid: int, port: int, *options: str, environ: dict[str, str] | None = None) -> None:
    """Another llama-server with these options."""
    files = {3: f"socket:[{tree.add_socket(port)}]"}
    tree.add_process(pid, args=[BINARY, *options], environ=environ or {}, files=files)


@pytest.mark.parametrize(
    ("options", "environ", "server"),
    [
        ((), {}, Server(9931)),
        (("--api-prefix", "/llm/"), {}, Server(9931, "/llm")),
        ((), {"LLAMA_ARG_API_PREFIX": "/llm"}, Server(9931, "/llm")),
        (("--ssl-cert-file", "/c", "--ssl-key-file", "/k"), {}, Server(9931, "", True)),
    ],
)
def test_servers(tree: Tree, options: Sequence[str], environ: dict[str, str], server: Server) -> None:
    """Each is found at the port that it listens on, whatever says so, with what its URL needs."""
    add_server(tree, 600, 9931, *options, environ=environ)

    assert (Server(8080), server) == find_servers(tree.proc, None)


def test_what_may_not_be_read_is_left_out(tree: Tree, tmp_path: Path) -> None:
    """A server of another user is not found, and a machine without /proc has none."""
    tree.add_process(600, args=[BINARY], files=None)

    assert (Server(8080),) == find_servers(tree.proc, None)
    assert () == find_servers(str(tmp_path / "none"), None)

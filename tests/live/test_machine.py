"""The machine beside a real llama-server: whose process is whose, what is in flight, what an unload gives back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from corral import Router
from corral.machine import Machine
from corral.machine.family import read_kin
from corral.machine.memory import read_host_memory
from corral.machine.procfs import list_pids, read_file
from corral.machine.sockets import Sockets
from corral.ops.measurement import Child, Measurement
from corral.sim.launch import LaunchError, RealRouter, pick_free_port
from corral.sim.tiny_model import write_tiny_model
from tests.live.conftest import BUILD
from tests.support.live import LIVE_IDS, QUOTED

pytestmark = pytest.mark.live

if not Path("/proc/self/stat").exists():
    pytest.skip("reads Linux's /proc", allow_module_level=True)

PATIENCE_S = 20.0
FORWARDER = """
import socket, sys, threading
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
while True:
    near, _ = server.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for pair in ((near, far), (far, near)):
        threading.Thread(target=pump, args=pair, daemon=True).start()
"""

CLIENT = """
import socket, sys
line = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
input()
"""

UNSHARE = ("unshare", "--net", "--pid", "--fork")


def can_unshare() -> bool:
    """Whether this user may put a program into namespaces of its own."""
    try:
        return (
            subprocess.run([*UNSHARE, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


def machine_of(url: str) -> Machine:
    """The machine of a router."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return Machine.for_router(socket_path=parts.path)
    return Machine.for_router(parts.hostname or "", parts.port or 0)


def measure(machine: Machine, url: str, *, memory: bool = False) -> Measurement:
    """One look, with the router's newest list."""
    with Router(url) as router:
        return machine.measure(router.list_models().models, memory=memory)


def find(machine: Machine, url: str, model: str, *, memory: bool = False) -> Child:
    """The child of a model, which must be there."""
    measurement = measure(machine, url, memory=memory)
    child = measurement.find(model)
    assert child is not None, measurement.reason
    return child


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def load(url: str, *models: str) -> None:
    """Load models, for certain."""
    with Router(url) as router:
        assert router.load(*models).ok


def connect(url: str) -> HTTPConnection:
    """A connection to a router."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "localhost", parts.port or 0, timeout=60)
    if parts.scheme == "unix":
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(parts.path)
    return connection


@contextmanager
def streaming(url: str, model: str, count: int) -> Iterator[list[HTTPConnection]]:
    """Ask a model for so many long streams at once; two of them are answered, the others wait for a slot."""
    body = {"model": model, "max_tokens": 1900, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connection = connect(url)
            stack.callback(connection.close)
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            connections.append(connection)
        yield connections


def test_children_are_found_by_their_exact_command_lines(live_router: RealRouter) -> None:
    """Every resident model's process is found, odd ids included, and runs exactly what the router lists."""
    names = LIVE_IDS[:4]
    load(live_router.url, *names)
    with Router(live_router.url) as router:
        models = {model.id: model for model in router.list_models().models}
    found = machine_of(live_router.url).measure(list(models.values()), memory=False)
    kin = [read_kin("/proc", child.process.pid) for child in found.children]

    assert set(names) == {child.model for child in found.children}
    assert live_router.process is not None and found.router is not None
    assert live_router.process.pid == found.router.pid
    assert all(one is not None and one.has_args_of(models[one.alias]) for one in kin)
    assert all(child.in_flight == 0 and not child.is_hidden and not child.reasons for child in found.children)


def test_streams_are_counted(live_router: RealRouter) -> None:
    """Three streams are three requests in flight, the one that waits for a slot included; they end with the client."""
    load(live_router.url, "busy", "plain")
    machine = machine_of(live_router.url)
    with streaming(live_router.url, "busy", 3):
        wait_until(lambda: find(machine, live_router.url, "busy").in_flight == 3)
        assert find(machine, live_router.url, "plain").in_flight == 0
    # The one that waits is noticed only when it gets a slot.
    with Router(live_router.url) as router:
        router.unload("busy", grace_s=0, force=True)
        router.load("busy")
    assert find(machine, live_router.url, "busy").in_flight == 0


def test_stream_that_was_left_is_not_in_flight(live_router: RealRouter) -> None:
    """A client that leaves in the middle of its stream is in flight no longer."""
    load(live_router.url, "busy")
    machine = machine_of(live_router.url)
    with streaming(live_router.url, "busy", 1) as connections:
        reply = connections[0].getresponse()
        assert reply.readline().startswith(b"data:")
        assert find(machine, live_router.url, "busy").in_flight == 1
        reply.close()
    wait_until(lambda: find(machine, live_router.url, "busy").in_flight == 0)


def test_kernel_and_tables_count_the_same(live_router: RealRouter) -> None:
    """The quick way of counting and the tables in /proc agree on a real child."""
    load(live_router.url, "busy")
    machine = machine_of(live_router.url)
    with streaming(live_router.url, "busy", 4):
        wait_until(lambda: find(machine, live_router.url, "busy").in_flight == 4)
        child = find(machine, live_router.url, "busy")
        told = Sockets("/proc", None).count_connections(child.process.pid, [child.port])

    assert {child.port: 4} == told


def read_anonymous(but: int) -> tuple[int, int]:
    """The machine's anonymous memory, and that of all processes but one."""
    others = 0
    for pid in list_pids("/proc"):
        lines = (read_file(f"/proc/{pid}/status") or b"").splitlines()
        others += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(b"RssAnon:") and pid != but)
    return read_host_memory("/proc").anonymous_bytes or 0, others


def test_freed_bytes_are_the_machines(llama_server_binary: str, tmp_path: Path) -> None:
    """What a child was said to hold is what the machine's anonymous memory falls by when it is unloaded."""
    write_tiny_model(tmp_path / "wide.gguf", seed=3, layers=8, width=512)
    presets = {"wide": str(tmp_path / "wide.gguf")}
    ratios = []
    # The cache of so many tokens is half a gigabyte, far more than anything else here changes in a moment.
    with RealRouter(llama_server_binary, presets, context=32768) as router, Router(router.url) as client:
        machine = machine_of(router.url)
        for _ in range(5):
            load(router.url, "wide")
            child = find(machine, router.url, "wide", memory=True)
            before, others_before = read_anonymous(child.process.pid)
            assert client.unload("wide").ok
            wait_until(lambda known=child: not machine.find_living([known.process]))  # type: ignore[misc]  # bound
            after, others_after = read_anonymous(child.process.pid)
            assert child.host_bytes is not None and child.host_bytes > 300 << 20
            # What others took meanwhile is theirs: this machine need not be idle.
            ratios.append((before - after + others_after - others_before) / child.host_bytes)
            if abs(ratios[-1] - 1) <= 0.02:
                return
    pytest.fail(f"freed by the machine, as a part of what the child held: {ratios}")


def test_looking_wakes_nothing(start_router: Callable[..., RealRouter]) -> None:
    """Looks, one after another, neither keep a model from falling asleep nor wake one that sleeps."""
    router = start_router(sleep_idle_s=2)
    load(router.url, "plain")
    machine = machine_of(router.url)
    began = time.monotonic()
    with Router(router.url) as client:

        def sleeps() -> bool:
            models = client.list_models().models
            found = machine.measure(models, memory=True)
            assert [0] == [child.in_flight for child in found.children] and found.children[0].host_bytes
            return next(model.status for model in models if model.id == "plain") == "sleeping"

        wait_until(sleeps)
        assert time.monotonic() - began < 10, "the idle timer was reset"
        for _ in range(20):
            assert sleeps()


def test_hidden_child(llama_server_binary: str, model_files: tuple[Path, Path]) -> None:
    """A model of the cache that a preset hides from the list is found when it is resident, and goes by its name."""
    name = "owner/tiny-GGUF:Q4_0"
    preset = {"mine": {"hf-repo": name, "dedup-cache-models": "1"}}
    with ExitStack() as stack:
        router = RealRouter(llama_server_binary, preset, extra_args=("--offline",))
        stack.callback(router.close)
        cache = Path(router.folder) / "cache" / "models--owner--tiny-GGUF"
        snapshot = cache / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text("a" * 40, encoding="ascii")
        shutil.copy(model_files[0], snapshot / "tiny-Q4_0.gguf")
        try:
            router.start()
        except LaunchError:
            assert BUILD < 11434, "an old build knows no such preset"
            return
        if f"hiding cache model name={name}" not in router.read_log():
            assert BUILD < 11434, "an old build hides nothing"
            return
        connection = connect(router.url)
        stack.callback(connection.close)
        machine = machine_of(router.url)
        for verb, count in (("load", 1), ("unload", 0)):
            connection.request(
                "POST", f"/models/{verb}", json.dumps({"model": name}), {"Content-Type": "application/json"}
            )
            assert connection.getresponse().read() == b'{"success":true}'
            wait_until(lambda wanted=count: len(measure(machine, router.url).children) == wanted)  # type: ignore[misc]  # bound
            found = measure(machine, router.url).children
            assert all(child.is_hidden and child.model == name and child.in_flight == 0 for child in found)


def test_tunnel_is_named(live_router: RealRouter) -> None:
    """Through a forwarded port the same list comes, and the forwarder is named instead of the children behind it."""
    load(live_router.url, "plain")
    port = pick_free_port()
    command = [sys.executable, "-c", FORWARDER, str(port), str(urlsplit(live_router.url).port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as forwarder:
        try:
            assert forwarder.stdout is not None and forwarder.stdout.readline() == b"ready\n"
            url = f"http://127.0.0.1:{port}"
            found = measure(machine_of(url), url, memory=True)
        finally:
            forwarder.kill()

    assert found.children == () and f"(pid {forwarder.pid}) answers at 127.0.0.1:{port}" in found.reason


def test_unix_socket(start_router: Callable[..., RealRouter], tmp_path: Path) -> None:
    """The children of a router behind a unix socket are found."""
    router = start_router(unix_socket=str(tmp_path / "router.sock"))
    load(router.url, "plain")
    found = measure(machine_of(router.url), router.url)

    assert ["plain"] == [child.model for child in found.children] and found.children[0].in_flight == 0


if can_unshare():
    # A container as far as processes and network go; making one takes root.
    def test_router_in_namespaces_of_its_own(
        llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]], tmp_path: Path
    ) -> None:
        """A router in another network and with other process numbers is read from outside, requests included."""
        enter = f'ip link set lo up; exec "{llama_server_binary}" "$@"'
        script = tmp_path / "contained"
        script.write_text(f"#!/bin/sh\nexec {' '.join(UNSHARE)} sh -c '{enter}' sh \"$@\"\n", encoding="utf-8")
        script.chmod(0o755)
        path = str(tmp_path / "router.sock")
        with RealRouter(str(script), live_presets, unix_socket=path, context=4096) as router:
            load(router.url, "busy")
            machine = machine_of(router.url)
            with streaming(router.url, "busy", 3):
                wait_until(lambda: find(machine, router.url, "busy").in_flight == 3)
            child = find(machine, router.url, "busy", memory=True)

        assert child.host_bytes


def test_peers(live_router: RealRouter) -> None:
    """Another program that is connected is named by process, and this one is not."""
    machine = machine_of(live_router.url)
    command = [sys.executable, "-c", CLIENT, str(urlsplit(live_router.url).port)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        Router(live_router.url) as own,
    ):
        try:
            assert other.stdout is not None and other.stdout.readline()
            own.list_models()
            peers = machine.find_peers()
        finally:
            other.kill()

    assert peers is not None
    assert [(other.pid, 1)] == [(peer.process.pid, peer.connections) for peer in peers if peer.process is not None]


def test_orphan(start_router: Callable[..., RealRouter]) -> None:
    """A child that outlives its router is found and ended; before, it is none, and neither is anybody else's."""
    router = start_router()
    load(router.url, "plain", QUOTED)
    machine = machine_of(router.url)
    with Router(router.url) as client:
        models = client.list_models().models
    children = {child.model: child.process for child in machine.measure(models, memory=False).children}
    ports = [model.port for model in models if model.port is not None]
    before = [orphan.process for orphan in machine.find_orphans(())]
    os.kill(children["plain"].pid, signal.SIGSTOP)
    assert router.process is not None
    os.kill(router.process.pid, signal.SIGKILL)
    router.process.wait()
    wait_until(lambda: machine.find_living(list(children.values())) == (children["plain"],))
    orphans = [orphan for orphan in machine.find_orphans(()) if orphan.process == children["plain"]]

    assert children["plain"] not in before
    assert ["plain"] == [orphan.model for orphan in orphans]
    assert orphans[0].router_port == urlsplit(router.url).port and orphans[0].host_bytes
    assert not machine.kill_orphan(orphans[0], ports), "a port that is listed is a living router's"
    assert machine.kill_orphan(orphans[0], ())
    wait_until(lambda: not machine.find_living([orphans[0].process]))

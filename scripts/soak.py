"""Keeps the gateway busy for a while and sees that it holds no more memory and no more connections than before.

    python scripts/soak.py [--minutes 10] [--streams 1000]

A thousand streams stay open all the time; beside them others begin, end, or are left in the middle, and short requests
come and go. Every figure is of the gateway's own process. Exit 1 when memory has grown by more than a few megabytes
from the second minute to the last, when descriptors were not given back, or when a stream was cut.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sys
import threading
import time

import gateway_load as load
from bench_gateway import decode_chunks, open_streams

GROWTH_BYTES = 8 << 20
"""What an allocator may keep for itself between two equal states."""
_SAMPLE_S = 5.0


def main() -> int:
    """Soak, print a line now and then, and judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: %(default)g)")
    parser.add_argument("--streams", type=int, default=1000, help="how many stay open (default: %(default)d)")
    args = parser.parse_args()
    with load.upstream(None) as upstream, load.corral(None, upstream.port) as corral:
        files = count_files(corral.pid)
        with open_streams(corral, args.streams):
            missed = soak(corral, args.minutes * 60)
        missed += wait_for_files(corral.pid, files)
    print("\n".join(missed) or "Flat: no growth, nothing cut, every descriptor given back.")
    return 1 if missed else 0


def soak(corral: load.Process, seconds: float) -> list[str]:
    """What went wrong while all kinds of clients came and went."""
    clients = [Client(corral.port, kind, number) for number, kind in enumerate(("whole", "left", "short") * 4)]
    began = time.monotonic()
    settled_bytes = 0
    while (passed_s := time.monotonic() - began) < seconds:
        time.sleep(min(_SAMPLE_S, seconds / 20))
        rss = corral.rss_bytes()
        # The first tenth is for what is made once.
        if not settled_bytes and passed_s > seconds / 10:
            settled_bytes = rss
        done = sum(client.done for client in clients)
        print(
            f"{passed_s:6.0f} s  {rss / 2**20:7.1f} MiB  {count_files(corral.pid):5} files  {done:7} requests",
            flush=True,
        )
    for client in clients:
        client.over.set()
    for client in clients:
        client.join()
    grown = corral.rss_bytes() - settled_bytes
    missed = [f"memory grew by {grown / 2**20:.1f} MiB"] if grown > GROWTH_BYTES else []
    return missed + [f"{client.kind}: {client.error}" for client in clients if client.error]


class Client(threading.Thread):
    """One client after another, of one kind."""

    def __init__(self, port: int, kind: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.kind = kind
        self.done = 0
        self.error = ""
        self.over = threading.Event()
        self._port = port
        self._random = random.Random(seed)
        self.start()

    def run(self) -> None:
        """Ask until it is over, or something is not as it must be."""
        while not self.over.is_set() and not self.error:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 20) as sock:
                    sock.settimeout(20)
                    getattr(self, f"_ask_{self.kind}")(sock)
                self.done += 1
            except OSError as error:
                self.error = f"{type(error).__name__}: {error}"

    def _ask_whole(self, sock: socket.socket) -> None:
        chunks = self._random.randint(1, 100)
        sock.sendall(load.build_post(f"/stream?chunks={chunks}&gap_ms=5"))
        received = b""
        while not received.endswith(load.END):
            data = sock.recv(65536)
            if not data:
                break
            received += data
        if decode_chunks(received.partition(b"\r\n\r\n")[2]) != load.CHUNK * chunks:
            self.error = f"a stream of {chunks} chunks was cut"

    def _ask_left(self, sock: socket.socket) -> None:
        sock.sendall(load.build_post("/stream?chunks=1000&gap_ms=5"))
        self.over.wait(self._random.random() / 5)

    def _ask_short(self, sock: socket.socket) -> None:
        for _ in range(self._random.randint(1, 50)):
            sock.sendall(load.build_post("/v1/chat/completions"))
            received = b""
            while not received.endswith(load.REPLY[-40:]):
                received += sock.recv(65536)
            self.over.wait(0.01)


def count_files(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_for_files(pid: int, before: int) -> list[str]:
    """What is still open a while after everybody has left."""
    deadline = time.monotonic() + 10
    while (now := count_files(pid)) > before + 1:
        if time.monotonic() > deadline:
            return [f"{now - before} descriptors were not given back"]
        time.sleep(0.1)
    return []


if __name__ == "__main__":
    sys.exit(main())

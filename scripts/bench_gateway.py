"""What the gateway adds: to one request, beside nginx; to 64 streams, beside a bare relay; and to memory.

Client and upstream share one core and the proxy has another, so that what is measured is the proxy. All take turns
within each round, since a machine that does other things moves every figure; the ratios are what counts.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import gateway_load as load

PROXY_CORE, LOAD_CORE = 0, 1
BLOCK = 400
"""Requests of one turn."""
LATENCY_BOUND = 4.0
STREAMS, CHUNKS, GAP_MS = 64, 150, 25
CPU_BOUND = 2.5
OPEN_STREAMS = 1000
MEMORY_BOUND_BYTES = 35 << 10


class Way(NamedTuple):
    """What one proxy takes for a request, in seconds."""

    added_s: float
    """Median time, less what the direct way takes."""
    cpu_s: float


class Added(NamedTuple):
    """One round of single requests."""

    direct_s: float
    ways: dict[str, Way]
    """By the proxy's name; nginx is missing where it is not installed."""


class Paced(NamedTuple):
    """One round of streams: CPU seconds a chunk, and whether every byte came."""

    corral_cpu_s: float
    relay_cpu_s: float
    is_whole: bool


class Figures(NamedTuple):
    """All that is measured here."""

    added: list[Added]
    paced: list[Paced]
    bytes_per_stream: float


def measure(binary: str = "", rounds: int = 15) -> Figures:
    """Measure; the real llama-server (``binary``) would only add its own time to all."""
    return Figures(measure_added(rounds), measure_paced(max(3, rounds // 3)), measure_memory())


def measure_added(rounds: int) -> list[Added]:
    """One connection, one request after another."""
    nginx = load.find_nginx()
    request = load.build_post("/v1/chat/completions")
    with ExitStack() as stack:
        upstream = stack.enter_context(load.upstream(LOAD_CORE))
        ways = [stack.enter_context(start(PROXY_CORE, upstream.port)) for start in (load.corral, load.session)]
        if nginx is not None:
            ways.append(stack.enter_context(load.nginx(PROXY_CORE, upstream.port, nginx)))
        stack.enter_context(pinned(LOAD_CORE))
        for way in (upstream, *ways):
            run_block(way, request, BLOCK)
        return [_measure_round(upstream, ways, request) for _ in range(rounds)]


def _measure_round(upstream: load.Process, ways: list[load.Process], request: bytes) -> Added:
    direct_s, _ = run_block(upstream, request, BLOCK)
    found = {way.name: run_block(way, request, BLOCK) for way in ways}
    return Added(direct_s, {name: Way(time_s - direct_s, cpu_s) for name, (time_s, cpu_s) in found.items()})


def run_block(way: load.Process, request: bytes, count: int) -> tuple[float, float]:
    """Median seconds of a request, and the process's CPU seconds for each."""
    times = []
    with socket.create_connection(("127.0.0.1", way.port), 10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask(sock, request)
        cpu_s = way.cpu_s()
        for _ in range(count):
            began = time.perf_counter()
            _ask(sock, request)
            times.append(time.perf_counter() - began)
        cpu_s = way.cpu_s() - cpu_s
    return median(times), cpu_s / count


def _ask(sock: socket.socket, request: bytes) -> None:
    sock.sendall(request)
    received = b""
    while not received.endswith(load.REPLY[-40:]):
        data = sock.recv(65536)
        if not data:
            raise RuntimeError(f"the answer was cut: {received[:200]!r}")
        received += data


def measure_paced(rounds: int) -> list[Paced]:
    """Many streams at the pace of tokens, through the gateway and through the relay."""
    with (
        load.upstream(LOAD_CORE) as upstream,
        load.corral(PROXY_CORE, upstream.port) as corral,
        load.relay(PROXY_CORE, upstream.port) as relay,
        pinned(LOAD_CORE),
    ):
        run_streams(corral, 4, 10)
        run_streams(relay, 4, 10)
        found = []
        for _ in range(rounds):
            corral_cpu_s, is_whole = run_streams(corral, STREAMS, CHUNKS)
            relay_cpu_s, _ = run_streams(relay, STREAMS, CHUNKS)
            found.append(Paced(corral_cpu_s, relay_cpu_s, is_whole))
        return found


def run_streams(way: load.Process, streams: int, chunks: int) -> tuple[float, bool]:
    """CPU seconds of each chunk, and whether every stream had all its bytes."""
    request = load.build_post(f"/stream?chunks={chunks}&gap_ms={GAP_MS}")
    whole = load.CHUNK * chunks
    received: dict[socket.socket, list[bytes]] = {}
    cpu_s = way.cpu_s()
    with selectors.DefaultSelector() as selector, ExitStack() as stack:
        for _ in range(streams):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", way.port), 10))
            sock.sendall(request)
            selector.register(sock, selectors.EVENT_READ)
            received[sock] = []
            # Not all in step, as real answers are not.
            time.sleep(GAP_MS / 1000 / streams)
        open_streams = streams
        deadline = time.monotonic() + chunks * GAP_MS / 1000 + 30
        while open_streams and time.monotonic() < deadline:
            for key, _ in selector.select(1):
                sock = key.fileobj  # type: ignore[assignment]  # only sockets are registered
                data = sock.recv(65536)
                received[sock].append(data)
                if not data or b"".join(received[sock][-2:]).endswith(load.END):
                    selector.unregister(sock)
                    open_streams -= 1
    cpu_s = way.cpu_s() - cpu_s
    bodies = [decode_chunks(b"".join(pieces).partition(b"\r\n\r\n")[2]) for pieces in received.values()]
    return cpu_s / (streams * chunks), all(body == whole for body in bodies)


def decode_chunks(framed: bytes) -> bytes:
    """A chunked body without its frames; what follows a broken one is left out."""
    pieces = []
    while framed:
        size, _, rest = framed.partition(b"\r\n")
        length = int(size or b"0", 16)
        if length == 0:
            break
        pieces.append(rest[:length])
        framed = rest[length + 2 :]
    return b"".join(pieces)


def measure_memory() -> float:
    """Resident memory that each of many open streams takes."""
    with load.upstream(LOAD_CORE) as upstream, load.corral(PROXY_CORE, upstream.port) as corral:
        # What the first hundred make once is made already.
        with open_streams(corral, 100):
            pass
        before = corral.rss_bytes()
        with open_streams(corral, OPEN_STREAMS):
            return (corral.rss_bytes() - before) / OPEN_STREAMS


class open_streams:  # noqa: N801 - used as a function
    """Streams that have begun and say no more, until the block ends."""

    def __init__(self, way: load.Process, count: int) -> None:
        self._way, self._count = way, count
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> None:
        request = load.build_post("/hold")
        for _ in range(self._count):
            sock = socket.create_connection(("127.0.0.1", self._way.port), 10)
            self._sockets.append(sock)
            sock.sendall(request)
        for sock in self._sockets:
            received = b""
            while not received.endswith(load.FRAMED[-20:]):
                received += sock.recv(65536)

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            sock.close()


class pinned:  # noqa: N801 - used as a function
    """Keep this process on one core for the length of the block."""

    def __init__(self, core: int) -> None:
        self._core = core

    def __enter__(self) -> None:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._core})

    def __exit__(self, *_: object) -> None:
        os.sched_setaffinity(0, self._before)


def summarize(found: Figures) -> dict[str, float | None]:
    """The figures that are judged."""
    return {
        "latency": compare(found, "corral"),
        "chunk": median(item.corral_cpu_s / item.relay_cpu_s for item in found.paced),
        "memory": found.bytes_per_stream,
    }


def compare(found: Figures, name: str) -> float | None:
    """How many times the time that nginx adds a proxy adds, median of the rounds; None without nginx."""
    rounds = [item.ways for item in found.added if "nginx" in item.ways]
    return median(ways[name].added_s / ways["nginx"].added_s for ways in rounds) if rounds else None


def render(found: Figures) -> str:
    """The section of the page."""
    ratios = summarize(found)
    direct_us = 1e6 * median(item.direct_s for item in found.added)
    rows = [f"| direct | {direct_us:.0f} µs in all | | |"]
    rows += [_render_way(found, name) for name in _LABELS if name in found.added[0].ways]
    if ratios["latency"] is None:
        rows.append("| nginx | not installed here | | |")
    corral_chunk_us = 1e6 * median(item.corral_cpu_s for item in found.paced)
    relay_chunk_us = 1e6 * median(item.relay_cpu_s for item in found.paced)
    return _PAGE.format(
        rows="\n".join(rows),
        streams=STREAMS,
        gap=GAP_MS,
        corral_chunk=corral_chunk_us,
        relay_chunk=relay_chunk_us,
        chunk_ratio=ratios["chunk"],
        chunk_bound=CPU_BOUND,
        whole="all" if all(item.is_whole for item in found.paced) else "NOT all",
        open=OPEN_STREAMS,
        memory=found.bytes_per_stream / 1024,
        memory_bound=MEMORY_BOUND_BYTES >> 10,
    )


def _render_way(found: Figures, name: str) -> str:
    added_us = 1e6 * median(item.ways[name].added_s for item in found.added)
    cpu_us = 1e6 * median(item.ways[name].cpu_s for item in found.added)
    times = compare(found, name)
    ratio = "" if times is None else f"{times:.1f}" + (f" (bound: {LATENCY_BOUND:g})" if name == "corral" else "")
    return f"| {_LABELS[name]} | {added_us:.0f} µs added | {cpu_us:.0f} µs | {ratio} |"


_LABELS = {"nginx": "nginx", "session": "aiohttp's server and session, no more", "corral": "Corral"}

_PAGE = """
## Gateway

One connection, one request after another (an answer of 2 KB), the proxy on one core, client and upstream on the other;
nginx with kept connections to the upstream and `proxy_buffering off`. The third row is the shortest proxy that aiohttp
allows, without any of the gateway's work: the reason why the gateway takes aiohttp's parser and not its client session.

| way | time, median | CPU of the proxy for a request | times nginx's added time |
|---|---|---|---|
{rows}

{streams} streams, a chunk every {gap} ms each: {corral_chunk:.0f} µs of CPU for a chunk, {relay_chunk:.0f} µs in a bare
asyncio relay of bytes, {chunk_ratio:.2f} times as much (bound: {chunk_bound}); {whole} chunks came, byte for byte.
Each of {open:,} open streams holds {memory:.1f} KiB (bound: {memory_bound}).
"""


def judge(found: Figures) -> list[str]:
    """What misses its bound, in words."""
    ratios = summarize(found)
    missed = []
    if ratios["latency"] is not None and ratios["latency"] > LATENCY_BOUND:
        missed.append(f"the gateway adds {ratios['latency']:.1f} times what nginx adds, more than {LATENCY_BOUND:g}")
    if ratios["chunk"] is not None and ratios["chunk"] > CPU_BOUND:
        missed.append(f"a chunk takes {ratios['chunk']:.2f} times a bare relay's CPU, more than {CPU_BOUND:g}")
    if not all(item.is_whole for item in found.paced):
        missed.append("a stream did not have all its chunks")
    if found.bytes_per_stream > MEMORY_BOUND_BYTES:
        missed.append(f"an open stream holds {found.bytes_per_stream / 1024:.1f} KiB")
    return missed


def main() -> int:
    """Measure, print, and say what misses its bound."""
    found = measure()
    print(render(found))
    missed = judge(found)
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

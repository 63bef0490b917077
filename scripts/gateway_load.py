"""What a proxy is measured with: an upstream, clients, a bare relay, nginx, and the shortest proxy that aiohttp allows.

Run as a program it is one of the processes that the benchmarks start::

    python scripts/gateway_load.py upstream|relay|session PORT [UPSTREAM_PORT]

``upstream`` answers ``POST /v1/chat/completions`` at once with a document of 2 KB, ``POST /stream?chunks=N&gap_ms=M``
with N chunks at that pace, and ``POST /hold`` with one chunk and then nothing. ``relay`` is the least that can stand
between: bytes in, bytes out, without flow control. ``session`` is aiohttp's server with its ``ClientSession``: what the
gateway would cost at least if it sent its requests that way.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

START_TIMEOUT_S = 20.0
REPLY = b'{"choices":[{"message":{"role":"assistant","content":"%b"}}],"model":"m"}' % (b"x" * 1980)
CHUNK = b"data: " + b'{"choices":[{"index":0,"delta":{"content":" fence"}}],"model":"m"}'.ljust(190) + b"\n\n"
LIST = b'{"object":"list","data":[{"id":"m","status":{"value":"loaded","args":["--port","40000"]}}]}'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
FRAMED = b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK)
END = b"0\r\n\r\n"
_SERVER = b"HTTP/1.1 %b\r\nServer: llama.cpp\r\nContent-Length: %d\r\n\r\n%b"
BODY = b'{"model":"m","messages":[{"role":"user","content":"%b"}],"stream":false}' % (b"hello " * 40)


class Upstream(asyncio.Protocol):
    """Answers as the path says; a request is whole when its promised body is here."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = self._received.partition(b"\r\n\r\n")
        lower = head.lower()
        at = lower.find(b"content-length: ")
        length = int(lower[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if not mark or len(body) < length:
            return
        self._received = body[length:]
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/stream"):
            values = dict(part.split(b"=") for part in path.partition(b"?")[2].split(b"&"))
            self._write(STREAM_HEAD)
            self._stream(int(values[b"chunks"]), int(values[b"gap_ms"]) / 1000, asyncio.get_running_loop().time())
        elif path == b"/hold":
            self._write(STREAM_HEAD + FRAMED)
        elif path == b"/models/sse":
            self._write(_SERVER % (b"404 Not Found", 2, b"{}"))
        else:
            reply = LIST if path == b"/models" else REPLY
            self._write(_SERVER % (b"200 OK", len(reply), reply))

    def _stream(self, left: int, gap_s: float, due: float) -> None:
        if left == 0:
            self._write(END)
            return
        self._write(FRAMED)
        asyncio.get_running_loop().call_at(due + gap_s, self._stream, left - 1, gap_s, due + gap_s)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class Relay(asyncio.Protocol):
    """One end of a relayed connection."""

    def __init__(self, upstream_port: int, other: Relay | None = None) -> None:
        self._upstream_port = upstream_port
        self._other = other
        self._early: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._other is None:
            self._task = asyncio.create_task(self._open())

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        _, self._other = await loop.create_connection(
            lambda: Relay(self._upstream_port, self), "127.0.0.1", self._upstream_port
        )
        for data in self._early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._other is None or self._other.transport is None:
            self._early.append(data)
        else:
            self._other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self._other is not None and self._other.transport is not None:
            self._other.transport.close()


class Process(NamedTuple):
    """A proxy under test."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """CPU time so far, to the nanosecond."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            total += int(Path(f"/proc/{self.pid}/task/{task}/schedstat").read_text().split()[0])
        return total / 1e9

    def rss_bytes(self) -> int:
        """Memory that is resident now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def find_nginx() -> str | None:
    """nginx, where it is installed; Debian keeps it out of most users' PATH."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def pick_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(name: str, core: int | None, port: int, *command: str) -> Iterator[Process]:
    """Run a process, on one core only where one is named, until the block ends."""

    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, preexec_fn=pin, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise RuntimeError(f"{name} did not start: {log.read().decode(errors='replace')[-1000:]}")
                time.sleep(0.02)
            yield Process(name, port, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def upstream(core: int | None) -> Iterator[Process]:
    """The upstream in a process of its own."""
    port = pick_port()
    with running("upstream", core, port, sys.executable, __file__, "upstream", str(port)) as process:
        yield process


@contextmanager
def relay(core: int | None, upstream_port: int) -> Iterator[Process]:
    """The bare relay."""
    port = pick_port()
    with running("relay", core, port, sys.executable, __file__, "relay", str(port), str(upstream_port)) as process:
        yield process


@contextmanager
def session(core: int | None, upstream_port: int) -> Iterator[Process]:
    """aiohttp's server and client, and nothing else."""
    port = pick_port()
    command = (sys.executable, __file__, "session", str(port), str(upstream_port))
    with running("session", core, port, *command) as process:
        yield process


@contextmanager
def corral(core: int | None, upstream_port: int) -> Iterator[Process]:
    """Corral's gateway as its users run it."""
    port = pick_port()
    address, router = f"127.0.0.1:{port}", f"http://127.0.0.1:{upstream_port}"
    command = (sys.executable, "-m", "corral", "serve", "--quiet", "--listen", address, "--router", router)
    with tempfile.TemporaryDirectory() as folder:
        # Settings and state are not its user's.
        settings = ("env", f"CORRAL_STATE_DIR={folder}", f"CORRAL_CONFIG={folder}/config.toml")
        Path(folder, "config.toml").touch()
        with running("corral", core, port, *settings, *command) as process:
            yield process


@contextmanager
def nginx(core: int | None, upstream_port: int, binary: str) -> Iterator[Process]:
    """nginx, one process, set up for streams as its users are told to."""
    port = pick_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "nginx.conf"
        config.write_text(_NGINX.format(folder=folder, port=port, upstream=upstream_port), encoding="ascii")
        with running("nginx", core, port, binary, "-p", folder, "-c", str(config), "-e", f"{folder}/error") as process:
            yield process


_NGINX = """
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 128k;
  upstream router {{ server 127.0.0.1:{upstream}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://router;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
      proxy_read_timeout 3600s;
    }}
  }}
}}
"""


def build_post(path: str) -> bytes:
    """A request such as an OpenAI client sends."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1:8080",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "Accept: application/json",
        "Content-Type: application/json",
        "User-Agent: OpenAI/Python 1.0.0",
        "X-Stainless-Lang: python",
        "Authorization: Bearer none",
        f"Content-Length: {len(BODY)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + BODY


async def _serve_session(port: int, upstream_port: int) -> None:
    from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
    from yarl import URL

    hop_by_hop = {"connection", "keep-alive", "transfer-encoding", "host"}

    async def forward(request: web.Request) -> web.StreamResponse:
        url = URL(f"http://127.0.0.1:{upstream_port}{request.raw_path}", encoded=True)
        kept = [(name, value) for name, value in request.headers.items() if name.lower() not in hop_by_hop]
        async with client.request(request.method, url, headers=kept, data=await request.read()) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in hop_by_hop:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", forward)
    timeout, connector = ClientTimeout(total=None, sock_connect=5), TCPConnector(limit=0)
    async with ClientSession(auto_decompress=False, timeout=timeout, connector=connector) as client:
        runner = web.AppRunner(application, handler_cancellation=True, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


async def _run(kind: str, port: int, upstream_port: int) -> None:
    if kind == "session":
        await _serve_session(port, upstream_port)
    loop = asyncio.get_running_loop()
    factory = Upstream if kind == "upstream" else lambda: Relay(upstream_port)
    server = await loop.create_server(factory, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0))

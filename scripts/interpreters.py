"""Prints the Python interpreters that tests run on: one working CPython for each minor version from 3.11.

Looks at the commands on PATH and at what pyenv has installed. A line is ``VERSION PATH``; the interpreter that
runs this script stands first, because the others follow it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 15)
# ensurepip is asked for because a Debian python3 without python3-venv cannot make the environment that tests need.
_ASK = "import ensurepip, sys, venv; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"


def find_candidates() -> Iterator[str]:
    """Paths that may be interpreters, the running one first."""
    yield sys.executable
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        yield from _which(f"python3.{minor}")
    yield from _which("python3")
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    yield from (str(path) for path in sorted(root.glob("versions/*/bin/python")))


def probe(path: str) -> str | None:
    """The ``major.minor`` of a CPython that can make environments, or None."""
    try:
        done = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.split()
    return words[1] if done.returncode == 0 and len(words) == 2 and words[0] == "cpython" else None


def find_interpreters() -> dict[str, str]:
    """One path for each version in range."""
    found: dict[str, str] = {}
    for path in find_candidates():
        version = probe(path)
        if version and OLDEST <= tuple(map(int, version.split("."))) <= NEWEST:
            found.setdefault(version, path)
    return found


def _which(name: str) -> Iterator[str]:
    if path := shutil.which(name):
        yield path


if __name__ == "__main__":
    for version, path in find_interpreters().items():
        print(version, path)

"""Makes virtual environments with the locked tools and the project itself, and only when something has changed.

Run as a script it makes ``.venv`` for the interpreter that runs it. Plain ``venv`` and ``pip`` do it, so that a
newcomer needs nothing else; every file that pip installs is checked against the hashes of the lock.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / ".venv"
LOCK = ROOT / "requirements" / "dev.txt"


def ensure(home: Path, interpreter: str) -> Path:
    """The environment's Python, with everything installed."""
    python = home / "bin" / "python"
    stamp = home / "installed"
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted and python.exists():
        return python
    print(f"Installing the locked tools into {home.relative_to(ROOT)}", file=sys.stderr, flush=True)
    subprocess.run([interpreter, "-m", "venv", home], check=True)
    pip: list[str | Path] = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "--require-hashes", "-r", LOCK], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT], check=True)
    stamp.write_text(wanted, encoding="utf-8")
    return python


def ensure_for(version: str, interpreter: str) -> Path:
    """The environment of one interpreter: ``.venv`` for the running one, ``.venvs/VERSION`` for the others."""
    if interpreter == sys.executable:
        return ensure(DEFAULT, interpreter)
    home = ROOT / ".venvs" / version
    try:
        return ensure(home, interpreter)
    except subprocess.CalledProcessError:
        # Half an environment would look like a whole one to whoever uses it by hand.
        shutil.rmtree(home, ignore_errors=True)
        raise


if __name__ == "__main__":
    ensure(DEFAULT, sys.executable)

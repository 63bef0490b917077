"""The rooms and the only imports allowed between them, and what must agree for a release."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import corral

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

ALLOWED = {
    "wire": {"wire"},
    "ops": {"ops", "wire"},
    "config": {"client", "wire"},
    "client": {"client", "ops", "wire"},
    "ledger": {"ledger", "ops", "wire"},
    "machine": {"machine", "ops", "wire"},
    "gateway": {"gateway", "client", "config", "ledger", "machine", "ops", "wire", "aiohttp"},
    "faces": {"faces", "client", "config", "ledger", "machine", "ops", "wire"},
    "sim": {"sim", "wire"},
    "facade": {"client", "ledger", "machine", "ops"},
    "aio_facade": {"client", "facade", "ops"},
    "__init__": {"aio_facade", "client", "facade", "ops", "wire"},
    "__main__": {"faces"},
}
"""Room, or module that stands alone, to what it may import; a new room needs a line here."""

EXCEPTIONS = {
    # The demo starts a router of its own.
    ("faces/cli/demo.py", "sim"),
    # Starts the daemon.
    ("faces/cli/serve.py", "gateway"),
    # The async client is the only user of a package from outside; yarl comes with aiohttp.
    ("client/aio.py", "aiohttp"),
    ("client/aio.py", "yarl"),
    ("client/aio_engine.py", "aiohttp"),
    # The driver's library, an extra.
    ("machine/nvml.py", "pynvml"),
}
"""File and what it may import besides."""


def find_imports(text: str, package: str) -> Iterator[tuple[int, str]]:
    """Line and absolute name of every import, wherever it stands in the module; ``package`` is where that lies."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            # "from corral import wire" imports a room, so the name belongs to the path.
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "corral" else [base]
            yield from ((node.lineno, name) for name in names)


def find_offences(source: Path) -> list[str]:
    """``file:line: what`` for every import against the arrows."""
    offences = []
    for path in sorted((source / "corral").rglob("*.py")):
        inside = path.relative_to(source / "corral")
        room = inside.parts[0].removesuffix(".py")
        package = ".".join(path.relative_to(source).parent.parts)
        for line, name in find_imports(path.read_text(encoding="utf-8"), package):
            target = _name_target(name)
            if target in ALLOWED.get(room, set()) or target is None or (inside.as_posix(), target) in EXCEPTIONS:
                continue
            offences.append(f"{path.relative_to(source)}:{line}: {room} must not import {name}")
    return offences


def _name_target(name: str) -> str | None:
    """The room or foreign package that an import reaches for; None for what all may import."""
    top, _, rest = name.partition(".")
    if top in sys.stdlib_module_names:
        return None
    if top != "corral":
        return top
    room = rest.partition(".")[0]
    return room if (SOURCE / "corral" / room).is_dir() or (SOURCE / "corral" / f"{room}.py").is_file() else None


def test_imports_follow_the_arrows() -> None:
    """No room imports against the arrows, and only the async client and the gateway import a package from outside."""
    offences = find_offences(SOURCE)

    assert not offences, "\n" + "\n".join(offences)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("wire/models.py", "from corral.ops import plan"),
        ("wire/models.py", "from corral import client"),
        ("ops/unload.py", "def f():\n    import corral.client.router"),
        ("ops/unload.py", "from ..client import Router"),
        ("ops/unload.py", "from .. import config"),
        ("sim/server.py", "from corral.ops import plan"),
        ("client/router.py", "import aiohttp"),
        ("newroom/x.py", "import corral.wire"),
    ],
)
def test_offending_line_is_named(tmp_path: Path, place: str, text: str) -> None:
    """An import against the arrows is found wherever it hides, and named by file and line."""
    path = tmp_path / "corral" / place
    path.parent.mkdir(parents=True)
    path.write_text(f"import os\n{text}\n", encoding="utf-8")
    line = 3 if "def" in text else 2

    assert [f"corral/{place}:{line}"] == [":".join(offence.split(":")[:2]) for offence in find_offences(tmp_path)]


def test_every_room_is_described() -> None:
    """The table above names the rooms that exist, no more and no fewer."""
    entries = {
        path.stem for path in (SOURCE / "corral").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }

    assert set(ALLOWED) == entries


def test_changelog_begins_with_the_version() -> None:
    """The newest section of the changelog is about the version that the package says it is."""
    sections = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)

    assert corral.__version__ == sections[0]


def test_version_is_written_once() -> None:
    """The package's version is the distribution's: pyproject.toml reads it from the package and has no own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

    assert "version" not in project["project"]
    assert "src/corral/__init__.py" == project["tool"]["hatch"]["version"]["path"]


def test_lock_names_no_host() -> None:
    """The lock files pin by hash and leave it to the user's settings where packages come from."""
    for path in sorted((ROOT / "requirements").glob("*.txt")):
        text = path.read_text(encoding="utf-8")

        assert "--hash=sha256:" in text, path
        assert not re.search(r"https?:|--(extra-)?index-url|--find-links", text), path

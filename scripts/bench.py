"""Measures Corral on real routers and writes docs/benchmarks.md.

    python scripts/bench.py [--only NAME]... [--rounds 15] [--llama-server PATH] [--check]

Each section of the page is measured by a script of its own, ``bench_NAME.py``; ``--only`` measures some of them anew
and leaves the rest of the page as it was. ``--check`` fails when a figure misses its bound.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from llama_server import DEFAULT_BUILD

from corral import __version__

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
SECTIONS = ("unload", "loss", "hold", "gateway")


def main() -> int:
    """Measure, write the page, and with ``--check`` judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this section; may be repeated")
    parser.add_argument("--rounds", type=int, default=15, help="how often to measure (default: %(default)s)")
    parser.add_argument("--llama-server", help="binary to use (default: the cached build)")
    parser.add_argument("--check", action="store_true", help="fail when a figure misses its bound")
    args = parser.parse_args()
    binary = args.llama_server or find_binary()
    # An installed Corral has its byte code beside it; a checkout may not, where Python is told to write none.
    compileall.compile_dir(ROOT / "src", quiet=1)
    sections = read_sections(PAGE.read_text(encoding="utf-8")) if PAGE.exists() else {}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        # What is measured is written to a log as always, but not to the user's.
        os.environ["CORRAL_STATE_DIR"] = folder
        for name in args.only or SECTIONS:
            print(f"Measuring: {name}", file=sys.stderr, flush=True)
            script = import_module(f"bench_{name}")
            found = script.measure(binary, args.rounds)
            sections[name] = script.render(found).strip()
            print(sections[name], flush=True)
            missed += script.judge(found)
    PAGE.write_text(write_page(binary, sections), encoding="utf-8")
    for line in missed:
        print(f"bench: over its bound: {line}", file=sys.stderr)
    return 1 if missed and args.check else 0


def find_binary() -> str:
    """The llama-server that the tests use."""
    command = [sys.executable, str(ROOT / "scripts" / "llama_server.py")]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def read_build(binary: str) -> str:
    """The build as the tests name it; of another binary what that says of itself."""
    if DEFAULT_BUILD in binary:
        return DEFAULT_BUILD
    found = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"version: .*", found.stdout + found.stderr)
    return version[0] if version else "version unknown"


def read_sections(page: str) -> dict[str, str]:
    """The sections of a page by the names of their scripts."""
    found = re.split(r"<!-- bench_(\w+)\.py -->\n", page)[1:]
    return {name: text.strip() for name, text in zip(found[::2], found[1::2], strict=True)}


def write_page(binary: str, sections: dict[str, str]) -> str:
    """The page: how the figures came about, and the sections in their order."""
    surroundings = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    head = f"""# Benchmarks

Written by `make bench`; run it to get your own. Corral {__version__}, llama-server {read_build(binary)},
{surroundings}, tiny models on the CPU. Times are wall time of whole processes, medians; a machine that does other
things moves them, so the ratios are what to read.
"""
    return "\n".join(
        [head, *(f"<!-- bench_{name}.py -->\n{sections[name]}\n" for name in SECTIONS if name in sections)]
    )


if __name__ == "__main__":
    raise SystemExit(main())

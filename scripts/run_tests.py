"""Runs the tests on every interpreter found: all of them on the one that runs this, all but the live ones elsewhere.

The live tests talk to a real llama-server, whose behaviour does not depend on the Python beside it. The complete run
comes last, so that its closing line is the last one. ``CORRAL_TEST_PYTHONS=default`` leaves the others out.
Arguments go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys

import environment
import interpreters
import llama_server


def main(arguments: list[str]) -> int:
    """0 if every run passed."""
    build = os.environ.get("CORRAL_LIVE_BUILD") or llama_server.DEFAULT_BUILD
    try:
        if not llama_server.find_override(build):
            llama_server.provide(build, may_build=True)
    except llama_server.BuildError as error:
        print(f"run_tests.py: {error}", file=sys.stderr)
        return 1
    found = interpreters.find_interpreters()
    if os.environ.get("CORRAL_TEST_PYTHONS") == "default":
        found = {version: path for version, path in found.items() if path == sys.executable}
    print(f"Testing on Python {', '.join(sorted(found, key=_sort_key))}", flush=True)
    codes = []
    for version, path in sorted(found.items(), key=lambda item: item[1] == sys.executable):
        is_default = path == sys.executable
        python = environment.ensure_for(version, path)
        selection = [] if is_default else ["-m", "not live", "-q"]
        print(f"Python {version}: {'all tests' if is_default else 'all but the live tests'}", flush=True)
        settings = {"CORRAL_REQUIRE_LIVE": "1" if is_default else "0"}
        command = [str(python), "-m", "pytest", *selection, *arguments]
        codes.append(subprocess.run(command, cwd=environment.ROOT, env=os.environ | settings, check=False).returncode)
    return max(codes)


def _sort_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

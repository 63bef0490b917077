"""What holds for all tests: which llama-server is tested against, and how many of the live tests ran.

``CORRAL_LLAMA_SERVER`` names the binary, ``CORRAL_LIVE_BUILD`` one of the builds that scripts/llama_server.py knows.
Without a binary the live tests are skipped, and that is said; with ``CORRAL_REQUIRE_LIVE=1``, as ``make test`` and
``.ci/run`` set it, a live test that was skipped, or none at all, fails the run. What is about newer builds than the
one that is tested is left out, which is no skip, and said too.
"""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine may take its time over one example.
settings.register_profile("patient", settings.default, deadline=None)
settings.load_profile("patient")

pytest_plugins = ["tests.support.clients", "tests.support.live", "tests.support.proxies"]

_SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "llama_server.py"
_DEFAULT_BUILD = "11434"
_counts = {"ran": 0, "skipped": 0}
_too_new: list[str] = []


def pytest_configure() -> None:
    """Tell everything that asks the environment which binary to use; nothing is built from here."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A run in the background ignores Ctrl-C, and so would the commands that it starts and interrupts.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if binary := _find_binary():
        os.environ["CORRAL_LLAMA_SERVER"] = binary


def pytest_report_header() -> list[str]:
    """What this run is about."""
    binary = os.environ.get("CORRAL_LLAMA_SERVER")
    named = f"{_name_build()} ({binary})" if binary else "none; the live tests are skipped"
    return [f"interpreter: {platform.python_implementation()} {platform.python_version()}", f"llama-server: {named}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about newer builds; skip what needs a binary where there is none."""
    left = [item for item in items if _find_least_build(item) > int(_name_build())]
    _too_new.extend(item.nodeid for item in left)
    config.hook.pytest_deselected(items=left)
    items[:] = [item for item in items if item not in left]
    if os.environ.get("CORRAL_LLAMA_SERVER"):
        return
    reason = pytest.mark.skip(reason="no llama-server here; build one: python scripts/llama_server.py")
    for item in items:
        if item.get_closest_marker("live"):
            item.add_marker(reason)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count the live tests."""
    if "live" not in report.keywords:
        return
    if report.skipped:
        _counts["skipped"] += 1
    elif report.when == "call":
        _counts["ran"] += 1


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that was to talk to a real server and did not."""
    if exitstatus == pytest.ExitCode.OK and _lacks_live_tests():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much of the run was real."""
    line = f"live tests: {_counts['ran']} ran, {_counts['skipped']} skipped"
    for name in _too_new:
        terminalreporter.write_line(f"left out, about newer builds than {_name_build()}: {name}")
    if _lacks_live_tests():
        terminalreporter.write_line(f"{line}, but CORRAL_REQUIRE_LIVE=1 asks for all of them", red=True)
    else:
        terminalreporter.write_line(line)


def _find_least_build(item: pytest.Item) -> int:
    return max((int(mark.args[0]) for mark in item.iter_markers("since")), default=0)


def _lacks_live_tests() -> bool:
    is_required = os.environ.get("CORRAL_REQUIRE_LIVE") == "1"
    return is_required and (_counts["ran"] == 0 or _counts["skipped"] > 0)


def _find_binary() -> str | None:
    command = [sys.executable, str(_SCRIPT), "--cached", "--build", _name_build()]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _name_build() -> str:
    return os.environ.get("CORRAL_LIVE_BUILD") or _DEFAULT_BUILD

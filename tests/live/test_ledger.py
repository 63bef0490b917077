"""Pins, sets and the log on a real llama-server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral import Router
from corral.sim.launch import RealRouter
from tests.support.live import QUOTED

pytestmark = pytest.mark.live

Corral = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def corral(live_router: RealRouter, tmp_path: Path) -> Corral:
    """Runs a command with a ledger of the test's own; returns its exit code and its document."""
    environ = {"CORRAL_STATE_DIR": str(tmp_path), "CORRAL_URL": live_router.url, "USER": "ann"}

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        command = [sys.executable, "-m", "corral", *words, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    return run


def test_pinned_model_stays_and_all_is_told(corral: Corral, live_router: RealRouter) -> None:
    """What is pinned survives unload --all, the set remembers all, and the log tells what was seen."""
    assert 0 == corral("load", "plain", QUOTED)[0]
    assert 0 == corral("pin", QUOTED)[0]
    assert 0 == corral("save", "evening")[0]
    code, report = corral("unload", "--all")
    again, blocked = corral("unload", "--all")
    with Router(live_router.url) as router:
        residents = [model.id for model in router.residents()]

    assert (0, [QUOTED], ["plain"]) == (code, report["pinned"], [model["id"] for model in report["models"]])
    assert (8, [QUOTED], [QUOTED]) == (again, blocked["pinned"], residents)
    assert {"plain", QUOTED} == set(corral("sets")[1]["sets"][0]["models"])
    told = [(entry["command"], entry["name"], entry["outcome"]) for entry in corral("log")[1]["entries"]]
    assert told == [
        ("load", "plain", "loaded"),
        ("load", QUOTED, "loaded"),
        ("pin", QUOTED, "pinned"),
        ("save", "evening", "saved"),
        ("unload", "plain", "unloaded"),
    ]
    assert 0 == corral("unpin", "--all")[0]
    assert 0 == corral("unload", "--all")[0]

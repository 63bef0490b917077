"""``python -m corral.sim``."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import corral
from corral.sim import Fault
from corral.sim.faults import FAULTS
from corral.sim.program import parse_arguments


def test_serves_until_sigterm() -> None:
    """It prints its URL, serves the models asked for, and ends cleanly when told to."""
    command = [sys.executable, "-m", "corral.sim", "--models", "16", "--era", "b9093", "--loaded", "2"]
    environment = os.environ | {"PYTHONPATH": str(Path(corral.__file__).parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = urlsplit(json.loads(process.stdout.readline())["url"])
            connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=10)
            connection.request("GET", "/models")
            entries = json.loads(connection.getresponse().read())["data"]
            connection.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert len(entries) == 16
    assert [entry["status"]["value"] for entry in entries].count("loaded") == 2
    assert "architecture" not in entries[0]


def test_arguments() -> None:
    """Options become the configuration; without any it is the default."""
    config = parse_arguments(["--model", 'a "b"', "--models", "0", "--fault", "hang:path=/models", "--api-key", "x,y"])
    assert [spec.id for spec in config.build_specs()] == ['a "b"']
    assert config.faults == (Fault("hang", "/models"),)
    assert config.api_keys == ("x", "y")
    assert len(parse_arguments([]).build_specs()) == 3


def test_help_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    """The help explains each fault."""
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    text = capsys.readouterr().out
    assert [kind for kind in FAULTS if kind not in text] == []

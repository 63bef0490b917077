"""Ten thousand models: memory and time of ``ls --json`` stay close to those of reading and writing the bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from tests.faces.kit import reply

if TYPE_CHECKING:
    from tests.faces.kit import Answer

    Serve = Callable[[Answer], str]

_BARE = "import json, sys; sys.stdout.write(json.dumps(json.loads(open(sys.argv[1], 'rb').read())))"
# Not ru_maxrss: that one remembers the process that forked.
_PEAK = "; sys.stderr.write(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
_CORRAL = "import sys; from corral.faces.cli import main; main(['ls', '--json'])"


def describe_model(number: int) -> dict[str, object]:
    """An entry as a router sends it."""
    args = ["/usr/bin/llama-server", "--host", "127.0.0.1", "--port", "0", "--alias", f"org/model-{number}:Q4_K_M"]
    preset = "\n".join(f"option-{at} = {number * at}" for at in range(20))
    return {
        "id": f"org/model-{number}:Q4_K_M",
        "object": "model",
        "owned_by": "llamacpp",
        "created": number,
        "aliases": [],
        "tags": [],
        "path": f"/models/{number}.gguf",
        "can_remove": False,
        "status": {"value": "unloaded", "args": args, "preset": preset},
    }


def measure_peak(code: str, *argv: str) -> int:
    """The peak memory of a program, in KiB."""
    environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    command = [sys.executable, "-c", code + _PEAK, *argv]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environ, check=True)
    return int(done.stderr)


def test_peak_memory(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The peak is at most 1.5 times that of a bare json.loads and dumps of the same bytes."""
    body = json.dumps({"object": "list", "data": [describe_model(number) for number in range(10_000)]}).encode()
    (tmp_path / "list.json").write_bytes(body)
    answer = reply(200, body)
    monkeypatch.setenv("CORRAL_URL", serve(lambda *request: answer))
    bare, own = measure_peak(_BARE, str(tmp_path / "list.json")), measure_peak(_CORRAL)

    assert 2 * len(body) / 1024 < bare
    assert own <= 1.5 * bare

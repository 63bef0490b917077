"""The tiny models: valid GGUF, the same bytes for the same seed, and readable talk on a real server."""

from __future__ import annotations

import http.client
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from corral.sim.launch import RealRouter
from corral.sim.tiny_model import write_tiny_model


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """A seed decides every byte, so that a test sees the same model wherever it runs."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_tiny_model(tmp_path / name, seed=seed)
    a, b, c = (tmp_path.joinpath(name).read_bytes() for name in "abc")

    assert a == b
    assert a != c


def test_default_is_small(tmp_path: Path) -> None:
    """The default model is about half a megabyte, which sixteen of them may take."""
    write_tiny_model(tmp_path / "tiny.gguf")

    assert 400_000 < (tmp_path / "tiny.gguf").stat().st_size < 700_000


@pytest.mark.parametrize(("layers", "width"), [(1, 64), (2, 64), (3, 128)])
def test_tensors_fill_the_file(tmp_path: Path, layers: int, width: int) -> None:
    """The head counts nine tensors for each layer and three more, and their data ends with the file."""
    path = tmp_path / "model.gguf"
    write_tiny_model(path, layers=layers, width=width)
    magic, version, tensors, _ = struct.unpack("<4sIQQ", path.read_bytes()[:24])

    assert (b"GGUF", 3, 9 * layers + 3) == (magic, version, tensors)
    assert path.stat().st_size % 32 == 0


@pytest.mark.live
def test_stream_lasts_as_long_as_asked(live_router: RealRouter) -> None:
    """A chat gets exactly ``max_tokens`` tokens, different words separated by spaces: the end never wins."""
    answer = ask(live_router, {"model": "plain", "max_tokens": 100})
    text = answer["choices"][0]["message"]["content"]

    assert ("length", 100) == (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"])
    assert len(set(text.split())) > 50
    assert text.replace(" ", "").isalpha()


def ask(router: RealRouter, body: dict[str, object]) -> Any:
    """One chat completion."""
    connection = http.client.HTTPConnection(router.url.removeprefix("http://"), timeout=60)
    messages = [{"role": "user", "content": "Tell me of the herd."}]
    connection.request("POST", "/v1/chat/completions", json.dumps(body | {"messages": messages}))
    try:
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()

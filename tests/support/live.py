"""Fixtures for tests that talk to a real llama-server; whoever uses them marks the test ``live``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from corral.sim.launch import RealRouter
from corral.sim.tiny_model import write_tiny_model


class ModelFiles(NamedTuple):
    """Tiny models on disk."""

    quick: Path
    """Loads at once and answers at once."""
    slow: Path
    """Takes some milliseconds a token: a stream can be looked at while it lasts."""


QUOTED = 'we "quote" it\'s / here'
LIVE_IDS = ("plain", QUOTED, "emoji 🐎 ü:Q4", "busy", "broken")
"""The ids of ``live_router``: three quick models, a slow one, and one that fails to load."""


@pytest.fixture(scope="session")
def llama_server_binary() -> str:
    """The llama-server under test."""
    return os.environ["CORRAL_LLAMA_SERVER"]


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A quick model and a slow one."""
    folder = tmp_path_factory.mktemp("models")
    files = ModelFiles(folder / "quick.gguf", folder / "slow.gguf")
    write_tiny_model(files.quick, seed=1)
    write_tiny_model(files.slow, seed=2, layers=8, width=512)
    return files


@pytest.fixture(scope="session")
def live_presets(model_files: ModelFiles) -> Mapping[str, Mapping[str, str]]:
    """The preset sections of ``live_router``, for tests that start one with other options."""
    quick = {"model": str(model_files.quick)}
    sections = (
        quick,
        quick | {"alias": "al1,al2", "tags": "t1,t2"},
        quick,
        {"model": str(model_files.slow), "stop-timeout": "1"},
        {"model": str(model_files.quick) + ".missing"},
    )
    return dict(zip(LIVE_IDS, sections, strict=True))


@pytest.fixture(scope="session")
def session_router(llama_server_binary: str, live_presets: Mapping[str, Mapping[str, str]]) -> Iterator[RealRouter]:
    """One router under one URL for the whole run."""
    # Two slots of 2,048 tokens: room for a stream that outlasts the stop-timeout.
    with RealRouter(llama_server_binary, live_presets, context=4096) as router:
        yield router


@pytest.fixture
def live_router(session_router: RealRouter) -> RealRouter:
    """The session's router with nothing resident, nothing queued and nothing remembered."""
    # A restart takes a few hundredths of a second and leaves nothing behind, which no number of unloads can promise.
    session_router.restart()
    return session_router

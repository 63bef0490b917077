"""The contract suite's fixtures: everything runs against the simulator and against the real llama-server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .kit import Server
from .targets import LiveTarget, SimTarget

Target = SimTarget | LiveTarget


@pytest.fixture(scope="session", params=["sim", pytest.param("live", marks=pytest.mark.live)])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    """What starts the servers under test."""
    return SimTarget() if request.param == "sim" else LiveTarget(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def shared_router(target: Target) -> Iterator[Server]:
    """One router for all tests that need no option."""
    with target.router() as server:
        yield server


@pytest.fixture
def router(shared_router: Server) -> Server:
    """The shared router with nothing resident."""
    shared_router.clear()
    return shared_router

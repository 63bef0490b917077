"""The contract suite's fixtures: everything runs against the simulator and against the real llama-server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.kit import Server
from tests.contract.targets import LiveTarget, SimTarget

Target = SimTarget | LiveTarget


@pytest.fixture(scope="session", params=["sim", pytest.param("live", marks=pytest.mark.live)])
def target(request: pytest.FixtureRequest) -> Target:
    """What starts the servers under test."""
    if request.param == "sim":
        return SimTarget()
    return LiveTarget(request.getfixturevalue("llama_server_binary"), request.getfixturevalue("model_files"))


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

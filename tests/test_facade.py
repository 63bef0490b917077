"""What ``from corral import ...`` gives: each public name, and types that a program can write down."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import assert_type

import pytest

import corral
from corral import AsyncRouter, Router
from corral.client import identify
from corral.ledger import Ledger, LedgerError
from corral.ops.promises import Owner
from corral.sim import ModelSpec, simulate
from tests.support.clients import Use


@pytest.mark.parametrize("name", corral.__all__)
def test_public_names_are_there(name: str) -> None:
    """Every name that the package promises can be imported from it."""
    assert getattr(corral, name) is not None


def test_with_gives_the_class_that_was_imported() -> None:
    """What ``with Router()`` binds has the type that an annotation ``Router`` means, as the type checker reads too."""
    with Router("http://127.0.0.1:1") as router:
        assert_type(router, Router)
        assert type(router) is Router


async def enter_async() -> None:
    """Read by the type checker."""
    async with AsyncRouter("http://127.0.0.1:1") as router:
        assert_type(router, AsyncRouter)


@pytest.mark.parametrize("kind", [Router, AsyncRouter])
def test_results_can_be_named(kind: type[Router] | type[AsyncRouter]) -> None:
    """Whatever a verb returns has a name that the package gives."""
    verbs = ("list_models", "unload", "unload_all", "load", "wait")
    named = [str(inspect.signature(getattr(kind, verb)).return_annotation) for verb in verbs]

    assert set(named) <= set(corral.__all__), named


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of the test's own for the ledger."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path))
    return tmp_path


def test_what_is_pinned_stays(state: Path, use: Use) -> None:
    """``unload_all`` leaves alone what ``corral pin`` has pinned, unless it is told to take that too."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded"))
    with simulate(models=models) as sim:
        with Ledger.open(str(state)) as ledger:
            ledger.pins.add(identify(sim.url), ["b"], owner=Owner("ann", "box"), wall=time.time())
        first = use(sim.url, lambda router: router.unload_all())
        then = use(sim.url, lambda router: router.unload_all(include_pinned=True))

    assert [["a"], ["b"]] == [[item.model for item in report.outcomes] for report in (first, then)]


def test_pins_that_cannot_be_read_are_no_licence(state: Path, use: Use) -> None:
    """Where what is pinned cannot be read, nothing is unloaded: it may have been meant to stay."""
    (state / "ledger.db").write_bytes(b"no database" * 100)
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        with pytest.raises(LedgerError):
            use(sim.url, lambda router: router.unload_all())

        assert sim.state("a") == "loaded"

"""``corral restore``: what was saved comes back, on a simulated router, and nobody's model goes for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corral.client import identify
from corral.ledger import Ledger, read_moment
from corral.ops.promises import Owner
from corral.sim import simulate
from corral.sim.config import ModelSpec
from corral.sim.control import Simulation

if TYPE_CHECKING:
    from tests.faces.kit import Result

    Cli = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the commands keep their ledger."""
    return str(tmp_path / ".local" / "state" / "corral")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts a simulated router that the environment leads to."""

    @contextmanager
    def begin(*models: str | ModelSpec, **options: Any) -> Iterator[Simulation]:
        with simulate(models=models, **options) as sim:
            monkeypatch.setenv("CORRAL_URL", sim.url)
            yield sim

    return begin


def told(result: Result) -> list[tuple[str, str]]:
    """Id and outcome of each model of a document."""
    return [(model["id"], model["outcome"]) for model in json.loads(result.out)["models"]]


def test_the_set_comes_back_in_order(cli: Cli, start: Callable[..., Any]) -> None:
    """Saved, unloaded and restored: the models are up again in the order of the set, and it is told and logged."""
    with start("a", "b", "c") as sim:
        cli("load", "c", "a")
        cli("save", "evening", "c", "a")
        cli("unload", "--all")
        planned, done, again = (cli("restore", "evening", *more) for more in (["--dry-run"], [], ["--json"]))
        asked = [json.loads(request.body)["model"] for request in sim.requests("POST", "/models/load")]
        assert ["loaded", "unloaded", "loaded"] == [sim.state(name) for name in "abc"]

    assert ["c", "a", "c", "a"] == asked
    assert [["c", "load"], ["a", "load"]] == [line.split()[:2] for line in planned.out.splitlines()[1:]]
    assert 0 == done.code and "Restored 2 models on" in done.err
    assert (0, [("c", "already_loaded"), ("a", "already_loaded")]) == (again.code, told(again))
    assert "evening" == json.loads(again.out)["set"]
    entries = json.loads(cli("log", "--json").out)["entries"]
    assert [("restore", "c", "loaded"), ("restore", "a", "loaded")] == [
        (entry["command"], entry["name"], entry["outcome"]) for entry in entries[-2:]
    ]


def test_nobody_is_evicted(cli: Cli, start: Callable[..., Any]) -> None:
    """What there is no place for is left alone, with a step to try; a mixed end is exit 5, none at all exit 1."""
    with start("a", "b", "x", "y", models_max=3) as sim:
        cli("save", "s", "a", "b")
        cli("load", "x", "y")
        mixed, none = cli("restore", "s", "--json"), cli("restore", "s", "-q")
        assert ["loaded", "unloaded", "loaded", "loaded"] == [sim.state(name) for name in "abxy"]
        sim.load("b")
        assert "unloaded" in [sim.state(name) for name in "axy"], "the router does evict at its maximum"

    assert (5, [("a", "loaded"), ("b", "no_room")]) == (mixed.code, told(mixed))
    assert "--models-max" in mixed.err
    assert (5, "a\n") == none[:2] and "places for 3, and 3 are taken" in none.err


def test_a_router_without_a_number(cli: Cli, start: Callable[..., Any]) -> None:
    """A router of winter 2025 does not tell its maximum: no more than the default of four come back."""
    names = tuple("abcdef")
    with start(*names, era="v1", models_max=0) as sim:
        cli("save", "s", *names)
        result = cli("restore", "s", "--json")
        assert 4 == sum(sim.state(name) == "loaded" for name in names)

    assert 5 == result.code and [("e", "no_room"), ("f", "no_room")] == told(result)[4:]
    assert "assumed" in json.loads(result.out)["models"][4]["detail"]


def test_held_vanished_and_broken_models(cli: Cli, start: Callable[..., Any], folder: str) -> None:
    """What is held, gone from the list or fails to load is reported, each its way, and the others come back."""
    with start("a", "held", "gone", ModelSpec("broken", fails_with=3), "z"):
        cli("save", "s", "broken", "gone", "held", "z")
    with start("a", "held", ModelSpec("broken", fails_with=3), "z") as sim, Ledger.open(folder) as ledger:
        first = ledger.sets.list_sets()[0]
        ledger.sets.save("s", identify(sim.url), first.models, owner=Owner("ann", "box"), wall=1.0)
        ledger.holds.add(
            identify(sim.url), ("held",), owner=Owner("ann", "box"), duration_s=60, now=read_moment(), reason="a game"
        )
        planned, result = cli("restore", "s", "-n"), cli("restore", "s", "--json")
        alone = (cli("save", "h", "held"), cli("restore", "h"))[1]
        assert "loaded" == sim.state("z") and "unloaded" == sim.state("held")

    assert ["load", "leave", "leave", "load"] == [line.split()[1] for line in planned.out.splitlines()[1:]]
    assert 5 == result.code
    assert [("broken", "load_failed"), ("gone", "vanished"), ("held", "held"), ("z", "loaded")] == told(result)
    assert 8 == alone.code and "held by ann@box (h1): a game" in alone.out and "corral release" in alone.err


def test_mistakes(cli: Cli, start: Callable[..., Any]) -> None:
    """An unknown set is exit 1 with the nearest, none or two are exit 2, and an empty one is done at once."""
    with start("a") as sim:
        cli("save", "nothing")
        assert (0, "") == cli("restore", "nothing")[:2]
        unknown = cli("restore", "nothin")
        assert [2, 2] == [cli("restore").code, cli("restore", "nothing", "x").code]
        assert [] == sim.requests("POST")

    assert 1 == unknown.code and "Did you mean nothing?" in unknown.err


def test_ctrl_c(spawn: Callable[..., Any], finish: Callable[..., Result], cli: Cli, start: Callable[..., Any]) -> None:
    """Interrupted, it says what came back and what did not."""
    with start(ModelSpec("slow", load_s=30.0), "z") as sim:
        cli("save", "s", "slow", "z")
        process = spawn("restore", "s")
        sim.wait_for("slow", "loading")
        process.terminate()
        result = finish(process)

    assert 143 == result.code and "Interrupted" in result.err
    assert ["slow", "z"] == [line.split()[0] for line in result.out.splitlines()]

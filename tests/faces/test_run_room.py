"""``corral run --free``: as few models as it takes go, so much is measured free, and all else is kept away."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from corral.client import Router
from corral.faces.cli.commands import find_command
from corral.faces.cli.console import Console
from corral.faces.cli.options import parse
from corral.faces.cli.run import SPEC, run_beside
from corral.wire import CorralError
from tests.faces.meters import Card

if TYPE_CHECKING:
    from tests.faces.kit import RawRouter, Result

    Cli = Callable[..., Result]

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def card(router: RawRouter) -> Card:
    """alpha holds 10 GiB and beta 4, of 24; blender 2: so 8 are free."""
    router.ports.update(alpha=5001, beta=5002)
    return Card(router, {"alpha": 10, "beta": 4})


@pytest.fixture
def run(card: Card, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs python with the given code as the command, on that card; returns the exit code and what was said."""

    def begin(size: str, *words: str, code: str = "") -> tuple[int, str]:
        command = find_command("run")
        assert command is not None
        args = parse(command, SPEC, ["--free", size, *words, "--", sys.executable, "-c", code])
        capsys.readouterr()
        console = Console()
        with Router(os.environ["CORRAL_URL"], meter=card) as client:
            exit_code = console.finish(run_beside(client, sys.executable, args, console))
        return exit_code, capsys.readouterr().err

    return begin


def test_fewest_go_and_come_back(run: Run, router: RawRouter, card: Card) -> None:
    """One idle model goes for twelve GiB, the other stays, and the one is back afterwards."""
    card.last_active_s = {"alpha": 50.0, "beta": 3.0}
    code, said = run("12GiB")

    assert 0 == code, said
    assert [("unload", "alpha"), ("load", "alpha")] == router.posts
    assert "Unloaded 1 model" in said and "Restored 1 model" in said


def test_all_else_is_held(run: Run, router: RawRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile nothing that was not up may come up, since it would take the room; what stays is not held."""
    monkeypatch.setenv("PYTHONPATH", str(Path(corral.__file__).parent.parent))
    held = "import os, sys; from corral.faces.cli import main; sys.exit(main(['holds', '--json']))"
    code, _ = run("12GiB", code=f"import sys; sys.stdout = open('{os.environ['HOME']}/holds', 'w'); {held}")
    with open(f"{os.environ['HOME']}/holds", encoding="utf-8") as file:
        hold = json.load(file)["holds"][0]
    stayed = {"alpha", "beta"} - {model for verb, model in router.posts if verb == "unload"}

    assert 0 == code and None is hold["models"]
    assert sorted(stayed) == hold["excepted"]


def test_enough_is_free(run: Run, router: RawRouter) -> None:
    """Where there is room already the command just runs."""
    code, said = run("8GiB", code="raise SystemExit(3)")

    assert 3 == code and [] == router.posts and "No models had to be unloaded." in said


def test_what_is_protected_stays(run: Run, cli: Cli, router: RawRouter) -> None:
    """What is pinned or excepted does not go; where it stands in the way, nothing does and the command is not run."""
    cli("pin", "alpha")
    with pytest.raises(CorralError, match=r"6\.0 GiB would still be missing"):
        run("18GiB")
    with pytest.raises(CorralError, match="still be missing"):
        run("14GiB", "--include-pinned", "--except", "alias-of-alpha")
    assert [] == router.posts
    assert 0 == run("12GiB")[0] and {"beta"} == {model for _, model in router.posts}


def test_room_that_somebody_else_takes(run: Run, router: RawRouter, card: Card) -> None:
    """If another program takes what was freed, the command is not started, the model is back, and the code is 7."""
    card.takes_gib = 9
    code, said = run("12GiB", code="raise SystemExit(3)")

    assert 7 == code and "are still not free" in said and "The command was not started." in said
    assert ["unload", "load"] == [verb for verb, _ in router.posts]


def test_memory_that_cannot_be_seen(run: Run, router: RawRouter, card: Card) -> None:
    """Without sight of the memory nothing is promised, and nothing goes."""
    card.reason = "the router is on another host"
    with pytest.raises(CorralError, match="the router is on another host"):
        run("12GiB")
    assert [] == router.posts

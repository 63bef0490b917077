"""free: as few models as it takes, the arithmetic, and an exit code that says whether the memory is there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.client import Router
from corral.config import parse_size
from corral.faces.cli.commands import find_command
from corral.faces.cli.console import Console
from corral.faces.cli.free import SPEC, make_room
from corral.faces.cli.options import parse
from corral.wire import BadArgumentError, CorralError, UnknownModelError
from tests.faces.kit import RawRouter, Result, reply
from tests.faces.meters import GIB, Card

Free = Callable[..., Result]


@pytest.fixture
def card(router: RawRouter) -> Card:
    """alpha holds 10 GiB and beta 4, of 24; blender 2: so 8 are free."""
    router.ports.update(alpha=5001, beta=5002)
    return Card(router, {"alpha": 10, "beta": 4})


@pytest.fixture
def free(card: Card, capsys: pytest.CaptureFixture[str]) -> Free:
    """Runs the command with that card."""

    def run(size: str, *words: str) -> Result:
        command = find_command("free")
        assert command is not None
        args = parse(command, SPEC, [size, *words])
        capsys.readouterr()
        console = Console()
        console.quiet = args.quiet
        with Router(os.environ["CORRAL_URL"], meter=card) as client:
            code = console.finish(make_room(parse_size(size, "SIZE"), args, client, console, settle_s=0.1))
        return Result(code, *capsys.readouterr())

    return run


def test_fewest_go_and_the_rest_stays(free: Free, router: RawRouter) -> None:
    """Twelve GiB take one model; it is unloaded, the other stays, and what is free then is measured and told."""
    result = free("12GiB")

    assert 0 == result.code, result
    assert [("unload", "alpha")] == router.posts or [("unload", "beta")] == router.posts
    assert "were wanted" in result.err and "GiB are free on NVIDIA One now" in result.err


def test_longest_idle_goes_first(free: Free, router: RawRouter, card: Card) -> None:
    """Of two that would do, the one that has been idle for longer goes."""
    card.last_active_s = {"alpha": 50.0, "beta": 3.0}

    assert 0 == free("12GiB").code
    assert [("unload", "alpha")] == router.posts


def test_enough_is_free_already(free: Free, router: RawRouter) -> None:
    """Where so much is free, nothing is unloaded, and that is success in a plain sentence."""
    result = free("8GiB")

    assert (0, "", []) == (result.code, result.out, router.posts)
    assert "8.0 GiB are free on NVIDIA One, and 8.0 GiB were wanted: nothing to unload.\n" == result.err


def test_dry_run_shows_the_arithmetic(free: Free, router: RawRouter, card: Card) -> None:
    """--dry-run shows each model with what it holds, how long it was idle and why it goes or stays, and the sum."""
    card.last_active_s = {"alpha": 12.0}
    router.models["beta"] = "loaded"
    card.in_flight = {"beta": 2}
    result = free("12GiB", "--dry-run")

    assert (0, []) == (result.code, router.posts)
    assert result.out.splitlines() == [
        "NAME    HOLDS      IDLE   ACTION   REASON",
        "alpha   10.0 GiB   12s    unload   it is idle",
        "beta    4.0 GiB    >1m    leave    2 requests in flight",
        "NVIDIA One:",
        "  free now           8.0 GiB",
        "  wanted            12.0 GiB",
        "  missing            4.0 GiB",
        "  given back        10.0 GiB",
        "  free afterwards   18.0 GiB",
    ]
    assert "Nothing was changed.\n" == result.err


def test_pinned_and_excepted_stay(free: Free, router: RawRouter, cli: Callable[..., Result]) -> None:
    """What is pinned or excepted is not taken; --include-pinned takes what is pinned."""
    assert 0 == cli("pin", "alpha").code
    refused = free("18GiB")
    excepted = free("12GiB", "--except", "alias-of-beta")
    taken = free("18GiB", "--include-pinned", "--except", "beta")

    assert (8, 8) == (refused.code, excepted.code)
    assert "6.0 GiB would still be missing" in refused.err and "--include-pinned" in refused.err
    assert "it is pinned" in refused.out
    assert (0, [("unload", "alpha")]) == (taken.code, router.posts)


def test_too_much_is_refused_with_the_gap(free: Free, router: RawRouter) -> None:
    """What cannot be reached is told with the gap and who else uses the device, and nothing is unloaded."""
    result = free("23GiB")

    assert (1, []) == (result.code, router.posts)
    assert "23.0 GiB cannot be made free on NVIDIA One: 1.0 GiB would still be missing. Nothing was" in result.err
    assert "blender (pid 77) 2.0 GiB" in result.err and "--best-effort" in result.err
    assert "still short" in result.out
    assert "may go   it is idle" in result.out and "may go   it is asleep" in result.out


def test_busy_models_in_the_way(free: Free, router: RawRouter, card: Card) -> None:
    """Where models that answer requests would make the room, that is exit 6: another time it works."""
    router.models["beta"] = "loaded"
    card.in_flight = {"alpha": 1, "beta": 1}

    assert (6, []) == (free("12GiB").code, router.posts)


def test_best_effort(free: Free, router: RawRouter) -> None:
    """--best-effort unloads what may go; the exit code still says that so much is not free."""
    result = free("23GiB", "--best-effort")

    assert 1 == result.code
    assert {("unload", "alpha"), ("unload", "beta")} == set(router.posts)
    assert "Only 22.0 GiB are free on NVIDIA One now, 1.0 GiB less than the 23.0 GiB that were wanted" in result.err


def test_memory_that_somebody_else_takes(free: Free, router: RawRouter, card: Card) -> None:
    """When another program takes what came free, the exit code is 7, and it is named."""
    card.takes_gib = 9
    result = free("12GiB", "--except", "beta")

    assert 7 == result.code
    assert "the same command again" in result.err
    assert "Only 9.0 GiB are free" in result.err and "blender (pid 77) 11.0 GiB" in result.err


def test_model_that_comes_back(free: Free, router: RawRouter, card: Card) -> None:
    """A model that a client asks for at once came back: exit 7."""

    def bounce(verb: str, name: str) -> bytes:
        router.ports[name] += 1
        return reply(200, {"success": True})

    router.on_post = bounce
    result = free("12GiB", "--except", "beta")

    assert 7 == result.code and "came back" in result.out


def test_interruption(free: Free, router: RawRouter, card: Card) -> None:
    """Ctrl-C ends it with 130; what was and was not done is said."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    card.on_proof = interrupt
    result = free("12GiB", "--except", "beta")

    assert (130, ["alpha", "unloaded"]) == (result.code, result.out.split()[:2])
    assert "Interrupted: 1 unloaded, 0 asked for but not seen unloaded, 0 not asked for." in result.err


def test_documents(free: Free, router: RawRouter) -> None:
    """--json has the sum in bytes and every model with what was done and why, before and after."""
    planned = json.loads(free("12GiB", "--dry-run", "--json", "--except", "beta").out)
    done: dict[str, Any] = json.loads(free("12GiB", "--json", "--except", "beta").out)
    rows = {row["id"]: row for row in done["models"]}

    assert planned["dry_run"] and planned["reachable"] and "free_after_bytes" not in planned
    sizes = ("wanted_bytes", "free_bytes", "missing_bytes", "promised_bytes", "short_bytes")
    assert [12 * GIB, 8 * GIB, 4 * GIB, 10 * GIB, 0] == [planned[name] for name in sizes] == [done[n] for n in sizes]
    assert (done["ok"], done["exit_code"], done["free_after_bytes"]) == (True, 0, 18 * GIB)
    assert ("unload", "unloaded", 10 * GIB) == tuple(rows["alpha"][key] for key in ("action", "outcome", "freed_bytes"))
    assert ("leave", "excepted") == (rows["beta"]["action"], rows["beta"]["stays"])
    assert "nvidia:0" == done["device"]["id"]


def test_quiet_prints_what_went(free: Free) -> None:
    """-q prints the ids that were unloaded, and nothing else."""
    assert (0, "alpha\n", "") == free("12GiB", "-q", "--except", "beta")


def test_log_says_why(free: Free, cli: Callable[..., Result]) -> None:
    """The log tells that room was wanted, how much and where."""
    free("12GiB", "--except", "beta")
    entry = json.loads(cli("log", "--json").out)["entries"][-1]

    assert ("free", "alpha", "unloaded", 10 * GIB) == tuple(
        entry[key] for key in ("command", "name", "outcome", "freed_bytes")
    )
    assert "12.0 GiB were wanted on NVIDIA One" in entry["reason"]


def test_machine_that_is_not_seen(free: Free, card: Card, router: RawRouter) -> None:
    """Where memory cannot be seen nothing is unloaded, and it is said where to run the command."""
    card.reason = "gpu-box:8080 is another machine"
    with pytest.raises(CorralError) as caught:
        free("12GiB")

    assert "gpu-box:8080 is another machine" in caught.value.message and "own machine" in caught.value.hint
    assert [] == router.posts


def test_words_that_are_refused(free: Free, cli: Callable[..., Result]) -> None:
    """A device or model that is none, no size, two sizes and a bare number are refused before anything is done."""
    with pytest.raises(BadArgumentError, match="no device 7"):
        free("12GiB", "--device", "7")
    with pytest.raises(UnknownModelError):
        free("12GiB", "--except", "nobody")

    assert [2, 2, 2, 2] == [cli("free", *words).code for words in ((), ("1G", "2G"), ("12",), ("much",))]


def test_host_is_a_device(free: Free, router: RawRouter) -> None:
    """--device host asks for the machine's own memory."""
    result = free("32GiB", "--device", "host")

    assert (0, []) == (result.code, router.posts) and "free on host memory" in result.err


def test_ledger_that_cannot_be_read(free: Free, router: RawRouter, tmp_path: Path) -> None:
    """A ledger that may protect something and cannot be read stops the command; --include-pinned goes on."""
    folder = tmp_path / ".local" / "state" / "corral"
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"no database" * 100)
    with pytest.raises(CorralError, match="ledger"):
        free("12GiB")

    assert [] == router.posts
    assert 0 == free("12GiB", "--include-pinned", "--except", "beta").code

"""The command line on a simulated router, with its times, its eras and its bad days."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from corral.sim import Fault, ModelSpec, SimConfig, simulate
from corral.sim.eras import ERAS
from tests.faces.kit import Result

Cli = Callable[..., Result]
ODD = 'say "hi"/to me \x1b[31m🦙'


@pytest.mark.parametrize("era", ERAS)
def test_a_whole_round_in_each_era(cli: Cli, era: str) -> None:
    """list, load, list, unload all, list: the same with every build, odd ids included."""
    with simulate(SimConfig(models=("a", "b", ODD), era=era)) as sim:
        cli_at = ["--url", sim.url]
        load, ps = cli(*cli_at, "load", "a", "--", ODD), cli(*cli_at, "ps", "--json")
        unload, after = cli(*cli_at, "unload", "--all"), cli(*cli_at, "ps")

    assert [0] * 4 == [result.code for result in (load, ps, unload, after)], (load, ps, unload, after)
    assert {"a", ODD} == {model["id"] for model in json.loads(ps.out)["models"]}
    assert [True, True] == ["   unloaded   in " in line for line in unload.out.splitlines()]
    assert "" == after.out


def test_monitoring_asks_for_the_list_alone(cli: Cli) -> None:
    """ls and ps send one request each, and it is the list: nothing is loaded or woken."""
    with simulate(SimConfig(models=(ModelSpec("a", status="sleeping"), "b"))) as sim:
        results = [cli("--url", sim.url, name) for name in ("ls", "ps")]
        paths = [(request.method, request.path) for request in sim.request_log]

    assert [0, 0] == [result.code for result in results]
    assert [("GET", "/models")] * 2 == paths
    assert "sleeping" in results[1].out


def test_all_takes_what_a_recipe_misses(cli: Cli) -> None:
    """--all takes loaded, sleeping and loading models."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="sleeping"), ModelSpec("c", status="loading"))
    with simulate(SimConfig(models=models)) as sim:
        result = cli("--url", sim.url, "unload", "--all")

    assert 0 == result.code
    assert ["a", "b", "c"] == sorted(line.split()[0] for line in result.out.splitlines())


def test_what_is_waited_for_stands_in_a_log(cli: Cli) -> None:
    """Without a terminal there is one line for each model that is let finish first, and why."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded"))
    with simulate(SimConfig(models=models)) as sim, sim.busy("a"):
        result = cli("--url", sim.url, "unload", "--all", "--grace", "0.1s")
        quiet = cli("--url", sim.url, "unload", "--all", "--grace", "0.1s", "-q")

    assert result.err.count("Waiting for ") == result.err.count("Waiting for a: 1 request in flight\n") == 1
    assert (result.code, quiet.code) == (5, 6) and "Waiting" not in quiet.err


def test_no_grace_at_all(cli: Cli) -> None:
    """--grace 0s waits for nobody: what is busy is left alone at once, and cut with --force."""
    with simulate(SimConfig(models=(ModelSpec("a", status="loaded", stop_timeout_s=1),))) as sim, sim.busy("a"):
        left = cli("--url", sim.url, "unload", "--all", "--grace", "0s")
        cut = cli("--url", sim.url, "unload", "--all", "--grace", "0", "--force", "--timeout", "20s")

    assert 6 == left.code and "when the grace period ended; nothing was cut" in left.out
    assert 0 == cut.code and "1 request was cut" in cut.out


def test_time_is_up_before_the_grace(cli: Cli) -> None:
    """A --timeout shorter than the grace ends the wait, and is what the report names."""
    with simulate(SimConfig(models=(ModelSpec("a", status="loaded"),))) as sim, sim.busy("a"):
        result = cli("--url", sim.url, "unload", "a", "--timeout", "0.6s")

    assert 6 == result.code and "when the time was up; nothing was cut" in result.out


BAD_DAYS = {
    "never unloads": (Fault("never-unloads", model="a"), 5, "last seen loaded"),
    "comes back": (Fault("comes-back", model="a", seconds=0.01), 5, "came back"),
    "reset before": (Fault("reset-before", path="/models/unload", times=1), 0, "Unloaded 2 models"),
    "reset after": (Fault("reset-after", path="/models/unload", times=1), 0, "Unloaded 2 models"),
    "list cut once": (Fault("cut", path="/models", times=1), 3, "Check the network"),
    "huge": (Fault("huge", path="/models", size=1 << 20), 0, "Unloaded 2 models"),
    "slow": (Fault("slow", path="/models", seconds=0.05), 0, "Unloaded 2 models"),
    "silent stream": (Fault("events-silent", count=0), 0, "Unloaded 2 models"),
    "dying stream": (Fault("events-die", count=1), 0, "Unloaded 2 models"),
    "unloads refused": (Fault("status", path="/models/unload", code=503), 1, "Not seen unloaded: 2 models."),
}


@pytest.mark.parametrize("case", BAD_DAYS)
def test_bad_days(cli: Cli, case: str) -> None:
    """Whatever goes wrong on the way, the code and the words are those of what was seen."""
    fault, code, text = BAD_DAYS[case]
    # The second one takes its time, so that Corral is still there when the first comes back.
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded", exit_s=0.15))
    with simulate(SimConfig(models=models, faults=(fault,))) as sim:
        result = cli("--url", sim.url, "unload", "--all", "--timeout", "3s")

    assert code == result.code, result
    assert text in result.out + result.err
    assert "Traceback" not in result.err


def test_load_that_fails(cli: Cli) -> None:
    """A load whose child ends is told with the exit code, and ls tells it too."""
    with simulate(SimConfig(models=(ModelSpec("a", fails_with=1), "b"))) as sim:
        alone, mixed = cli("--url", sim.url, "load", "a"), cli("--url", sim.url, "load", "a", "b")
        listed = cli("--url", sim.url, "ls")

    assert (1, 5) == (alone.code, mixed.code)
    assert "failed (exit 1)" in alone.out
    assert "router's log" in alone.err
    assert "unloaded (exit 1)" in listed.out


def test_load_at_the_maximum_names_the_evicted(cli: Cli) -> None:
    """Where a load pushes another model out, that model is named."""
    with simulate(SimConfig(models=(ModelSpec("a", status="loaded"), "b"), models_max=1)) as sim:
        result = cli("--url", sim.url, "load", "b", "--json")
        told = cli("--url", sim.url, "load", "a")

    assert ["a"] == json.loads(result.out)["models"][0]["evicted"]
    assert "While a was loaded, b went" in told.err


def test_key_prefix_and_socket(cli: Cli, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, a path prefix and a unix socket are all that stands between."""
    monkeypatch.setenv("CORRAL_API_KEY", "secret")
    config = SimConfig(api_keys=("secret",), api_prefix="/llm", unix_socket=f"{tmp_path}/router.sock")
    with simulate(config) as sim:
        results = [cli("--url", sim.url, *argv) for argv in (["load", "model-01"], ["unload", "--all"], ["ls"])]

    assert [0, 0, 0] == [result.code for result in results]
    assert "secret" not in str(results)


def test_single_model_server_and_one_that_starts(cli: Cli) -> None:
    """What is no router is told apart, with exit 3."""
    texts = []
    for config in (SimConfig(single="tiny"), SimConfig(is_starting=True)):
        with simulate(config) as sim:
            result = cli("--url", sim.url, "unload", "--all")
            texts.append((result.code, result.err))

    assert [3, 3] == [code for code, _ in texts]
    assert "single model" in texts[0][1]
    assert "still loading" in texts[1][1]

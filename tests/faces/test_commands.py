"""The verbs on a router that does as it is told: what is printed where, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.faces.kit import refusal, reply

if TYPE_CHECKING:
    from tests.faces.kit import RawRouter, Result

    Cli = Callable[..., Result]


SUCCESS = reply(200, {"success": True})


def test_ls_lists_all_models(cli: Cli, router: RawRouter) -> None:
    """ls prints every model and its state on stdout, and nothing on stderr."""
    assert (0, "NAME    STATE\nalpha   loaded\nbeta    sleeping\ngamma   unloaded\n", "") == cli("ls")


def test_ls_wide_adds_columns(cli: Cli, router: RawRouter) -> None:
    """-o wide adds aliases, tags and port."""
    lines = cli("ls", "-o", "wide").out.splitlines()

    assert ["NAME", "STATE", "ALIASES", "TAGS", "PORT"] == lines[0].split()
    assert ["alpha", "loaded", "alias-of-alpha", "test", "5000"] == lines[1].split()


def test_ls_json_is_one_document(cli: Cli, router: RawRouter) -> None:
    """--json is one document with a version, and carries the router's own entries through."""
    document = json.loads(cli("ls", "--json").out)

    assert 1 == document["schema_version"]
    assert ["alpha", "beta", "gamma"] == [model["id"] for model in document["models"]]
    assert [True, True, False] == [model["resident"] for model in document["models"]]
    assert ["--port", "5000"] == document["models"][0]["raw"]["status"]["args"]


def test_ps_lists_residents_only(cli: Cli, router: RawRouter) -> None:
    """ps leaves out what holds no memory; -q prints ids alone."""
    assert (0, "alpha\nbeta\n", "") == cli("ps", "-q")


def test_options_may_stand_before_the_command(cli: Cli, router: RawRouter) -> None:
    """Common options count on either side of the command's name."""
    assert cli("-q", "--timeout", "9s", "ps") == cli("ps", "--timeout=9s", "--quiet")


def test_unload_all_prints_results_and_talk(cli: Cli, router: RawRouter) -> None:
    """A row a model on stdout, in columns; what is under way and the closing sentence on stderr."""
    result = cli("unload", "--all")

    assert 0 == result.code
    assert [["alpha", "unloaded", "in"], ["beta", "unloaded", "in"]] == [r.split()[:3] for r in result.out.splitlines()]
    assert ["Unloading alpha", "Unloading beta"] == sorted(result.err.splitlines()[:2])
    assert "Unloaded 2 models on http://127.0.0.1:" in result.err
    assert {"alpha": "unloaded", "beta": "unloaded", "gamma": "unloaded"} == router.models


@pytest.mark.parametrize("argv", [["ps"], ["unload", "--all"], ["stop", "--all"], ["eject", "-a", "--dry-run"]])
def test_nothing_resident_is_success(cli: Cli, router: RawRouter, argv: list[str]) -> None:
    """Where nothing is resident, a plain sentence says so and the exit code is 0."""
    router.models = dict.fromkeys(router.models, "unloaded")
    result = cli(*argv)

    assert (0, "") == (result.code, result.out)
    assert result.err.startswith("No resident models on http://")


def test_unload_of_one_that_is_not_resident(cli: Cli, router: RawRouter) -> None:
    """Nothing to do is success, and nothing is asked of the router."""
    result = cli("unload", "gamma")

    assert (0, "gamma   was not resident\n", []) == (result.code, result.out, router.posts)
    assert "Nothing to unload" in result.err


def test_dry_run_changes_nothing(cli: Cli, router: RawRouter) -> None:
    """--dry-run shows the plan of unload and of load, and sends nothing."""
    unload, load = cli("unload", "--all", "--dry-run"), cli("load", "gamma", "alpha", "--dry-run")

    assert ["alpha", "beta"] == [line.split()[0] for line in unload.out.splitlines()[1:]]
    assert [["gamma", "load"], ["alpha", "leave"]] == [line.split()[:2] for line in load.out.splitlines()[1:]]
    assert "Nothing was changed.\n" == unload.err == load.err
    assert [] == router.posts


def test_dry_run_as_json(cli: Cli, router: RawRouter) -> None:
    """The plan as JSON says what would be done to each model."""
    document = json.loads(cli("unload", "--all", "--except", "beta", "--dry-run", "--json").out)

    assert (1, True, ["alpha"]) == (
        document["schema_version"],
        document["dry_run"],
        [model["id"] for model in document["models"]],
    )


def test_selection_by_tag_match_and_exception(cli: Cli, router: RawRouter) -> None:
    """--tag and --match narrow, --except protects."""
    assert 0 == cli("unload", "--all", "--tag", "test", "--match", "*a", "--except", "alias-of-alpha").code
    assert [("unload", "beta")] == router.posts


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["-q"]], ids=["", "plan", "quiet"])
def test_what_matches_nothing_is_told(cli: Cli, router: RawRouter, more: list[str]) -> None:
    """A tag or pattern that no listed model has is named: nothing to do is success, but hardly meant."""
    result = cli("unload", "--tag", "tset", "--match", "alhpa*", *more)

    assert (0, "", []) == (result.code, result.out, router.posts)
    assert "has the tag 'tset'." in result.err
    assert "matches 'alhpa*'." in result.err
    assert "corral ls -o wide" in result.err


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["", "plan"])
def test_what_matches_nothing_stands_in_the_document(cli: Cli, router: RawRouter, more: list[str]) -> None:
    """One pattern of several that matches nothing is named; one that matches what is not resident is in order."""
    document = json.loads(cli("unload", "--match", "qw[", "--match", "gam*", "--match", "alp*", "--json", *more).out)

    assert (0, ["alpha"], ["qw["]) == (
        document["exit_code"],
        [model["id"] for model in document["models"]],
        document["unmatched"],
    )


@pytest.mark.parametrize("argv", [["alpha", "--except", "alpha"], ["alpha", "--except", "alias-of-alpha", "--dry-run"]])
def test_names_that_are_all_excepted_are_told(cli: Cli, router: RawRouter, argv: list[str]) -> None:
    """Where everything named is excepted too, nothing is done, and that is the reason given."""
    result = cli("unload", *argv)

    assert (0, "", []) == (result.code, result.out, router.posts)
    assert "whatever is named is excepted as well" in result.err


def test_unload_json_is_one_document(cli: Cli, router: RawRouter) -> None:
    """The report as JSON has an outcome for each model and the exit code."""
    document = json.loads(cli("unload", "--all", "--json").out)

    assert (1, True, 0) == (document["schema_version"], document["ok"], document["exit_code"])
    assert {"alpha": "unloaded", "beta": "unloaded"} == {m["id"]: m["outcome"] for m in document["models"]}


def test_quiet_unload_prints_ids_alone(cli: Cli, router: RawRouter) -> None:
    """-q prints what was unloaded and does not talk."""
    assert (0, "alpha\nbeta\n", "") == cli("unload", "--all", "-q")


def test_no_wait_says_that_it_did_not_wait(cli: Cli, router: RawRouter) -> None:
    """--no-wait never says unloaded: the outcome is a request."""
    result = cli("unload", "alpha", "--no-wait")

    assert 0 == result.code
    assert "requested" in result.out
    assert "not waited for" in result.err


def test_load_and_already_loaded(cli: Cli, router: RawRouter) -> None:
    """A load is seen through; one that is resident already is success and asks for nothing."""
    first, again = cli("load", "alias-of-gamma"), cli("load", "gamma")

    assert (0, 0, [("load", "gamma")]) == (first.code, again.code, router.posts)
    assert first.out.startswith("gamma   loaded   in ")
    assert "Loaded gamma in " in first.err
    assert "gamma   was resident\n" == again.out


def test_load_json(cli: Cli, router: RawRouter) -> None:
    """The load's report as JSON."""
    document = json.loads(cli("load", "gamma", "--json").out)

    assert [("gamma", "loaded")] == [(m["id"], m["outcome"]) for m in document["models"]]


def test_eviction_is_told(cli: Cli, router: RawRouter) -> None:
    """A model that the router unloaded to make room is named."""

    def evict(verb: str, model: str) -> bytes:
        router.models["alpha"] = "unloaded"
        return b"as usual"

    router.on_post = evict

    assert "While gamma was loaded, alpha went" in cli("load", "gamma").err


def test_wait_for_a_state_that_is_there(cli: Cli, router: RawRouter) -> None:
    """A wait for what is so already ends at once."""
    assert (0, "alpha   loaded\n", "") == cli("wait", "alpha", "--for", "loaded")


def test_wait_says_who_did_not_come(cli: Cli, router: RawRouter) -> None:
    """When the time is up, each model's status is told, with exit 1 and the next step."""
    result = cli("wait", "alpha", "beta", "--for", "loaded", "--timeout", "500ms")

    assert (1, "alpha   loaded\nbeta    still sleeping\n") == (result.code, result.out)
    assert "1 model not seen loaded" in result.err
    assert "--timeout" in result.err


def test_wait_json(cli: Cli, router: RawRouter) -> None:
    """The wait's report as JSON."""
    document = json.loads(cli("wait", "beta", "--for", "loaded", "--timeout", "500ms", "--json").out)

    assert (False, 1, [{"id": "beta", "status": "sleeping"}]) == (
        document["ok"],
        document["exit_code"],
        document["missing"],
    )


def test_events_of_a_build_without_them(cli: Cli, router: RawRouter) -> None:
    """A build without an event stream is an error that says so and what to use instead."""
    result = cli("events", "--timeout", "5s")

    assert 1 == result.code
    assert "no event stream" in result.err
    assert "corral ps" in result.err


def test_models_that_come_back_are_told_apart(cli: Cli, router: RawRouter) -> None:
    """A model that a client brings back gives 7; beside one that stayed away it gives 5."""

    def bring_back(verb: str, model: str) -> bytes:
        if model == "alpha":
            router.ports["alpha"] += 1
            return SUCCESS
        return b"as usual"

    router.on_post = bring_back
    alone, mixed = cli("unload", "alpha"), cli("unload", "--all")

    assert (7, 5) == (alone.code, mixed.code)
    assert "came back" in alone.out
    assert "--no-models-autoload" in alone.err


def test_one_failure_does_not_stop_the_others(cli: Cli, router: RawRouter) -> None:
    """A model whose unload is refused is told with the router's words; the others are unloaded."""
    router.on_post = lambda verb, model: refusal(500, "no such luck") if model == "alpha" else b"as usual"
    result = cli("unload", "--all")

    assert (5, "unloaded") == (result.code, router.models["beta"])
    assert "no such luck" in result.out
    assert "Not seen unloaded: 1 model." in result.err


def test_model_that_never_unloads(cli: Cli, router: RawRouter) -> None:
    """A model still resident when the time is up is an error, and is not called unloaded."""
    router.on_post = lambda verb, model: SUCCESS
    result = cli("unload", "alpha", "--timeout", "500ms")

    assert 1 == result.code
    assert "not seen unloaded" in result.out
    assert "corral wait" in result.err


def test_loading_model_is_left_alone_until_time_is_up(cli: Cli, router: RawRouter) -> None:
    """A model that does not come up in time is not killed (6), unless --now says so, which warns."""
    router.models["alpha"] = "loading"
    patient = cli("unload", "alpha", "--timeout", "500ms")
    posts = list(router.posts)
    now = cli("unload", "alpha", "--now")

    assert (6, [], 0, [("unload", "alpha")]) == (patient.code, posts, now.code, router.posts)
    assert "--now" in patient.err
    assert "load queue stuck" in now.err
    assert "corral load NAME" in now.err

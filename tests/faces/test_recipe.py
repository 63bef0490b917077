"""The shell recipe for boxes without Python: what it takes for success, and what it does not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faces.kit import Result, refusal, reply

if TYPE_CHECKING:
    from tests.faces.kit import Answer, RawRouter

    Serve = Callable[[Answer], str]

RECIPE = Path(__file__).resolve().parents[2] / "contrib" / "unload-all.sh"
ODD = 'say "hi"/to me\n$(touch x) \\ é'


@pytest.fixture
def recipe() -> Callable[..., Result]:
    """Runs the recipe, which needs curl and jq."""
    for tool in ("curl", "jq"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed here")

    def run(*argv: str, **env: str) -> Result:
        done = subprocess.run(
            ["/bin/sh", RECIPE, *argv], capture_output=True, text=True, env=dict(os.environ) | env, timeout=20
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def test_recipe_asks_for_every_loaded_model(recipe: Callable[..., Result], serve: Serve, router: RawRouter) -> None:
    """Each loaded model is asked to go, whatever its id, and what is left is counted."""
    router.models[ODD], router.ports[ODD] = "loaded", 1
    result = recipe(serve(router) + "/")

    assert (0, "") == (result.code, result.err)
    assert [("unload", "alpha"), ("unload", ODD)] == router.posts
    asked = [f"Asked for the unload of {json.dumps(name, ensure_ascii=False)}" for name in ("alpha", ODD)]
    assert [*asked, "Still listed as loaded: 0"] == result.out.splitlines()
    assert recipe(serve(router)).out.startswith("No loaded models on ")


def test_recipe_reads_a_state_that_is_a_word(recipe: Callable[..., Result], serve: Serve) -> None:
    """Forks that list the state as plain text are read too, and a router without models has none to unload."""
    listed = reply(200, {"data": [{"id": "a", "status": "loaded"}, {"id": "b", "status": "unloaded"}]})
    result = recipe(serve(lambda method, *rest: reply(200, {"success": True}) if method == "POST" else listed))

    assert (0, 'Asked for the unload of "a"') == (result.code, result.out.splitlines()[0])
    assert 0 == recipe(serve(lambda *request: reply(200, {"data": []}))).code


WRONG = {
    "204": (reply(204, b""), 3, "HTTP 204"),
    "empty": (reply(200, b""), 3, "no router"),
    "redirect": (reply(302, b"", extra=["Location: http://elsewhere/"]), 3, "redirects"),
    "404": (refusal(404, "File Not Found"), 3, "HTTP 404"),
    "HTML": (reply(200, b"<html>hello</html>"), 3, "no router"),
    "list": (reply(200, [1, 2]), 3, "no router"),
    "single model": (reply(200, {"models": [{}], "data": [{"id": "x", "object": "model"}]}), 3, "started with -m"),
    "odd entries": (reply(200, {"data": ["x"]}), 3, "no router"),
    "starting": (refusal(503, "Loading model"), 3, "HTTP 503"),
    "no key": (refusal(401, "Invalid API Key"), 9, "LLAMA_API_KEY"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 3, "nothing answers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_recipe_takes_nothing_else_for_success(recipe: Callable[..., Result], serve: Serve, case: str) -> None:
    """Whatever is no router's list is an error in one line, and not 'No loaded models'."""
    answer, code, text = WRONG[case]
    result = recipe(serve(lambda *request: answer))

    assert (code, "") == (result.code, result.out)
    assert text in result.err.splitlines()[-1]
    assert "jq: " not in result.err


def test_recipe_tells_of_a_refused_model(recipe: Callable[..., Result], serve: Serve, router: RawRouter) -> None:
    """A model that the router refuses to unload is named; the others are asked for, and the exit code is 1."""
    router.models["beta"] = "loaded"
    router.on_post = lambda verb, model: refusal(500, "no") if model == "alpha" else b"as usual"
    result = recipe(serve(router))

    assert 1 == result.code
    assert 'refused "alpha" (HTTP 500)' in result.err
    assert 'Asked for the unload of "beta"\nStill listed as loaded: 1\n' == result.out


def test_recipe_sends_the_key(recipe: Callable[..., Result], serve: Serve, router: RawRouter) -> None:
    """The key of the environment goes along with every request."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        right = headers.get("authorization") == "Bearer secret"
        return router(method, path, headers, body) if right else refusal(401, "Invalid API Key")

    result = recipe(serve(answer), LLAMA_API_KEY="secret")

    assert (0, [("unload", "alpha")]) == (result.code, router.posts)
    assert "secret" not in result.out + result.err


@pytest.mark.parametrize("tool", ["curl", "jq"])
def test_recipe_names_the_tool_that_is_missing(
    recipe: Callable[..., Result], serve: Serve, tmp_path: Path, tool: str
) -> None:
    """Without curl or jq it says which one is missing, not that no router answers."""
    other = {"curl": "jq", "jq": "curl"}[tool]
    (tmp_path / other).symlink_to(str(shutil.which(other)))
    result = recipe(serve(lambda *request: None), PATH=str(tmp_path))

    assert (127, f"unload-all: this needs {tool}, ") == (result.code, result.err[: len(tool) + 25])


def test_recipe_starts_no_more_programs_than_it_must(
    recipe: Callable[..., Result], serve: Serve, router: RawRouter, tmp_path: Path
) -> None:
    """It is what Corral is measured against: two programs for a list, two for a model."""
    log = tmp_path / "log"
    for tool in ("curl", "jq"):
        path = tmp_path / tool
        path.write_text(f'#!/bin/sh\necho {tool} >> "{log}"\nexec "{shutil.which(tool)}" "$@"\n')
        path.chmod(0o755)
    router.models = dict.fromkeys(router.models, "loaded")
    result = recipe(serve(router), PATH=f"{tmp_path}:{os.environ['PATH']}")

    assert (0, 3) == (result.code, len(router.posts))
    assert ["curl", "jq", *["jq", "curl"] * 3, "curl", "jq"] == log.read_text().split()

"""What else may answer, or not: each gets its exit code, a clear sentence, the next step, and no traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faces.kit import refusal, reply

if TYPE_CHECKING:
    from tests.faces.kit import Answer, RawRouter, Result

    Cli = Callable[..., Result]
    Serve = Callable[[Answer], str]

COMMANDS = (
    ["ls"],
    ["ps", "--json"],
    ["unload", "--all"],
    ["load", "a"],
    ["wait", "a", "--for", "loaded"],
    ["events", "--count", "1"],
)
LIST = {"object": "list", "data": []}
SINGLE = {"models": [{"name": "x"}], "object": "list", "data": [{"id": "x", "object": "model"}]}
CLOSING = reply(200, LIST, extra=["Connection: close"])
CASES = {
    "single-model server": (reply(200, SINGLE), 3, "single model"),
    "still loading": (refusal(503, "Loading model", "unavailable_error"), 3, "still loading"),
    "HTML": (reply(200, b"<html>hello</html>", server="nginx"), 3, "not JSON"),
    "other JSON": (reply(200, b"[1, 2]", server="x"), 3, "not llama-server's"),
    "other list": (reply(200, b'{"data": [{"id": "gpt"}]}', server="x"), 3, "not llama-server in router mode"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 3, "does not speak HTTP"),
    "cut": (CLOSING[:-9], 3, "Check the network"),
    "larger than it says it can be": (
        CLOSING.replace(b"Length: 30", b"Length: 99999999999", 1),
        3,
        "Check the network",
    ),
    "redirect": (reply(302, b"", extra=["Location: http://elsewhere/"]), 3, "elsewhere"),
    "404": (reply(404, b"Not Found", server="nginx"), 3, "HTTP 404"),
    "404 of llama-server": (refusal(404, "File Not Found"), 3, "--api-prefix"),
    "503 of a proxy": (reply(503, b"<h1>Unavailable</h1>", server="nginx"), 3, "HTTP 503"),
    "401": (refusal(401, "Invalid API Key"), 9, "CORRAL_API_KEY"),
    "403": (refusal(403, "not for you"), 1, "look at a proxy's rules"),
    "429": (refusal(429, "slow down"), 1, "Try again in a moment"),
    "500": (refusal(500, "out of luck"), 1, "out of luck"),
    "empty 500": (reply(500, b"", server="llama.cpp"), 1, "corral doctor"),
    "reset": (b"", 3, "Check the network"),
    "control codes": (refusal(500, "\x1b]0;gotcha\x07"), 1, "gotcha"),
}


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
@pytest.mark.parametrize("case", CASES)
def test_bad_answers(cli: Cli, serve: Serve, case: str, argv: list[str]) -> None:
    """Every command meets every wrong answer with the right code, a sentence and the next step."""
    answer, code, text = CASES[case]
    result = cli("--url", serve(lambda *request: answer), *argv)

    assert code == result.code, result
    assert text in result.err
    assert 2 <= len(result.err.strip().splitlines()) <= 3
    assert "Traceback" not in result.err
    assert all(char.isprintable() or char == "\n" for char in result.err)
    assert ('"schema_version": 1' in result.out) == ("--json" in argv)


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_nothing_listens(cli: Cli, argv: list[str]) -> None:
    """Where nothing listens, exit 3 says so and what to check."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        result = cli("--url", f"http://127.0.0.1:{taken.getsockname()[1]}", *argv)

    assert 3 == result.code
    assert "Nothing listens on http://127.0.0.1:" in result.err
    assert "Is llama-server running" in result.err


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_hanging_server(cli: Cli, serve: Serve, argv: list[str]) -> None:
    """A server that never answers ends in time, with exit 3."""
    result = cli("--url", serve(lambda *request: None), "--read-timeout", "100ms", *argv)

    assert 3 == result.code
    assert "No answer" in result.err


def test_unknown_host_and_missing_socket(cli: Cli, tmp_path: Path) -> None:
    """A path that cannot lead anywhere is unreachable; a URL that is none is a usage error."""
    assert 3 == cli("ls", "--url", f"unix://{tmp_path}/none.sock").code
    assert 3 == cli("ls", "--url", "http://no-such-host.invalid").code
    assert [2, 2, 2] == [cli("ls", "--url", url).code for url in ("ftp://x", "http://u:p@h", "http://h:99999")]


@pytest.mark.parametrize("flag", ["--url", "--api-key-file", "--ca-file"])
def test_empty_flag_reaches_no_router(cli: Cli, router: RawRouter, flag: str) -> None:
    """A flag whose variable was not set is a usage error: the router of the environment is not touched instead."""
    for argv in ([flag, "", "unload", "--all"], ["unload", "--all", f"{flag}="], ["ps", flag, " "]):
        result = cli(*argv)

        assert 2 == result.code
        assert f"corral: {flag} is empty." in result.err
    assert ([], "loaded") == (router.posts, router.models["alpha"])


@pytest.mark.parametrize("argv", COMMANDS, ids=lambda argv: argv[0])
def test_key_that_stays_behind_is_told(cli: Cli, serve: Serve, tmp_path: Path, argv: list[str]) -> None:
    """Where the key of the configuration belongs to another URL, the refusal says so, and shows no key."""
    asked: list[dict[str, str]] = []

    def refuse(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        asked.append(headers)
        return refusal(401, "Invalid API Key")

    (tmp_path / ".config" / "corral").mkdir(parents=True)
    config = tmp_path / ".config" / "corral" / "config.toml"
    config.write_text('url = "http://mine.example:8080/"\napi_key = "sesame"\n', encoding="utf-8")
    result = cli(*argv, "--url", serve(refuse))

    assert 9 == result.code
    assert "the key of the configuration belongs to http://mine.example:8080" in result.err
    assert "sesame" not in result.out + result.err + str(asked)


def test_key_goes_along_and_never_shows(cli: Cli, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router with a key is read with it; a wrong one gives 9; neither is printed."""

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        right = headers.get("authorization") == "Bearer right-key"
        return reply(200, LIST) if right else refusal(401, "Invalid API Key")

    url = serve(answer)
    results = [cli("ls", "--url", url)]
    for key in ("right-key", "wrong-key", "two words"):
        monkeypatch.setenv("CORRAL_API_KEY", key)
        results.append(cli("ls", "--url", url))

    assert [9, 0, 9, 2] == [result.code for result in results]
    assert not any(key in str(results) for key in ("right-key", "wrong-key", "two words"))
    assert "none was given" in results[0].err
    assert "does not accept" in results[2].err


def test_broken_post_is_read_before_it_is_judged(cli: Cli, router: RawRouter) -> None:
    """A connection that breaks after the router acted is success; one that breaks before is asked once more."""

    def break_after(verb: str, model: str) -> bytes:
        router.act(verb, model)
        return b""

    router.on_post = break_after
    after = cli("unload", "alpha")
    router.on_post = lambda verb, model: b"" if len(router.posts) == 2 else b"as usual"
    before = cli("unload", "beta")

    assert (0, 0) == (after.code, before.code)
    assert [("unload", "alpha"), ("unload", "beta"), ("unload", "beta")] == router.posts


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("answer", [refusal(500, "no such luck"), refusal(403, "no"), reply(200, {"success": False})])
def test_refused_request_has_a_next_step(cli: Cli, router: RawRouter, verb: str, answer: bytes) -> None:
    """A load or unload that the router refuses is told with its words, and with what to try."""
    router.on_post = lambda verb, model: answer
    result = cli(verb, "gamma" if verb == "load" else "alpha")

    assert 1 == result.code
    assert result.err.splitlines()[-1].endswith(("looks for what is wrong.", "look at a proxy's rules."))


def test_model_that_vanishes(cli: Cli, router: RawRouter) -> None:
    """A model that leaves the list in the middle is told as such, and is not called unloaded."""

    def vanish(verb: str, model: str) -> bytes:
        del router.models[model]
        return reply(200, {"success": True})

    router.on_post = vanish
    result = cli("unload", "alpha")

    assert 1 == result.code
    assert "not listed any more" in result.out
    assert "corral ls" in result.err


def test_router_that_goes_away_in_the_middle(cli: Cli, router: RawRouter, serve: Serve) -> None:
    """Once the router no longer answers, what is not known is told as not known, with exit 3."""
    state = {"gone": False}

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        state["gone"] |= method == "POST"
        return b"" if state["gone"] else router(method, path, headers, body)

    result = cli("unload", "alpha", "--timeout", "400ms", "--url", serve(answer))

    assert 3 == result.code
    assert "   unloaded" not in result.out


def test_unknown_names(cli: Cli, router: RawRouter) -> None:
    """An unknown name gives 4 with the nearest id, and nothing is done to the others."""
    for argv in (["unload", "alpha", "bta"], ["load", "/models/BETA.gguf"], ["wait", "Beta", "--for", "loaded"]):
        result = cli(*argv)

        assert 4 == result.code
        assert "Did you mean beta" in result.err
    assert [] == router.posts


ODD = ['say "hi"/to me', "new\nline", "esc\x1b[31mred", "🦙 日本", "x" * 10_000, "-dash", "*", "\u202egnp", "null\0"]


@pytest.mark.parametrize("name", ODD, ids=range(len(ODD)))
def test_odd_ids(cli: Cli, router: RawRouter, name: str) -> None:
    """Any id is listed, loaded and unloaded, on one printable line."""
    router.models, router.ports = {name: "loaded"}, {name: 1}
    results = [cli("ps"), cli("ps", "-q"), cli("unload", "--", name), cli("load", "--", name), cli("unload", "--all")]

    assert [0] * 5 == [result.code for result in results]
    assert [("unload", name), ("load", name), ("unload", name)] == router.posts
    for result in results:
        assert all(line.isprintable() for line in (result.out + result.err).split("\n"))
    assert [2, 1, 1, 1, 1] == [len(result.out.splitlines()) for result in results]

"""``corral doctor``: its lines, its codes, and that nothing is touched."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corral.client import parse_url
from corral.client.search import LIKELY_PORTS
from corral.config import Config
from corral.faces.cli.here import look_around, look_at_state
from corral.faces.cli.host import list_others
from corral.sim import Fault, ModelSpec, simulate
from tests.faces.kit import Result, refusal, reply

if TYPE_CHECKING:
    from tests.faces.kit import Answer

    Cli = Callable[..., Result]
    Serve = Callable[[Answer], str]

KEY = "sesame"
ODD = 'say "hi"/to me \x1b[31m🦙\n'


def levels(result: Result) -> dict[str, str]:
    """Check to level, the last line of each check counting."""
    lines = [line.split(None, 2) for line in result.out.splitlines()[:-1]]
    return {line[1]: line[0] for line in lines}


def test_router_without_a_key(cli: Cli) -> None:
    """A keyless router works, with a warning about web pages; a line each, then the sum; nothing on stderr."""
    with simulate(models=("a", "b")) as sim:
        result = cli("--url", sim.url, "doctor")

    found = levels(result)
    assert (0, "") == (result.code, result.err)
    assert {"ok", "warn"} == set(found.values())
    assert ("ok", "ok", "ok", "warn") == tuple(found[check] for check in ("address", "router", "build", "pages"))
    assert result.out.splitlines()[-1].startswith(f"{sim.url}: ")
    assert "nothing failed." in result.out.splitlines()[-1]


def test_lines_are_aligned(cli: Cli) -> None:
    """Level, check and text stand in columns."""
    with simulate(models=("a",)) as sim:
        lines = cli("--url", sim.url, "doctor").out.splitlines()[:-1]

    starts = {line.index(line.split(None, 2)[1]) for line in lines}
    texts = {line.index(line.split(None, 2)[2]) for line in lines}
    assert (1, 1) == (len(starts), len(texts))


def test_json(cli: Cli) -> None:
    """One document holds every finding with its level, what was seen and what to do."""
    with simulate(models=("a",)) as sim:
        result = cli("doctor", "--json", "--url", sim.url)

    document = json.loads(result.out)
    assert (1, True, 0, "router") == tuple(document[key] for key in ("schema_version", "ok", "exit_code", "found"))
    assert {"check", "level", "seen", "do"} == set(document["findings"][0])
    assert sum(document["counts"].values()) == len(document["findings"])
    assert "error" not in document


def test_quiet_leaves_out_what_is_ok(cli: Cli) -> None:
    """With -q only what deserves a look is printed."""
    with simulate(models=("a",)) as sim:
        result = cli("doctor", "-q", "--url", sim.url)

    assert ["warn"] == [line.split()[0] for line in result.out.splitlines() if " pages " in line]
    assert not [line for line in result.out.splitlines() if line.startswith("ok")]


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_nothing_is_touched(cli: Cli, words: list[str]) -> None:
    """No model is loaded, woken or kept awake, and all requests are questions."""
    models = (ModelSpec("a"), ModelSpec("s", status="sleeping"), ModelSpec("l", status="loaded"))
    with simulate(models=models, metrics=True, sleep_idle_s=3600, era="b10240") as sim:
        before = {name: (sim.state(name), sim.spawn_count(name)) for name in "asl"}
        cli("--url", sim.url, *words)

        assert before == {name: (sim.state(name), sim.spawn_count(name)) for name in "asl"}
        assert {"GET", "OPTIONS"} == {request.method for request in sim.request_log}
        assert not any(request.target.partition("?")[2] for request in sim.request_log)


def test_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing and a wrong key give 9, the right one 0; none is ever printed."""
    results = []
    with simulate(models=("a",), api_keys=(KEY,)) as sim:
        for key in ("", "wrong-key", KEY):
            monkeypatch.setenv("CORRAL_API_KEY", key)
            results.append(cli("doctor", "--url", sim.url))

    assert [9, 9, 0] == [result.code for result in results]
    assert ["fail", "fail", "ok"] == [levels(result)["key"] for result in results]
    assert "none was given" in results[0].out and "does not accept the one from CORRAL_API_KEY" in results[1].out
    assert not any(key in str(results) for key in ("wrong-key", KEY))


def test_key_of_a_build_with_a_public_list(cli: Cli) -> None:
    """A list that anybody may read does not hide that the key is missing."""
    with simulate(models=("a",), api_keys=(KEY,), era="b10240") as sim:
        result = cli("doctor", "--url", sim.url)

    assert 9 == result.code
    assert ("fail", "warn") == (levels(result)["key"], levels(result)["pages"])


def test_single_model_server(cli: Cli) -> None:
    """A server with one model is exit 3, and said to be no router."""
    with simulate(single="m") as sim:
        result = cli("doctor", "--url", sim.url)

    assert 3 == result.code
    assert "fail" == levels(result)["router"]
    assert "single model" in result.out


def test_wrong_prefix(cli: Cli) -> None:
    """A router under a prefix is found, and the next step is its whole address."""
    with simulate(models=("a",), api_prefix="/llm") as sim:
        result = cli("doctor", "--url", sim.url.removesuffix("/llm"))

    assert 3 == result.code
    assert f"Use {sim.url}, where a llama-server in router mode answers." in result.out


def test_router_on_an_unusual_port_of_this_machine(cli: Cli, tmp_path: Path) -> None:
    """The likely ports come after the llama-servers that are seen here, which no list of ports would name."""
    local = parse_url("http://127.0.0.1:8080")

    assert [8080, 9931] == [target.port for target in list_others(local)][-len(LIKELY_PORTS) :][:2]
    assert [] == list_others(parse_url("unix:///run/x.sock"))
    assert LIKELY_PORTS == tuple(target.port for target in list_others(parse_url("http://192.0.2.1:1")))


def test_closed_port(cli: Cli) -> None:
    """Where nothing listens, exit 3 says so and what to check; our own side is looked at all the same."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = cli("doctor", "--url", url)
        document = json.loads(cli("doctor", "--json", "--url", url).out)

    assert (3, "fail") == (result.code, levels(result)["address"])
    assert {"clock", "state", "corral"} <= set(levels(result))
    assert "UnreachableError" == document["error"]["kind"]


CASES: dict[str, tuple[bytes, int, str]] = {
    "HTML": (reply(200, b"<html>hello</html>", server="nginx"), 3, "not JSON"),
    "other list": (reply(200, b'{"data": [{"id": "gpt"}]}', server="x"), 3, "not llama-server in router mode"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", 3, "does not speak HTTP"),
    "redirect": (reply(302, b"", extra=["Location: http://elsewhere/"]), 3, "elsewhere"),
    "still loading": (refusal(503, "Loading model", "unavailable_error"), 3, "still loading"),
    "500": (refusal(500, "out of luck"), 1, "out of luck"),
    "reset": (b"", 3, "failed: "),
    "key for a stranger": (reply(401, b"who are you?", server="nginx"), 9, "was not sent to it"),
    "control codes": (refusal(500, "\x1b]0;gotcha\x07"), 1, "gotcha"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_servers(cli: Cli, serve: Serve, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wrong server gets its exit code, a failed line that says what was seen, and no key, traceback or escape."""
    answer, code, text = CASES[case]
    seen: list[dict[str, str]] = []
    monkeypatch.setenv("CORRAL_API_KEY", KEY)

    def respond(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        seen.append(headers)
        return answer

    result = cli("doctor", "--url", serve(respond))

    assert code == result.code, result
    assert "fail" in levels(result).values() and text in result.out
    assert all(line.isprintable() for line in result.out.split("\n"))
    if b"llama.cpp" not in answer:
        assert not any(KEY in str(headers) for headers in seen)


def test_hanging_server(cli: Cli, serve: Serve) -> None:
    """A server that never answers ends in time, with exit 3."""
    result = cli("doctor", "--url", serve(lambda *request: None), "--read-timeout", "100ms")

    assert 3 == result.code
    assert "No answer" in result.out


def test_router_that_breaks_in_the_middle(cli: Cli) -> None:
    """What could not be asked is left out; the rest is said."""
    with simulate(models=("a",), faults=(Fault("reset-before", path="/props"),)) as sim:
        result = cli("doctor", "--url", sim.url)

    assert 0 == result.code
    assert "ok" == levels(result)["models"]


def test_odd_names(cli: Cli) -> None:
    """Ids with control codes and line ends stay on their line, escaped."""
    with simulate(models=(ModelSpec(ODD, status="loading", load_s=60.0), "x" * 10_000)) as sim:
        result = cli("doctor", "--url", sim.url)

    assert 0 == result.code
    assert all(line.isprintable() for line in result.out.split("\n"))
    assert max(map(len, result.out.splitlines())) < 1000


def test_unusable_settings_are_usage_errors(cli: Cli, tmp_path: Path) -> None:
    """A key file that is not there is named, with exit 2."""
    result = cli("doctor", "--api-key-file", str(tmp_path / "none"))

    assert 2 == result.code
    assert "cannot be read" in result.err


def look(tmp_path: Path, environ: dict[str, str], flag: str | None = None, **settings: Any) -> Any:
    """What surrounds a run with these settings."""
    from argparse import Namespace

    args = Namespace(url=None, api_key_file=flag)
    target = parse_url("http://127.0.0.1:8080")
    clocks = {"now": 0.0, "jumped_s": 0.0}
    config = Config(**settings)
    return look_around(args, config, environ, **clocks, target=target, find_living=lambda _: (), root=str(tmp_path))


def test_who_named_the_address_and_the_key(tmp_path: Path) -> None:
    """The origin of each setting is told, in the order in which they count."""
    assert ("the default", None) == (look(tmp_path, {}).url_from, look(tmp_path, {}).key_from)
    assert "LLAMA_SERVER_URL" == look(tmp_path, {"LLAMA_SERVER_URL": "x"}).url_from
    assert "CORRAL_URL" == look(tmp_path, {"LLAMA_SERVER_URL": "x", "CORRAL_URL": "y"}).url_from
    assert "the configuration" == look(tmp_path, {}, url="x").url_from
    assert "LLAMA_API_KEY" == look(tmp_path, {"LLAMA_API_KEY": "x"}, api_key="x").key_from
    assert "--api-key-file" == look(tmp_path, {"LLAMA_API_KEY": "x"}, "/k", api_key="x").key_from
    assert "the configuration" == look(tmp_path, {}, api_key="x").key_from


def test_key_files_and_their_rights(tmp_path: Path) -> None:
    """The file of the flag, the one that the configuration names, and a configuration with a key are looked at."""
    flag, named, config = tmp_path / "flag", tmp_path / "named", tmp_path / "config.toml"
    for path, mode in ((flag, 0o600), (named, 0o644), (config, 0o640)):
        path.write_text('api_key = "x"\napi_key_file = "named"\n')
        path.chmod(mode)
    kept = look(tmp_path, {"CORRAL_CONFIG": str(config)}, str(flag)).key_files

    assert [(str(flag), 0o600), (str(config), 0o640), (str(named), 0o644)] == [(item.path, item.mode) for item in kept]
    assert () == look(tmp_path, {}).key_files


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"CORRAL_STATE_DIR": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_STATE_HOME": "/b", "HOME": "/c"}, "/b/corral"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/c"}, "/c/.local/state/corral"),
        ({"HOME": "/c"}, "/c/.local/state/corral"),
        ({}, None),
    ],
)
def test_state_directory(environ: dict[str, str], path: str | None) -> None:
    """The state directory is where the environment says, the most particular first."""
    assert path == look_at_state(environ).path


def test_state_directory_is_judged_and_not_made(tmp_path: Path) -> None:
    """A directory that can be made is not made; a file in its place, and one in its way, cannot be written."""
    place = tmp_path / "state"
    missing = look_at_state({"CORRAL_STATE_DIR": str(place / "deeper")})
    assert (False, True) == (missing.exists, missing.is_writable) and not place.exists()
    place.write_text("")
    assert not look_at_state({"CORRAL_STATE_DIR": str(place)}).is_writable
    assert not look_at_state({"CORRAL_STATE_DIR": str(place / "deeper")}).is_writable
    there = look_at_state({"CORRAL_STATE_DIR": str(tmp_path)})
    assert (True, True) == (there.exists, there.is_writable)
    assert there.mode == os.stat(tmp_path).st_mode & 0o777


def test_time_service(tmp_path: Path) -> None:
    """What the time service left behind tells whether the clock was set; without a service nothing is known."""
    assert look(tmp_path, {}).is_clock_synchronised is None
    folder = tmp_path / "run/systemd/timesync"
    folder.mkdir(parents=True)
    assert look(tmp_path, {}).is_clock_synchronised is False
    (folder / "synchronized").touch()
    assert look(tmp_path, {}).is_clock_synchronised is True


@pytest.mark.parametrize(("free_bytes", "problem"), [(0, "is full"), (4096, ""), (None, "")])
def test_full_disk_is_told(tmp_path: Path, free_bytes: int | None, problem: str) -> None:
    """A state folder on a disk without room can be written by its mode, and yet nothing can be remembered there."""
    state = look_at_state({"CORRAL_STATE_DIR": str(tmp_path)}, read_free=lambda path: free_bytes)

    assert problem in state.problem and bool(problem) == bool(state.problem) == bool(state.cure)

"""--json: every command gives one document, whatever happens to it, and the document tells the true exit code."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from corral.faces.cli.commands import COMMANDS
from corral.faces.cli.console import Console
from corral.faces.cli.listing import print_models
from corral.wire import Model, read_model
from tests.faces.kit import RawRouter, Result, refusal, reply

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.faces.kit import Answer

    Cli = Callable[..., Result]
    Spawn = Callable[..., "subprocess.Popen[str]"]
    Finish = Callable[["subprocess.Popen[str]"], Result]
    Serve = Callable[[Answer], str]

SIGNALS = [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]


def read(result: Result) -> dict[str, Any]:
    """The one document on stdout, which says what the process said."""
    document: dict[str, Any] = json.loads(result.out)

    assert 1 == document["schema_version"]
    assert result.code == document["exit_code"]
    assert (result.code == 0) == document["ok"]
    return document


GOOD = {
    "ls": ["ls"],
    "ps": ["ps"],
    "plan of unload": ["unload", "--all", "--dry-run"],
    "plan of load": ["load", "gamma", "--dry-run"],
    "nothing to do": ["unload", "gamma"],
    "wait": ["wait", "alpha", "--for", "loaded"],
    "pin": ["pin", "alpha", "--dry-run"],
    "pins": ["pins"],
    "holds": ["holds"],
    "sets": ["sets"],
    "log": ["log"],
    "recover": ["recover"],
}


@pytest.mark.parametrize("case", GOOD)
def test_documents_begin_alike(cli: Cli, router: RawRouter, case: str) -> None:
    """What talks to a router, or of one, has version, ok, exit code and url."""
    assert read(cli(*GOOD[case], "--json"))["url"].startswith("http://127.0.0.1:")


OTHERS = {
    "help": (["help"], "commands"),
    "no command": (["--help"], "commands"),
    "help of a command": (["help", "unload"], "command"),
    "help within a command": (["unload", "-h"], "command"),
    "completion": (["completion", "bash"], "script"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_needs_no_router_gives_documents_too(cli: Cli, case: str) -> None:
    """Help and completion scripts are documents with --json, and name no router."""
    argv, key = OTHERS[case]
    document = read(cli(*argv, "--json"))

    assert document[key]
    assert "url" not in document


def test_help_as_a_document_lists_the_options(cli: Cli) -> None:
    """A program finds each command, and each option with what it takes."""
    listed = read(cli("help", "--json"))["commands"]
    unload = read(cli("help", "stop", "--json"))["command"]

    assert [command.name for command in COMMANDS] == [command["name"] for command in listed]
    assert ("unload", ["stop", "eject"]) == (unload["name"], unload["aliases"])
    assert {"flags": ["--tag"], "value": "TAG", "many": True}.items() <= unload["options"][1].items()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_mistake_is_a_document(cli: Cli, command: Any) -> None:
    """What a command does not understand is told on stderr, and as a document."""
    result = cli(command.name, "--json", "--no-such-option")
    document = read(result)

    # What runs another command keeps the small codes for that one.
    code = 125 if command.name == "run" else 2
    assert (code, "BadArgumentError") == (result.code, document["error"]["kind"])
    assert document["error"]["message"] in result.err
    assert document["error"]["hint"]


def test_one_filter_reads_errors_as_well(cli: Cli, router: RawRouter) -> None:
    """The document of an error has the url and the same lists, empty."""
    unknown = read(cli("load", "nobody", "--json"))
    router_url = read(cli("ps", "--json"))["url"]
    unreachable = read(cli("unload", "--all", "--json", "--url", "http://127.0.0.1:1/p/"))

    assert (4, router_url, []) == (unknown["exit_code"], unknown["url"], unknown["models"])
    assert (3, "http://127.0.0.1:1/p", []) == (unreachable["exit_code"], unreachable["url"], unreachable["models"])
    assert {"reached": [], "missing": []}.items() <= read(cli("wait", "x", "--for", "loaded", "--json")).items()


def test_settings_that_lead_nowhere_leave_the_url_open(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no address can be made out, the url is there and null."""
    monkeypatch.setenv("CORRAL_CONFIG", "/nonexistent")

    assert read(cli("ls", "--json"))["url"] is None
    assert read(cli("ls", "--json", "--url", "ftp://x"))["url"] is None


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("argv", [["ls"], ["load", "a"], ["events"]], ids=lambda argv: argv[0])
def test_an_interrupted_command_gives_its_document(
    spawn: Spawn, finish: Finish, serve: Serve, argv: list[str], number: int, code: int
) -> None:
    """Ended before the first answer, a command still gives one document, with the code that it exits with."""
    started = threading.Event()

    def hang(method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        assert started.wait(10)
        process.send_signal(number)

    process = spawn(*argv, "--json", "--url", serve(hang))
    started.set()
    result = finish(process)

    assert code == result.code
    read(result)


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("flag", ["--json", "-q"])
def test_what_was_only_requested_is_no_success(
    spawn: Spawn, finish: Finish, router: RawRouter, flag: str, number: int, code: int
) -> None:
    """Cut short while it waits, unload tells of no model as done that was not seen done."""

    def accept(verb: str, model: str) -> bytes:
        if len(router.posts) == 2:
            process.send_signal(number)
        return reply(200, {"success": True})

    started = threading.Event()
    router.on_post = lambda verb, model: accept(verb, model) if started.wait(10) else None
    process = spawn("unload", "--all", flag)
    started.set()
    result = finish(process)

    assert code == result.code
    if flag == "-q":
        assert "" == result.out
    else:
        document = read(result)
        assert document["interrupted"]
        assert [False, False] == [model["ok"] for model in document["models"]]
    assert "corral ps" in result.err


def test_a_request_is_a_success_without_waiting(cli: Cli, router: RawRouter) -> None:
    """With --no-wait a request that the router accepted is all that was asked for."""
    router.on_post = lambda verb, model: reply(200, {"success": True})

    assert [("requested", True)] == [
        (model["outcome"], model["ok"]) for model in read(cli("unload", "alpha", "--no-wait", "--json"))["models"]
    ]
    assert "alpha\n" == cli("unload", "alpha", "--no-wait", "-q").out


class Interrupted(tuple[Model, ...]):
    """A list of models in the midst of which Ctrl-C comes."""

    def __iter__(self) -> Iterator[Model]:
        """One model, then the interruption."""
        yield self[0]
        raise KeyboardInterrupt


def test_a_list_that_is_interrupted_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A list is written while it is read; what came before an interruption is a document that says so."""
    model = read_model({"id": "a"})
    assert model is not None
    with pytest.raises(KeyboardInterrupt):
        print_models(Interrupted((model, model)), "http://x", Console(), json=True, wide=False)

    document = json.loads(capsys.readouterr().out)
    assert (["a"], False, 130) == ([m["id"] for m in document["models"]], document["ok"], document["exit_code"])


def test_the_last_line_of_a_stream_tells_its_error(cli: Cli, serve: Serve) -> None:
    """NDJSON goes on line by line, and an end that is an error is the last line."""
    head = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    event = head + b'data: {"model": "a", "event": "status_change", "data": {"status": "loaded"}}\n\n'
    router = RawRouter({"a": "loaded"})
    streams = iter([event, refusal(403, "no more of this")])
    url = serve(lambda method, path, *rest: next(streams) if path == "/models/sse" else router(method, path, *rest))
    result = cli("events", "--json", "--url", url)
    lines = [json.loads(line) for line in result.out.splitlines()]

    assert (1, 2, "a") == (result.code, len(lines), lines[0]["model"])
    assert (False, 1, "RefusedError", url) == (
        lines[1]["ok"],
        lines[1]["exit_code"],
        lines[1]["error"]["kind"],
        lines[1]["url"],
    )

"""keep: what it says and writes down, what it leaves alone, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.client import Router
from corral.config import parse_duration
from corral.faces.cli.commands import find_command
from corral.faces.cli.console import Console
from corral.faces.cli.keep import SPEC, keep
from corral.faces.cli.options import parse
from corral.ops.idle import IdleLimits
from corral.wire import CorralError, UnknownModelError
from tests.faces.kit import Answer, RawRouter, Result, refusal, reply
from tests.faces.meters import GIB, Card

Cli = Callable[..., Result]
Keep = Callable[..., Result]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
def card(router: RawRouter) -> Card:
    """alpha and beta were both last asked 50 s ago."""
    router.ports.update(alpha=5001, beta=5002)
    router.models["beta"] = "loaded"
    card = Card(router, {"alpha": 10, "beta": 4})
    card.last_active_s = {"alpha": 50.0, "beta": 50.0}
    return card


def stop_after(card: Card, looks: int) -> None:
    """Ctrl-C, in the place of the look after so many."""
    left = looks

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    card.on_look = count


@pytest.fixture
def run_keep(card: Card, capsys: pytest.CaptureFixture[str]) -> Keep:
    """Runs the command with that card, for one look and what comes of it unless the test says otherwise."""

    def run(*words: str) -> Result:
        command = find_command("keep")
        assert command is not None
        args = parse(command, SPEC, [*words])
        capsys.readouterr()
        console = Console()
        console.quiet = args.quiet
        if card.on_look is None:
            stop_after(card, 1)
        matches = tuple((glob, parse_duration(text, "")) for glob, _, text in (m.partition("=") for m in args.match))
        with Router(os.environ["CORRAL_URL"], meter=card) as client:
            code = console.finish(keep(IdleLimits(args.idle, matches), args, client, console))
        return Result(code, *capsys.readouterr())

    return run


def test_idle_models_go(run_keep: Keep, router: RawRouter) -> None:
    """What was idle for too long is unloaded, with a line that says why and what was freed; Ctrl-C ends it with 130."""
    result = run_keep("--idle", "40s")
    lines = result.out.splitlines()

    assert (130, {("unload", "alpha"), ("unload", "beta")}) == (result.code, set(router.posts))
    assert lines[0].endswith("  alpha  unloaded  idle for 50s, the limit is 40s; 10.0 GiB freed")
    assert result.err.startswith("Watching http://127.0.0.1:")
    assert ": what is idle for 40s is unloaded; 2 models resident now.\n" in result.err
    assert result.err.splitlines()[-1].startswith("Ended after ")
    assert result.err.endswith(": 2 unloads.\n")


def test_patterns_and_exceptions(run_keep: Keep, router: RawRouter) -> None:
    """A pattern gives its models a limit of their own, --never keeps one; a pattern that nothing has is told."""
    result = run_keep("--match", "alpha*=45s", "--match", "nothing=1h", "--idle", "1h", "--never", "alias-of-beta")

    assert [("unload", "alpha")] == router.posts
    assert "what is idle for 1h (alpha*: 45s, nothing: 1h) is unloaded" in result.err
    assert "idle for 50s, the limit for alpha* is 45s" in result.out
    assert "matches 'nothing'" in result.err


def test_pinned_models_stay(run_keep: Keep, router: RawRouter, cli: Cli) -> None:
    """What is pinned is left alone."""
    assert 0 == cli("pin", "alpha").code
    run_keep("--idle", "40s")

    assert [("unload", "beta")] == router.posts


def test_busy_models_stay(run_keep: Keep, router: RawRouter, card: Card) -> None:
    """A model that answers requests is not idle, however long they take."""
    card.in_flight = {"alpha": 1}
    card.last_active_s = {"beta": 5.0}
    card.on_look = lambda: None
    result = run_keep("--idle", "40s", "--timeout", "500ms")

    assert (0, [], "") == (result.code, router.posts, result.out)
    assert "nothing was unloaded" in result.err


def test_request_that_slips_in_keeps_the_model(run_keep: Keep, router: RawRouter, card: Card) -> None:
    """A model that is asked for at the very moment stays, and that is said."""
    card.slips_in = {"alpha": 1}
    result = run_keep("--idle", "40s", "--never", "beta")

    assert ([], "") == (router.posts, result.out)
    assert "alpha was asked for at that moment: it stays." in result.err


def test_model_that_is_asked_for_again_at_once(run_keep: Keep, router: RawRouter) -> None:
    """A model that comes up again while it goes is an unload like any other, and no failure."""

    def bounce(verb: str, name: str) -> bytes:
        router.ports[name] += 1
        return reply(200, {"success": True})

    router.on_post = bounce
    result = run_keep("--idle", "40s", "--never", "beta")

    assert "alpha was unloaded, and asked for again at once.\n" in result.err and "1 unload.\n" in result.err
    assert "corral: " not in result.err


def test_two_keepers(run_keep: Keep, router: RawRouter, card: Card) -> None:
    """A model that somebody else has just unloaded is no failure either."""

    def look() -> None:
        # The list that was read before this look still has it; the eviction's own does not.
        router.models["alpha"] = "unloaded"
        looks.append(router.models["alpha"])
        if len(looks) > 1:
            raise KeyboardInterrupt

    looks: list[str] = []
    card.on_look = look
    card.still_seen = {"alpha"}
    result = run_keep("--idle", "40s", "--never", "beta")

    assert [] == router.posts
    assert "alpha was unloaded by somebody else.\n" in result.err and "corral: " not in result.err


def test_log_says_why(run_keep: Keep, cli: Cli) -> None:
    """The log has each eviction with its reason."""
    run_keep("--idle", "40s", "--never", "beta")
    entries = json.loads(cli("log", "--json").out)["entries"]

    assert [("keep", "alpha", "unloaded", 10 * GIB)] == [
        tuple(entry[key] for key in ("command", "name", "outcome", "freed_bytes")) for entry in entries
    ]
    assert "idle for 50s, the limit is 40s" == entries[0]["reason"]


def test_dry_run_shows_what_would_go(run_keep: Keep, router: RawRouter, card: Card, cli: Cli) -> None:
    """--dry-run looks once and shows for each model how long it was idle, its limit, and why it goes or stays."""
    assert 0 == cli("pin", "beta").code
    router.models["delta"], router.ports["delta"] = "loaded", 5003
    card.held_gib["delta"], card.last_active_s["delta"] = 1, 10.0
    card.on_look = lambda: None
    result = run_keep("--idle", "40s", "--dry-run")
    rows = json.loads(run_keep("--idle", "40s", "--dry-run", "--json").out)["models"]

    assert (0, []) == (result.code, router.posts)
    assert result.out.splitlines() == [
        "NAME    STATE    IDLE   LIMIT   ACTION   REASON",
        "alpha   loaded   50s    40s     unload   it has been idle for too long",
        "beta    loaded   50s    40s     leave    it is pinned",
        "delta   loaded   10s    40s     leave    at the earliest in 30s",
    ]
    assert [("unload", None, 0.0), ("leave", "pinned", None), ("leave", "not_yet", 30.0)] == [
        (row["action"], row["stays"], row["due_in_s"]) for row in rows
    ]


def test_documents_line_by_line(run_keep: Keep) -> None:
    """--json prints a document a line: the begin, each model that went, the end with the exit code."""
    documents = [json.loads(line) for line in run_keep("--idle", "40s", "--never", "beta", "--json").out.splitlines()]
    evicted = documents[1]

    assert ["watching", "evicted", "ended"] == [document["event"] for document in documents]
    assert all(document["schema_version"] == 1 for document in documents)
    assert ["alpha", "beta"] == documents[0]["resident"]
    assert ("alpha", "unloaded", True, 50.0, 40.0, 10 * GIB) == tuple(
        evicted[key] for key in ("id", "outcome", "ok", "idle_s", "limit_s", "freed_bytes")
    )
    assert (130, False, 1) == tuple(documents[2][key] for key in ("exit_code", "ok", "unloaded"))


def test_quiet_prints_ids(run_keep: Keep) -> None:
    """-q prints the ids of what went, and nothing else."""
    assert (130, "alpha\n", "") == run_keep("--idle", "40s", "--never", "beta", "-q")


def test_refusal_of_the_router(run_keep: Keep, router: RawRouter) -> None:
    """What the router refuses is told with what to try, and the watch goes on."""
    router.on_post = lambda verb, name: refusal(500, "no way")
    result = run_keep("--idle", "40s", "--never", "beta")

    assert 130 == result.code
    assert "corral: alpha: refused" in result.err and "no way" in result.err


def test_work_that_cannot_be_seen_is_refused(run_keep: Keep, router: RawRouter, card: Card) -> None:
    """Where requests in flight cannot be seen it does not start: it would cut answers. That is exit 6."""
    card.reason = "gpu-box:8080 is another machine"
    card.on_look = lambda: None
    running, planned = run_keep("--idle", "40s"), run_keep("--idle", "40s", "--dry-run")

    assert (6, 6, []) == (running.code, planned.code, router.posts)
    for result in (running, planned):
        assert "gpu-box:8080 is another machine" in result.err and "own machine" in result.err


def test_simulated_router_is_refused(cli: Cli, router: RawRouter) -> None:
    """The real look at the machine finds no children of a router that has none."""
    result = cli("keep", "--idle", "1s")

    assert (6, []) == (result.code, router.posts) and "cannot be seen" in result.err


def test_time_limit(run_keep: Keep, card: Card) -> None:
    """--timeout ends it with success."""
    card.on_look = lambda: None

    assert 0 == run_keep("--idle", "1h", "--timeout", "200ms").code


def test_pins_that_cannot_be_read(run_keep: Keep, router: RawRouter, card: Card, tmp_path: Path) -> None:
    """A ledger that cannot be read is an error at the start; later it is told once, and nothing is unloaded."""
    folder = tmp_path / ".local" / "state" / "corral"
    folder.mkdir(parents=True)
    looks = 0

    def damage() -> None:
        nonlocal looks
        looks += 1
        (folder / "ledger.db").write_bytes(b"no database" * 100)
        # At the first look both were in use just then, and since then no more.
        card.last_active_s = {"alpha": 0.0, "beta": 0.0} if looks == 1 else {}
        if looks > 3:
            raise KeyboardInterrupt

    card.on_look = damage
    result = run_keep("--idle", "400ms")

    assert (130, []) == (result.code, router.posts)
    assert 1 == result.err.count("Nothing is unloaded until it can be read.")
    with pytest.raises(CorralError, match="ledger"):
        run_keep("--idle", "5s")


def test_words_that_are_refused(cli: Cli, run_keep: Keep) -> None:
    """No limit, a pattern without one, no duration and an unknown name are errors of their own."""
    wrong = [(), ("--match", "x"), ("--match", "=1h"), ("--match", "x=soon"), ("--idle", "0s"), ("--idle", "5s", "x")]

    assert [2] * len(wrong) == [cli("keep", *words).code for words in wrong]
    with pytest.raises(UnknownModelError):
        run_keep("--idle", "5s", "--never", "nobody")


def test_router_that_is_not_there_is_waited_for(cli: Cli) -> None:
    """A router that does not answer is told once and waited for."""
    result = cli("keep", "--idle", "5s", "--url", NOWHERE, "--timeout", "2500ms")

    assert (0, "") == (result.code, result.out)
    assert 1 == result.err.count("Nothing listens on http://127.0.0.1:1. Waiting until it answers.")


def test_wrong_server_is_no_router_to_wait_for(cli: Cli, serve: Callable[[Answer], str]) -> None:
    """Another kind of server ends it at once."""
    assert 3 == cli("keep", "--idle", "5s", "--url", serve(lambda *request: reply(200, b"<html>"))).code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it(
    spawn: Callable[..., subprocess.Popen[str]],
    finish: Callable[[subprocess.Popen[str]], Result],
    number: int,
    code: int,
) -> None:
    """SIGTERM, as systemd sends it, and Ctrl-C end it at once."""
    process = spawn("keep", "--idle", "30m", "--url", NOWHERE, "--json")
    assert process.stdout is not None
    assert "router_lost" == json.loads(process.stdout.readline())["event"]
    process.send_signal(number)
    result = finish(process)

    assert (code, "ended") == (result.code, json.loads(result.out)["event"])
    assert "Traceback" not in result.err

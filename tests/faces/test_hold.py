"""``corral hold`` on the simulator, and what the other commands make of a hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from corral.client import Router, identify
from corral.faces.cli.enforcer import begin
from corral.faces.cli.hold_talk import HoldTalk
from corral.ledger import Ledger, read_moment
from corral.ops import Ended, LetOut, Outranked
from corral.ops.guard_facts import CameUp, NotMoved, RouterBack, RouterLost, WentAgain, WorkUnseen
from corral.ops.measurement import Peer, Process
from corral.sim import simulate
from corral.sim.config import ModelSpec
from corral.wire import RefusedError, UnreachableError, unload_model

if TYPE_CHECKING:
    from tests.faces.kit import RawRouter, Result

    Cli = Callable[..., Result]

_DEADLINE_S = 20.0
NAMES = ("alpha", "beta", "gamma")


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A simulated router with three models, none resident, that the environment leads to."""
    with simulate(models=NAMES) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        yield sim.url


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the commands keep their ledger."""
    return str(tmp_path / ".local" / "state" / "corral")


class Holding:
    """A ``corral hold`` that runs, and the events that it has told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The newest event of a kind, as soon as there are so many."""
        until = time.monotonic() + _DEADLINE_S
        while time.monotonic() < until:
            found = [told for told in list(self.events) if told.get("event") == event]
            if len(found) >= count:
                return found[-1]
            assert self.process.poll() is None or self._reader.is_alive(), self.events
            time.sleep(0.01)
        raise AssertionError(f"no {event}: {self.events}")

    def end(self) -> tuple[int, list[str]]:
        """Its exit code and the kinds of all its events, when it has ended."""
        code = self.process.wait(timeout=_DEADLINE_S)
        self._reader.join(_DEADLINE_S)
        return code, [told.get("event", "") for told in self.events]

    def close(self) -> None:
        """End it, and read what it told to the end, before anybody else takes its pipe."""
        self.process.kill()
        self._reader.join(_DEADLINE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))


@pytest.fixture
def hold(spawn: Callable[..., subprocess.Popen[str]]) -> Iterator[Callable[..., Holding]]:
    """Starts a hold and returns when it has begun; what still holds at the end is killed."""
    started: list[Holding] = []

    def start(*argv: str, **options: Any) -> Holding:
        holding = Holding(spawn("hold", *argv, "--json", stderr=subprocess.DEVNULL, **options))
        started.append(holding)
        holding.wait_for("begun")
        return holding

    yield start
    for holding in started:
        holding.close()


def ask(url: str, model: str) -> int:
    """A client's request; the status of its answer."""
    body = json.dumps({"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = Request(f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"})
    with build_opener(ProxyHandler({})).open(request, timeout=_DEADLINE_S) as reply:
        reply.read()
        return int(reply.status)


def residents(url: str) -> set[str]:
    """What is resident now."""
    with Router(url) as router:
        return {model.id for model in router.residents()}


def test_what_is_asked_for_is_answered_and_goes_again(cli: Cli, url: str, hold: Callable[..., Holding]) -> None:
    """A held model that a client asks for answers it and is unloaded; another stays; the release is obeyed at once."""
    holding = hold("alpha", "--reason", "a game")
    assert "HELD" in cli("ls").out
    assert [200, 200] == [ask(url, "beta"), ask(url, "alpha")]
    came, went = holding.wait_for("came_up"), holding.wait_for("went_again")
    assert {"beta"} == residents(url)
    began = time.monotonic()
    assert 0 == cli("release", "alpha").code
    code, events = holding.end()
    took_s = time.monotonic() - began

    assert (0, "alpha", "alpha", 1) == (code, came["model"], went["model"], came["loads_per_minute"])
    assert (["begun", "ended"], "released") == ([events[0], events[-1]], holding.events[-1]["reason"])
    assert took_s < 5, "a second, on a machine that is not busy"
    assert (True, {"alpha": 1}) == (holding.events[-1]["ok"], holding.events[-1]["loads"])
    assert "No holds" in cli("holds").err


def test_hold_ends_at_its_expiry(cli: Cli, url: str) -> None:
    """When its time is up the hold has ended, with success, and says what came of it."""
    done = cli("hold", "--all", "--for", "300ms")

    assert (0, "") == (done.code, done.out)
    assert "Holding all models" in done.err and "corral serve" in done.err
    assert "The hold has ended (expired) after 0s: no held model came up." in done.err
    assert [("begun"), ("ended")] == [entry["outcome"] for entry in json.loads(cli("log", "--json").out)["entries"]]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_release_it(cli: Cli, url: str, hold: Callable[..., Holding], number: int, code: int) -> None:
    """A hold that is interrupted is released, and its last document says so."""
    holding = hold("--all")
    holding.process.send_signal(number)

    assert code == holding.end()[0]
    assert (code, False, "interrupted") == tuple(holding.events[-1][key] for key in ("exit_code", "ok", "reason"))
    assert "No holds" in cli("holds").err


def test_killed_hold_is_not_enforced_and_still_ends(
    cli: Cli, url: str, hold: Callable[..., Holding], folder: str
) -> None:
    """After SIGKILL the hold shows as not enforced, keeps its time, and can be released."""
    holding = hold("alpha", "--for", "1h")
    holding.process.kill()
    holding.process.wait()
    shown = cli("ls").out, cli("holds").out

    assert all("HELD (not enforced)" in text for text in shown)
    assert 8 == cli("load", "alpha").code
    assert 0 == cli("release", "h1").code
    assert 0 == cli("load", "alpha").code


def test_unload_first_and_restore_after(cli: Cli, url: str, hold: Callable[..., Holding], folder: str) -> None:
    """--unload unloads what is resident but pinned models; release --restore loads it again, in order."""
    assert 0 == cli("load", "gamma", "beta", "alpha").code
    cli("pin", "beta")
    holding = hold("--all", "--unload")
    told = holding.wait_for("unloaded")
    assert {"beta"} == residents(url)
    planned = json.loads(cli("release", "h1", "--restore", "--dry-run", "--json").out)
    released = cli("release", "h1", "--restore", "--json")
    document = json.loads(released.out)

    assert {"alpha", "gamma"} == {model["id"] for model in told["models"] if model["outcome"] == "unloaded"}
    assert ["alpha", "gamma"] == planned["restore"] == [model["id"] for model in document["models"]]
    assert (0, ["loaded", "loaded"]) == (released.code, [model["outcome"] for model in document["models"]])
    assert 0 == holding.end()[0]
    assert set(NAMES) == residents(url), "nobody sees them off again"


def test_restore_of_one_model(cli: Cli, url: str, hold: Callable[..., Holding]) -> None:
    """A single model that is let out is loaded again, and stays while the hold goes on."""
    assert 0 == cli("load", "alpha", "beta").code
    holding = hold("--all", "--unload", "--except", "gamma")
    holding.wait_for("unloaded")
    assert 0 == cli("release", "beta", "--restore").code
    assert ("beta",) == tuple(holding.wait_for("let_out")["models"])
    assert 200 == ask(url, "alpha")
    holding.wait_for("went_again")

    assert {"beta"} == residents(url)
    assert 0 == cli("release", "--all").code == holding.end()[0]


def test_restore_in_the_middle_of_the_unload(
    hold: Callable[..., Holding], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released while it waits for an answer to end, a hold still owes what it has unloaded so far."""
    with simulate(models=(ModelSpec("a", status="loaded"), ModelSpec("busy", status="loaded"))) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        with sim.busy("busy"):
            holding = hold("--all", "--unload")
            sim.wait_for("a", "unloaded")
            released = cli("release", "--all", "--restore")
            code, _ = holding.end()

        assert (0, 0) == (released.code, code) and "a   loaded" in released.out
        assert ("loaded", "loaded") == (sim.state("a"), sim.state("busy"))


@pytest.mark.parametrize(
    ("fault", "code", "outcomes", "left"),
    [
        ({"kind": "load-fails", "model": "a"}, 5, ["load_failed", "loaded"], "a"),
        ({"kind": "reset-before", "path": "/props"}, 3, ["not_requested", "not_requested"], "a b"),
    ],
)
def test_what_a_release_does_not_put_back_is_named(
    hold: Callable[..., Holding],
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    code: int,
    outcomes: list[str],
    left: str,
) -> None:
    """What does not come back after a release, which forgets that it was to, is told with the command that loads it."""
    with simulate(models=(ModelSpec("a", status="loaded"), ModelSpec("b", status="loaded"))) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        holding = hold("--all", "--unload")
        holding.wait_for("unloaded")
        sim.set_fault(**fault)
        released = cli("release", "--all", "--restore", "--json")
        holding.end()

    document = json.loads(released.out)
    assert (code, outcomes) == (released.code, [model["outcome"] for model in document["models"]])
    assert [["released"]] == [[row["outcome"] for row in document["released"]]]
    assert f"'corral load {left}' does" in released.err


def test_restore_where_nothing_was_unloaded(cli: Cli, url: str, hold: Callable[..., Holding]) -> None:
    """A hold that unloaded nothing owes nothing; a router that is away is told before anything is released."""
    holding = hold("alpha")
    assert "Nothing to load again" in cli("release", "h1", "--restore").err
    assert 0 == holding.end()[0]


def test_load_of_a_held_model_is_refused(cli: Cli, url: str, folder: str) -> None:
    """A held model is not loaded: who holds it, why and until when is said with exit 8; others are loaded."""
    held = begin(url, ("alpha",), (), 7200.0, "a\x1b game")
    long = begin(url, ("gamma",), (), 7200.0, "a game " * 1000)
    try:
        assert len(cli("load", "gamma").out) < 300
        planned = cli("load", "alpha", "beta", "--dry-run")
        alone, both = cli("load", "alpha"), cli("load", "alpha", "beta", "--json")
    finally:
        held.close()
        long.close()

    assert 8 == alone.code and "held by" in alone.out and "a\\e game; until 2" in alone.out
    assert "corral release" in alone.err
    assert (5, ["held", "loaded"]) == (both.code, [row["outcome"] for row in json.loads(both.out)["models"]])
    assert [["alpha", "leave"], ["beta", "load"]] == [line.split()[:2] for line in planned.out.splitlines()[1:]]
    assert 0 == cli("load", "alpha").code


def test_unload_of_a_held_model_is_fine(cli: Cli, url: str) -> None:
    """A hold keeps models from coming up, not from going; one that is resident is loaded already."""
    assert 0 == cli("load", "alpha").code
    held = begin(url, None, (), 7200.0, "")
    try:
        assert (0, 0) == (cli("load", "alpha").code, cli("unload", "alpha").code)
    finally:
        held.close()


def test_dry_run_changes_nothing(cli: Cli, url: str, folder: str) -> None:
    """--dry-run shows what would be held, what stays and what would be unloaded, and does nothing."""
    assert 0 == cli("load", "alpha").code
    plain, unloads = cli("hold", "alpha", "beta", "-n"), cli("hold", "--all", "--unload", "--dry-run", "--json")
    document = json.loads(unloads.out)

    assert [["alpha", "hold"], ["beta", "hold"]] == [line.split()[:2] for line in plain.out.splitlines()[1:]]
    assert "for 2h" in plain.err and "Nothing was changed." in plain.err
    assert ["unload_and_hold", "hold", "hold"] == [row["action"] for row in document["models"]]
    assert (True, 7200.0) == (document["dry_run"], document["for_s"])
    assert {"alpha"} == residents(url) and "No holds" in cli("holds").err


def test_hold_without_a_ledger(cli: Cli, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be written there is a warning, and a hold that ends in time."""
    monkeypatch.setenv("CORRAL_STATE_DIR", "/dev/null/x")
    done = cli("hold", "--all", "--for", "300ms")

    assert (0, "") == (done.code, done.out)
    assert "corral: The hold is kept, but not written down" in done.err and "(expired)" in done.err


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["hold"], 2),
        (["hold", "alpha", "--all"], 2),
        (["hold", "alpha", "--for", "0s"], 2),
        (["hold", "alpha", "--include-pinned"], 2),
        (["hold", "nobody"], 4),
        (["hold", "alpha", "--except", "nobody"], 4),
        (["hold", "alpha", "--except", "alpha"], 0),
        (["hold", "alpha", "--url", "http://127.0.0.1:9"], 3),
    ],
)
def test_what_cannot_be_held(cli: Cli, url: str, argv: list[str], code: int, folder: str) -> None:
    """What cannot be meant, is not there, or does not answer is said at once, and no hold is left behind."""
    done = cli(*argv)

    assert (code, "") == (done.code, done.out) and done.err
    assert not os.path.exists(folder)


def test_router_that_is_gone_ends_nothing(
    cli: Cli, hold: Callable[..., Holding], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hold outlives its router, says so, and is released all the same."""
    with simulate(models=NAMES) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        holding = hold("--all")
    lost = holding.wait_for("lost")

    assert "UnreachableError" == lost["error"]["kind"]
    assert 0 == cli("release", "h1").code == holding.end()[0]


def test_release_is_obeyed_while_the_router_hangs(
    cli: Cli,
    router: RawRouter,
    serve: Callable[..., str],
    hold: Callable[..., Holding],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A router that does not answer keeps no hold from its end."""
    is_hanging = threading.Event()
    asked = threading.Event()

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes | None:
        if is_hanging.is_set():
            asked.set()
            return None
        return router(method, path, headers, body)

    monkeypatch.setenv("CORRAL_URL", serve(answer))
    holding = hold("gamma", "--read-timeout", "1m")
    is_hanging.set()
    assert asked.wait(_DEADLINE_S)
    assert 0 == cli("release", "gamma").code

    assert 0 == holding.end()[0]


@pytest.mark.parametrize("era", ["b9093", "b11434"])
def test_hold_on_builds_with_and_without_events(
    era: str, hold: Callable[..., Holding], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an event stream the list alone tells what comes up."""
    with simulate(models=NAMES, era=era) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        holding = hold("--all")
        assert 200 == ask(sim.url, "alpha")
        holding.wait_for("went_again")

        assert set() == residents(sim.url)


def test_model_that_the_list_hides(hold: Callable[..., Holding], monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold of all takes a model that the list does not show."""
    with simulate(models=("alpha", ModelSpec("twin", is_hidden=True))) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        holding = hold("--all")
        deadline = time.monotonic() + _DEADLINE_S
        with Router(sim.url) as client:
            while "came_up" not in [told["event"] for told in list(holding.events)]:
                # One that comes up before the guard listens stays unknown to it.
                assert 200 == ask(sim.url, "twin") and time.monotonic() < deadline
                time.sleep(0.3)
                with suppress(RefusedError):
                    client.send(unload_model("twin"))

        assert "twin" == holding.wait_for("went_again")["model"]


# The hold in the ledger.


def test_watch_tells_of_release_and_of_models_let_out(folder: str) -> None:
    """Models that are let out of it and its end reach whoever sees to it."""
    url = "http://127.0.0.1:9"
    held = begin(url, None, ("x",), 7200.0, "")
    with Ledger.open(folder) as ledger:
        ledger.holds.release_models(held.hold.id, ["a"], held.hold.created)
        assert LetOut(("a",)) == held.inbox.get(timeout=_DEADLINE_S)
        ledger.holds.release(held.hold.id, held.hold.created)
        assert Ended("released") == held.inbox.get(timeout=_DEADLINE_S)
        assert (False, "released") == (held.close(), held.ended)
        found = ledger.holds.find(held.hold.id)
        assert found is not None and None is found.enforcer, "it has heard"


def test_watch_outlives_a_ledger_that_is_replaced(folder: str) -> None:
    """A ledger that was moved away ends the hold in it: nobody could end it otherwise."""
    held = begin("http://127.0.0.1:9", None, (), 7200.0, "")
    os.rename(folder, f"{folder}-old")

    assert Ended("released") == held.inbox.get(timeout=_DEADLINE_S)
    assert not held.close()


def test_hold_of_another_process_is_not_taken_for_ours(folder: str) -> None:
    """An id says nothing about a ledger that was begun anew: the hold there is somebody else's."""
    held = begin("http://127.0.0.1:9", None, (), 7200.0, "")
    os.rename(folder, f"{folder}-old")
    with Ledger.open(folder) as ledger:
        other = ledger.holds.add(
            identify("http://127.0.0.1:9"), None, owner=held.hold.owner, duration_s=9.0, now=read_moment()
        )
        assert other.id == held.hold.id

    assert Ended("released") == held.inbox.get(timeout=_DEADLINE_S)
    held.close()


def test_older_hold_goes_first(folder: str) -> None:
    """A hold hears of an older one that a living process sees to, and of that one's end."""
    url = "http://127.0.0.1:9"
    old, young, other = (begin(where, None, (), 7200.0, "") for where in (url, url, "http://127.0.0.2:9"))
    try:
        assert Outranked((old.hold,)) == young.inbox.get(timeout=_DEADLINE_S)
        assert old.close()
        assert Outranked(()) == young.inbox.get(timeout=_DEADLINE_S)
        assert other.inbox.empty()
    finally:
        for held in (young, other):
            held.close()


# What is said.


def tell(capsys: pytest.CaptureFixture[str], facts: list[object], *, as_json: bool = False) -> tuple[str, str]:
    """What is printed of these facts."""
    from corral.faces.cli.console import Console

    peers = (Peer("127.0.0.1", 2, Process(42, 1, "cu\x1brl")), Peer("10.0.0.7", 1), Peer("127.0.0.1", 1, None, 1000))
    talk = HoldTalk(Console(), "h1", lambda: peers, as_json=as_json)
    for fact in facts:
        talk(fact)
    return capsys.readouterr()


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Each event is a line that says who may have asked, who had to go, and what was cut; trouble is a warning."""
    refused = RefusedError("it is busy", status=500)
    out, err = tell(
        capsys,
        [
            *(CameUp("a\n", ("b", "c"), 7), WentAgain("a", 1.5, 1), NotMoved("a", refused), WorkUnseen("a")),
            *(RouterLost(UnreachableError("gone.")), RouterBack(), LetOut(("a",))),
        ],
    )
    lines = [line[10:] for line in out.splitlines()]

    assert lines == [
        "$'a\\n'  was asked for and comes up; 7 loads within the last minute; the router may have evicted b, c for it; "
        "connected: cu\\erl (pid 42), 10.0.0.7, 127.0.0.1 (user 1000)",
        "a  went again after 1.5 s; 1 request that slipped in was cut",
        "a  was released from the hold",
    ]
    assert "it is busy" in err and "--force" in err and "gone. Trying again" in err and "The router is back." in err


def test_documents(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs each event is a document, an eviction one of its own."""
    out, _ = tell(capsys, [CameUp("a", ("b",), 7), WentAgain("a", 1.5, None), RouterBack()], as_json=True)
    documents = [json.loads(line) for line in out.splitlines()]

    assert ["came_up", "evicted", "went_again", "back"] == [document["event"] for document in documents]
    assert [42, None, None] == [peer["pid"] for peer in documents[0]["peers"]]
    assert ("b", "a", None) == (documents[1]["model"], documents[1]["by"], documents[2]["cut"])
    assert {("h1", 1)} == {(document["hold"], document["schema_version"]) for document in documents}

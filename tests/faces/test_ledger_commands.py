"""Pins, sets, holds and the log on the command line, and what the other commands make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from corral.client import identify
from corral.faces.cli.times import tell_duration, tell_time
from corral.ledger import Ledger, read_moment
from corral.machine import read_process
from corral.ops.promises import Actor, Hold, Owner
from corral.sim import ModelSpec, simulate
from tests.faces.kit import refusal

if TYPE_CHECKING:
    from tests.faces.kit import RawRouter, Result

    Cli = Callable[..., Result]

OWNER = Owner("ann", "box")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the commands keep their ledger; not there yet."""
    monkeypatch.setenv("USER", "ann")
    return tmp_path / ".local" / "state" / "corral"


@pytest.fixture
def ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of the commands."""
    with Ledger.open(str(folder)) as opened:
        yield opened


@pytest.fixture
def hold(ledger: Ledger, router: RawRouter) -> Callable[..., Hold]:
    """Begins a hold of two hours on the router, enforced by this process."""
    process = read_process(os.getpid())
    assert process is not None
    now = read_moment()
    enforcer = Actor(process, now.boot_id)

    def begin(*models: str, reason: str = "") -> Hold:
        key = identify(os.environ["CORRAL_URL"])
        return ledger.holds.add(
            key, models or None, owner=OWNER, duration_s=7200.0, now=now, reason=reason, enforcer=enforcer
        )

    return begin


def rows(text: str) -> list[list[str]]:
    """A table's cells."""
    return [line.split() for line in text.splitlines()]


def told(cli: Cli, *argv: str) -> list[tuple[str, str, str]]:
    """What the log tells: command, name and outcome of each entry."""
    entries = json.loads(cli("log", "--json", *argv).out)["entries"]
    return [(entry["command"], entry["name"], entry["outcome"]) for entry in entries]


# Pins.


def test_pin_and_unpin(cli: Cli, router: RawRouter, folder: Path) -> None:
    """A model is pinned by name or alias, once, listed, and unpinned; each is told and logged."""
    first, again = cli("pin", "alias-of-alpha"), cli("pin", "alpha", "beta")
    listed = cli("pins")
    gone, nothing = cli("unpin", "alias-of-alpha", "gamma"), cli("unpin", "alpha")

    assert (0, "alpha   pinned\n") == first[:2]
    assert "This binds Corral alone" in first.err
    assert (0, "alpha   was pinned\nbeta    pinned\n") == again[:2]
    assert [["NAME", "PINNED", "BY"], ["alpha", "ann@" + os.uname().nodename], ["beta"]] == [
        rows(listed.out)[0],
        [rows(listed.out)[1][0], rows(listed.out)[1][3]],
        rows(listed.out)[2][:1],
    ]
    assert (0, "alpha   unpinned\ngamma   was not pinned\n") == gone[:2]
    assert (0, "alpha   was not pinned\n") == nothing[:2]
    assert "Nothing to unpin" in nothing.err
    assert [] == router.posts
    assert [("pin", "alpha", "pinned"), ("pin", "beta", "pinned"), ("unpin", "alpha", "unpinned")] == told(cli)


def test_pins_need_no_router_to_go(cli: Cli, router: RawRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is pinned can be listed and unpinned while the router is away; another name cannot be made out."""
    port = os.environ["CORRAL_URL"].rpartition(":")[2]
    cli("pin", "alpha", "beta", "gamma")
    monkeypatch.setenv("CORRAL_URL", "http://127.0.0.1:9")
    assert "No pinned models on http://127.0.0.1:9." in cli("pins").err
    assert (0, "alpha\nbeta\ngamma\n", "") == cli("pins", "-A", "-q")
    assert 3 == cli("unpin", "alpha").code
    monkeypatch.setenv("CORRAL_URL", f"http://localhost:{port}")
    assert (0, "beta\n", "") == cli("unpin", "beta", "-q")
    assert (0, "alpha\ngamma\n") == cli("unpin", "--all", "-q")[:2]
    assert (0, "") == cli("unpin", "--all")[:2]
    assert "No pinned models." in cli("pins", "--all-routers").err


def test_unknown_names_are_not_pinned(cli: Cli, router: RawRouter, folder: Path) -> None:
    """A name that is no model's is exit 4, and nothing is pinned."""
    assert 4 == cli("pin", "alpha", "nobody").code
    assert 4 == cli("unpin", "nobody").code
    assert not folder.exists()


def test_dry_runs_change_nothing(cli: Cli, router: RawRouter, folder: Path, hold: Callable[..., Hold]) -> None:
    """--dry-run shows what would be done, and does not do it."""
    cli("pin", "alpha")
    cli("save", "evening")
    hold("alpha")
    before = (cli("pins").out, cli("sets").out, cli("holds", "-q").out, told(cli))

    assert [["alpha", "leave", "it", "is", "pinned"], ["beta", "pin"]] == rows(cli("pin", "alpha", "beta", "-n").out)[
        1:
    ]
    assert [["alpha", "unpin"]] == rows(cli("unpin", "--all", "--dry-run").out)[1:]
    assert [["gamma", "save"]] == [row[:2] for row in rows(cli("save", "evening", "gamma", "--dry-run").out)[1:]]
    assert [["evening", "forget"]] == rows(cli("forget", "evening", "--dry-run").out)[1:]
    assert [["h1", "release"]] == [row[:2] for row in rows(cli("release", "--all", "--dry-run").out)[1:]]
    document = json.loads(cli("pin", "beta", "--dry-run", "--json").out)
    assert (True, [{"id": "beta", "action": "pin", "reason": ""}]) == (document["dry_run"], document["models"])
    assert "Nothing was changed." in cli("release", "h1", "--dry-run").err
    assert before == (cli("pins").out, cli("sets").out, cli("holds", "-q").out, told(cli))


# What unload makes of pins.


def test_unload_all_spares_what_is_pinned(cli: Cli, router: RawRouter) -> None:
    """--all leaves pinned models alone and says so; the exit code is that of the others."""
    cli("pin", "alpha", "gamma")
    planned, done = cli("unload", "--all", "--dry-run"), cli("unload", "--all")

    assert [["beta", "unload"], ["alpha", "leave"]] == [row[:2] for row in rows(planned.out)[1:]]
    assert "pinned" in planned.out
    assert (0, [("unload", "beta")]) == (done.code, router.posts)
    assert "Left alone, because pinned: alpha." in done.err


def test_only_pinned_models_are_exit_8(cli: Cli, router: RawRouter) -> None:
    """Where nothing but pinned models is resident, nothing is done, with exit 8 and the way out."""
    cli("pin", "alpha", "beta")
    plain, quiet = cli("unload", "--all"), cli("unload", "--match", "*", "-q")
    document = json.loads(cli("unload", "--all", "--json").out)

    assert (8, "", []) == (plain.code, plain.out, router.posts)
    assert ["corral: Nothing was unloaded: what is resident is pinned: alpha, beta.", "--include-pinned"] == [
        plain.err.splitlines()[0],
        plain.err.splitlines()[1].split()[-1].rstrip("."),
    ]
    assert (8, "") == quiet[:2] and "pinned" in quiet.err
    assert (8, False, ["alpha", "beta"], []) == tuple(document[key] for key in ("exit_code", "ok", "pinned", "models"))
    router.models = dict.fromkeys(router.models, "unloaded")
    assert 0 == cli("unload", "--all").code


def test_pins_yield_to_a_name_and_to_include_pinned(cli: Cli, router: RawRouter) -> None:
    """A pinned model that is named goes, and with --include-pinned so do all."""
    cli("pin", "alpha", "beta")

    assert 0 == cli("unload", "alpha").code
    assert 0 == cli("unload", "--all", "--include-pinned").code
    assert [("unload", "alpha"), ("unload", "beta")] == router.posts


def test_pins_that_cannot_be_read_stop_unload_all(cli: Cli, router: RawRouter, folder: Path) -> None:
    """A damaged ledger may have protected something: --all stops with the next step; a name needs no pins."""
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"nonsense" * 1000)
    stopped = cli("unload", "--all")

    assert (1, []) == (stopped.code, router.posts)
    assert "is damaged" in stopped.err and "--include-pinned" in stopped.err and "mv " in stopped.err
    assert 0 == cli("unload", "alpha").code
    assert 0 == cli("unload", "--all", "--include-pinned").code
    assert 1 == cli("pin", "alpha").code == cli("pins").code == cli("save", "x").code == cli("holds").code


@pytest.mark.parametrize("words", [("run", "--", "true"), ("keep", "--idle", "1h", "-n")])
def test_pins_that_no_option_can_do_without(cli: Cli, router: RawRouter, folder: Path, words: tuple[str, ...]) -> None:
    """Where a command cannot go on without the ledger, or has no such option, the next step does not name one."""
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"nonsense" * 1000)
    stopped = cli(*words)

    assert stopped.code in (1, 125) and [] == router.posts
    assert "mv " in stopped.err and "--include-pinned" not in stopped.err


@pytest.mark.parametrize(
    "words",
    [
        "pin alpha",
        "unpin alpha",
        "pins",
        "save x",
        "restore x",
        "forget x",
        "sets",
        "holds",
        "release h1",
        "log",
        "recover",
    ],
)
def test_failures_are_documents_too(cli: Cli, router: RawRouter, folder: Path, words: str) -> None:
    """With --json a ledger that cannot be read is told in a document that names the router, like any other failure."""
    folder.mkdir(parents=True)
    (folder / "ledger.db").write_bytes(b"nonsense" * 1000)
    stopped = cli(*words.split(), "--json")
    document = json.loads(stopped.out)

    assert (1, 1, False) == (stopped.code, document["exit_code"], document["ok"])
    assert document["url"].startswith("http://127.0.0.1:") and "is damaged" in document["error"]["message"]


# The log.


def test_log_tells_what_was_seen(cli: Cli, router: RawRouter, folder: Path) -> None:
    """Loads and unloads are told with their outcome, by whom, oldest first; what was not done is not told."""
    router.on_post = lambda verb, model: refusal(500, "no such luck") if model == "beta" else b"as usual"
    cli("load", "gamma", "alpha")
    cli("unload", "--all", "-q")
    cli("unload", "gamma")
    cli("unload", "--all", "--dry-run")
    shown = rows(cli("log").out)

    assert [("load", "gamma", "loaded"), ("unload", "alpha", "unloaded")] == told(cli)[:2]
    assert {("unload", "beta", "refused"), ("unload", "gamma", "unloaded")} == set(told(cli)[2:])
    assert ["TIME", "BY", "COMMAND", "NAME", "OUTCOME", "FREED", "REASON"] == shown[0]
    assert all("ann@" + os.uname().nodename == row[2] for row in shown[1:])
    assert "no such luck" in cli("log").out


def test_log_is_narrowed(cli: Cli, router: RawRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time, model, number and router narrow the log, and what is left out is said."""
    cli("load", "gamma")
    cli("unload", "gamma")
    cli("unload", "alpha")

    assert [("unload", "alpha", "unloaded")] == told(cli, "-n", "1") == told(cli, "--model", "alpha")
    assert 3 == len(told(cli, "--since", "1h"))
    assert "2 older not shown" in cli("log", "-n1").err
    monkeypatch.setenv("CORRAL_URL", "http://127.0.0.1:9")
    assert [] == told(cli)
    assert "Nothing was done on http://127.0.0.1:9." in cli("log").err
    assert 3 == len(told(cli, "-A"))
    assert "ROUTER" in cli("log", "--all-routers").out


def test_log_holds_no_secret(cli: Cli, router: RawRouter, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no word of the command line but its name is written down."""
    monkeypatch.setenv("CORRAL_API_KEY", "sk-very-secret")
    cli("unload", "--all", "--timeout", "59s")
    cli("pin", "gamma")

    written = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"unloaded" in written
    assert b"sk-very-secret" not in written and b"59s" not in written


def test_log_of_odd_names_is_safe(cli: Cli, router: RawRouter) -> None:
    """A name that would steer a terminal is told as text; as JSON it is whole."""
    odd = "\x1b[2Jevil\n" + "x" * 10_000
    router.models, router.ports = {odd: "loaded"}, {odd: 1}
    assert 0 == cli("unload", "--all").code == cli("pin", odd).code
    shown = cli("log").out + cli("pins").out + cli("save", "s", odd).out + cli("sets").out

    assert all(line.isprintable() and len(line) < 400 for line in shown.splitlines())
    assert ("unload", odd, "unloaded") in told(cli)
    assert [odd] == [pin["id"] for pin in json.loads(cli("pins", "--json").out)["pins"]]


@pytest.mark.parametrize("argv", [["unload", "--all"], ["load", "gamma"]])
def test_no_place_for_the_log(cli: Cli, router: RawRouter, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """Without a home the commands work, with one warning; what is about the ledger alone fails with the next step."""
    monkeypatch.delenv("HOME")
    done = cli(*argv)
    commands = (["pin", "alpha"], ["save", "x"], ["pins"], ["release", "--all"], ["log"], ["forget", "x"])
    failed = [cli(*command) for command in commands]

    assert 0 == done.code
    assert 1 <= done.err.count("HOME is not set") <= 2 and "CORRAL_STATE_DIR" in done.err
    assert {1} == {result.code for result in failed}
    assert all("HOME is not set" in result.err and "CORRAL_STATE_DIR" in result.err for result in failed)


def test_place_that_cannot_be_written(
    cli: Cli, router: RawRouter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where no folder can be made, a command works with one warning, and none when quiet."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "file" / "state"))
    plain, quiet = cli("unload", "alpha"), cli("unload", "beta", "-q")

    assert (0, 1) == (plain.code, plain.err.count("was not written to the log"))
    assert (0, "beta\n", "") == quiet
    assert 1 == cli("pin", "gamma").code


# Sets.


def test_save_and_forget(cli: Cli, router: RawRouter) -> None:
    """The residents, or what is named, are remembered in order under a name, and forgotten when told."""
    saved, named = cli("save", "evening"), cli("save", "morning", "gamma", "alias-of-alpha")
    listed, document = cli("sets"), json.loads(cli("sets", "--json").out)

    assert (0, "alpha   saved   it is loaded\nbeta    saved   it is sleeping\n") == saved[:2]
    assert "Saved 2 models of http://127.0.0.1:" in saved.err and "as evening." in saved.err
    assert 0 == named.code
    assert [["SET", "SAVED", "MODELS"], ["evening", "alpha,", "beta"], ["morning", "gamma,", "alpha"]] == [
        rows(listed.out)[0],
        *([row[0], *row[3:]] for row in rows(listed.out)[1:]),
    ]
    assert [["alpha", "beta"], ["gamma", "alpha"]] == [item["models"] for item in document["sets"]]
    assert (0, "evening\nmorning\n", "") == cli("sets", "-q")
    assert (0, "evening   forgotten\n") == cli("forget", "evening", "evening")[:2]
    assert (0, "morning\n", "") == cli("sets", "-q", "-A")
    assert [("save", "evening", "saved"), ("save", "morning", "saved"), ("forget", "evening", "forgotten")] == told(cli)


def test_save_takes_the_place_of_the_older_set(cli: Cli, router: RawRouter) -> None:
    """A second save under a name replaces the first and says so, even when nothing is resident."""
    cli("save", "evening", "--all")
    router.models = dict.fromkeys(router.models, "unloaded")
    again = cli("save", "evening")
    document = json.loads(cli("save", "evening", "--json").out)

    assert (0, "") == again[:2]
    assert "No resident models on http://127.0.0.1:" in again.err
    assert "It takes the place of that from 2" in again.err and "with 2 models." in again.err
    assert ("evening", [], []) == (document["set"], document["replaced"], document["models"])


def test_unknown_sets(cli: Cli, router: RawRouter) -> None:
    """A set that is not there is an error with the nearest name; the others stay."""
    cli("save", "evening")
    near, far = cli("forget", "evening", "evenin"), cli("forget", "zzz")

    assert (1, 1) == (near.code, far.code)
    assert "Did you mean evening?" in near.err and "corral sets" in far.err
    assert "evening\n" == cli("sets", "-q").out
    assert 2 == cli("save", "-q").code == cli("save", "x", "alpha", "--all").code == cli("save", "a\nb").code


# Holds.


def test_holds_are_shown(cli: Cli, hold: Callable[..., Hold], ledger: Ledger) -> None:
    """A hold is shown with what it covers, how long it lasts, who wants it, and whether anybody sees to it."""
    hold(reason="a\x1b[31m game")
    ledger.holds.set_enforcer(hold("alpha", "beta").id, None)
    shown = cli("holds").out.splitlines()
    document = json.loads(cli("holds", "--json").out)

    assert ["HOLD", "MODELS", "STATE", "LEFT", "BY", "REASON"] == shown[0].split()
    assert shown[1].startswith("h1     all           HELD                  ") and "ann@box   a\\e[31m game" in shown[1]
    assert shown[2].startswith("h2     alpha, beta   HELD (not enforced)   ")
    assert [(None, True), (["alpha", "beta"], False)] == [(h["models"], h["enforced"]) for h in document["holds"]]
    assert all(7100 < item["left_s"] <= 7200 for item in document["holds"])
    assert "h1\nh2\n" == cli("holds", "-q", "-A").out


def test_release_of_holds_and_models(cli: Cli, hold: Callable[..., Hold], router: RawRouter) -> None:
    """A hold ends by its id, a model leaves all holds by its name or alias, and --all ends every hold."""
    for _ in range(2):
        hold()
    hold("alpha", "beta")

    assert (0, "alpha   released   from h1, h2, h3\n", "") == cli("release", "alias-of-alpha")
    assert ["all but alpha", "all but alpha", "beta"] == [
        line[7:20].strip() for line in cli("holds").out.splitlines()[1:]
    ]
    assert (0, "h1   released   held all but alpha\n", "") == cli("release", "h1")
    assert (0, "beta   released   from h2, h3\n", "") == cli("release", "beta")
    assert (0, "h2\n", "") == cli("release", "--all", "-q")
    ended = cli("release", "h2", "gamma")
    assert (0, "gamma   was not held\nh2      was not held\n") == ended[:2]
    assert "Nothing to release" in ended.err
    assert (0, "") == cli("release", "--all")[:2]
    assert 4 == cli("release", "nobody").code
    assert "No holds on" in cli("holds").err and "No holds." in cli("holds", "-A").err
    assert [("release", name, "released") for name in ("alpha", "h1", "beta", "h2")] == told(cli)
    assert [] == router.posts


def test_hold_of_another_router_ends_by_its_id(
    cli: Cli, hold: Callable[..., Hold], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id says all: it needs neither the right --url nor a router that answers; --all keeps to its router."""
    hold("alpha")
    monkeypatch.setenv("CORRAL_URL", "http://127.0.0.1:9")

    assert (0, "") == cli("release", "--all")[:2]
    assert (0, "h1   released   held alpha\n", "") == cli("release", "h1")


# All of them.


@pytest.mark.parametrize(
    "argv",
    [
        *(["pin"], ["unpin"], ["unpin", "--all", "x"], ["release"], ["release", "--all", "x"], ["forget"], ["save"]),
        *(["log", "--since", "yesterday"], ["log", "-n", "0"], ["pins", "x"]),
    ],
)
def test_usage(cli: Cli, argv: list[str]) -> None:
    """What cannot be meant is exit 2 with the next step."""
    result = cli(*argv)

    assert (2, "", 2) == (result.code, result.out, len(result.err.splitlines()))


def test_completion_knows_what_is_promised(cli: Cli, router: RawRouter, hold: Callable[..., Hold]) -> None:
    """Completion offers pins, sets and holds out of the ledger, and is silent on trouble."""
    cli("pin", "gamma")
    cli("save", "evening")
    hold("alpha")

    offered = {kind: cli("__complete", kind).out.split() for kind in ("pins", "sets", "holds")}
    assert {"pins": ["gamma"], "sets": ["evening"], "holds": ["h1", "alpha"]} == offered
    os.environ["CORRAL_STATE_DIR"] = "/dev/null/x"
    try:
        assert (0, "", "") == cli("__complete", "pins")
    finally:
        del os.environ["CORRAL_STATE_DIR"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m"), (75, "1m15s"), (3600, "1h"), (7199, "1h59m"), (90000, "1d1h"), (86400 * 30, "30d")],
)
def test_durations(seconds: float, text: str) -> None:
    """A duration is told to its two largest units."""
    assert text == tell_duration(seconds)


def test_times() -> None:
    """A time that no calendar has is a dash."""
    assert 19 == len(tell_time(1_700_000_000.0))
    assert "-" == tell_time(1e18) == tell_time(float("nan"))


def test_ledger_costs_nothing_where_it_says_nothing(cli: Cli, router: RawRouter) -> None:
    """With pins in the ledger, a command that they do not concern imports no database."""
    cli("pin", "beta")
    code = "import sys; from corral.faces.cli import main; print(main(sys.argv[1:]), 'sqlite3' in sys.modules)"
    environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, "unload", "alpha"], capture_output=True, text=True, env=environ
    )

    assert "0 False" == done.stdout.splitlines()[-1]


def test_pins_cost_nothing_where_none_was_ever_made(folder: Path, router: RawRouter) -> None:
    """With a ledger that never held a pin, unload --all imports no database; once one is there, it is obeyed."""
    Ledger.open(str(folder)).close()
    code = "import sys; from corral.faces.cli import main; print(main(sys.argv[1:]), 'sqlite3' in sys.modules)"
    environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    command = [sys.executable, "-S", "-c", code, "unload", "--all", "--dry-run"]
    before = subprocess.run(command, capture_output=True, text=True, env=environ).stdout
    with Ledger.open(str(folder)) as ledger:
        ledger.pins.add(identify(os.environ["CORRAL_URL"]), ["alpha"], owner=OWNER, wall=1.0)
    after = subprocess.run(command, capture_output=True, text=True, env=environ).stdout

    assert before.endswith("0 False\n") and "pinned" not in before
    assert after.endswith("0 True\n") and "pinned" in after


def test_what_was_left_busy_is_in_the_log(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A nightly unload that had to leave a model says so in the log, not only to whoever watched."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim, sim.busy("a"):
        assert cli("--url", sim.url, "unload", "--all", "--grace", "0.1s").code == 6
        entries = json.loads(cli("--url", sim.url, "log", "--json").out)["entries"]

    assert [(entry["name"], entry["outcome"]) for entry in entries] == [("a", "still_busy")]
    assert "1 request in flight" in entries[0]["reason"]

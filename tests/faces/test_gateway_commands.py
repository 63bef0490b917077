"""The commands at a gateway: they ask its API, and it does, enforces and remembers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from corral.ledger import read_owner
from corral.sim.config import ModelSpec
from corral.sim.control import Simulation, simulate
from corral.sim.launch import pick_free_port
from tests.faces.kit import Result

Cli = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]
SPECS = (ModelSpec("alpha", aliases=("al",), status="loaded"), ModelSpec("beta", status="loaded"), ModelSpec("gamma"))


@pytest.fixture
def sim(spawn: Spawn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Simulation]:
    """A simulated router behind a gateway, to which the environment leads."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    with simulate(models=SPECS, token_s=0.02) as sim, serving(spawn, sim.url) as url:
        monkeypatch.setenv("CORRAL_URL", url)
        yield sim


@contextmanager
def serving(spawn: Spawn, router: str) -> Iterator[str]:
    """``corral serve`` as a process of its own; gives its address."""
    process = spawn("serve", "--router", router, "--listen", "127.0.0.1:0", "--json")
    assert process.stdout is not None
    document = json.loads(process.stdout.readline())
    try:
        yield document["listening"][0]
    finally:
        process.terminate()
        process.communicate(timeout=20)


def read(result: Result) -> Any:
    """The document of a command that went well."""
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_ps(sim: Simulation, cli: Cli) -> None:
    """ps at a gateway shows what is busy and for how long the rest has been idle."""
    shown = cli("ps")

    assert shown.code == 0
    assert shown.out.splitlines()[0].split() == ["NAME", "STATE", "MEMORY", "BUSY", "IDLE"]
    assert [line.split()[0] for line in shown.out.splitlines()[1:3]] == ["alpha", "beta"]
    models = read(cli("ps", "--json"))["models"]
    assert [(model["id"], model["in_flight"], model["requests"]) for model in models] == [
        ("alpha", 0, []),
        ("beta", 0, []),
    ]
    assert cli("ps", "-q").out == "alpha\nbeta\n"
    assert cli("ps", "-o", "wide").code == 0


def test_hold_and_release(sim: Simulation, cli: Cli) -> None:
    """A hold at a gateway returns at once and is in force; a load is refused with exit 8 until it is released."""
    held = cli("hold", "gamma", "--for", "10m", "--reason", "rendering")

    assert (held.code, held.out) == (0, "")
    assert "Holding 1 model" in held.err and "h1" in held.err
    refused = cli("load", "gamma")
    assert refused.code == 8
    assert "rendering" in refused.out
    assert sim.state("gamma") == "unloaded"
    (row,) = read(cli("holds", "--json"))["holds"]
    assert (row["id"], row["models"], row["enforced"], row["reason"]) == ("h1", ["gamma"], True, "rendering")
    assert "h1" in cli("holds").out
    assert cli("release", "h1").out.split() == ["h1", "released"]
    assert "No holds" in cli("holds").err
    assert cli("load", "gamma").code == 0
    assert cli("release", "h1").code == 0


def test_hold_all_and_unload(sim: Simulation, cli: Cli) -> None:
    """hold --all --unload at a gateway drains what is up, tells what was seen, and keeps it away."""
    document = read(cli("hold", "--all", "--except", "beta", "--for", "5m", "--unload", "--json"))

    assert document["hold"]["models"] is None and document["hold"]["excepted"] == ["beta"]
    assert [(model["id"], model["outcome"]) for model in document["models"]] == [("alpha", "unloaded")]
    assert (sim.state("alpha"), sim.state("beta")) == ("unloaded", "loaded")
    assert cli("load", "alpha").code == 8
    assert cli("release", "alpha", "--dry-run").code == 0
    assert cli("load", "alpha").code == 8, "a dry run changes nothing"
    assert cli("release", "al").code == 2 or cli("release", "alpha").code == 0
    assert cli("release", "--all").code == 0


def test_hold_that_is_interrupted(sim: Simulation, cli: Cli, spawn: Spawn, finish: Callable[..., Result]) -> None:
    """Ctrl-C while a hold unloads says that the gateway goes on; it does, and what it unloaded can be put back."""
    parts = urlsplit(os.environ["CORRAL_URL"])
    stream = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)
    body = {"model": "beta", "stream": True, "max_tokens": 100, "messages": []}
    stream.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = stream.getresponse()
    assert answer.readline()
    holding = spawn("hold", "beta", "--for", "10m", "--unload")
    while not (holds := read(cli("holds", "--json"))["holds"]):
        assert holding.poll() is None
    holding.send_signal(signal.SIGINT)
    stopped = finish(holding)

    assert stopped.code == 130
    assert "the gateway goes on. 'corral holds' shows the hold" in stopped.err
    assert answer.read().endswith(b"data: [DONE]\n\n")
    stream.close()
    assert cli("unload", "beta").code == 0
    while not (holds := read(cli("holds", "--json"))["holds"])[0]["unloaded"]:
        assert sim.state("beta") == "unloaded"
    assert holds[0]["unloaded"] == ["beta"]
    assert cli("release", "--all", "--restore").code == 0
    assert sim.state("beta") == "loaded"


def test_unload(sim: Simulation, cli: Cli) -> None:
    """unload at a gateway is done by it, spares what is pinned there, also in a plan, and ends with the same codes."""
    assert cli("pin", "al").code == 0
    planned = read(cli("unload", "--all", "--dry-run", "--json"))["models"]
    assert [(model["id"], model["action"]) for model in planned] == [("beta", "unload"), ("alpha", "leave")]
    assert "it is pinned" in cli("hold", "--all", "--unload", "--dry-run").out
    done = cli("unload", "--all")
    assert done.code == 0
    assert done.out.split()[:2] == ["beta", "unloaded"]
    assert "pinned: alpha" in done.err
    assert cli("unload", "--all").code == 8
    assert cli("unload", "nobody").code == 4
    assert read(cli("unload", "alpha", "--json"))["models"][0]["outcome"] == "unloaded"
    assert read(cli("unload", "alpha", "--json"))["models"][0]["outcome"] == "already_unloaded"
    commands = [entry["command"] for entry in read(cli("log", "--json"))["entries"]]
    assert commands == ["pin", "unload", "unload"]
    assert "unloaded" in cli("log", "-n", "1").out


def test_keep(sim: Simulation, cli: Cli) -> None:
    """keep at a gateway keeps nothing, and says that the gateway does it itself where its configuration says so."""
    for words in ((), ("--dry-run",)):
        refused = cli("keep", "--idle", "30m", *words)

        assert refused.code == 6
        assert "is a gateway" in refused.err and "idle_match, idle_never" in refused.err


def test_load_is_logged_by_name(sim: Simulation, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """load at a gateway is logged for its user, held or not, where the token is at hand; without it for a client."""
    user = read_owner(os.environ).user
    assert cli("load", "gamma").code == 0
    assert (cli("hold", "gamma", "--for", "5m").code, cli("unload", "gamma").code) == (0, 0)
    assert cli("load", "gamma").code == 8
    assert cli("release", "--all").code == 0
    monkeypatch.setenv("CORRAL_TOKEN_FILE", str(tmp_path / "no-such-file"))
    assert cli("load", "gamma").code == 0
    monkeypatch.delenv("CORRAL_TOKEN_FILE")

    loads = [entry for entry in read(cli("log", "--json"))["entries"] if entry["command"] == "load"]

    assert [(entry["user"], entry["outcome"]) for entry in loads] == [
        (user, "requested"),
        (user, "refused"),
        ("client", "requested"),
    ]


def test_unload_of_a_busy_model(sim: Simulation, cli: Cli) -> None:
    """A model that is still busy when the grace is over stays, with exit 6."""
    with sim.busy("alpha"):
        # Not through the gateway: it is the child's own count that tells of it.
        left = cli("unload", "alpha", "--grace", "300ms")

    assert left.code == 6
    assert sim.state("alpha") == "loaded"
    assert cli("unload", "alpha", "--no-wait").code == 0


def test_doctor(sim: Simulation, cli: Cli) -> None:
    """doctor at a gateway says that it is one, and not that web pages can load and unload models there."""
    findings = {one["check"]: one for one in json.loads(cli("doctor", "--json").out)["findings"]}

    assert "a Corral gateway" in findings["router"]["seen"]
    assert "lets none load or unload" in findings["pages"]["seen"]


def test_without_its_token(sim: Simulation, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who has no token may still ask what any client may; for the rest it is said where the token lies."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "elsewhere"))
    seen, refused = cli("ps"), cli("unload", "alpha")
    assert (seen.code, "alpha" in seen.out) == (0, True)
    assert (refused.code, sim.state("alpha")) == (9, "loaded")
    for result in (seen, refused):
        assert "CORRAL_TOKEN_FILE" in result.err and "API key" not in result.err
    assert cli("ls").code == 0

    monkeypatch.setenv("CORRAL_TOKEN_FILE", str(tmp_path / "state" / "token"))
    assert cli("ps").code == 0
    assert cli("holds").code == 0


@pytest.mark.parametrize(
    "words",
    [
        *(("holds",), ("pins",), ("sets",), ("log",), ("log", "--since", "1h")),
        *(("release", "--all"), ("release", "gamma"), ("release", "h1"), ("unpin", "--all"), ("unpin", "alpha")),
        *(("restore", "evening"), ("forget", "evening")),
    ],
)
def test_another_users_ledger(
    sim: Simulation, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """A gateway's ledger is not taken for empty by who has no token: exit 9 and where the token lies, not "none"."""
    for promise in (("hold", "gamma", "--for", "5m"), ("pin", "alpha"), ("save", "evening")):
        assert cli(*promise).code == 0
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "elsewhere"))

    refused = cli(*words)

    assert (refused.code, refused.out) == (9, "")
    assert "CORRAL_TOKEN_FILE" in refused.err


def test_recover_behind_the_gateway(sim: Simulation, spawn: Spawn, cli: Cli, tmp_path: Path) -> None:
    """recover with a gateway's URL finds what a run there left behind; with another router's URL it finds nothing."""
    process = spawn("run", "alpha", "--", "sh", "-c", f"echo x > {tmp_path}/ready; read line", stdin=-1)
    sim.wait_until((tmp_path / "ready").exists)
    process.kill()
    process.communicate(timeout=20)
    gateway = os.environ["CORRAL_URL"]

    assert "Nothing to recover" in cli("recover", "--url", "http://127.0.0.1:1", "--force").err
    assert cli("recover", "--url", gateway, "--force").code == 0
    assert sim.state("alpha") == "loaded"


def test_router_gone(spawn: Spawn, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """When the router behind a gateway is gone, no command takes the gateway's old list for the truth."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    with ExitStack() as stack:
        router = stack.enter_context(ExitStack())
        url = router.enter_context(simulate(models=SPECS)).url
        monkeypatch.setenv("CORRAL_URL", stack.enter_context(serving(spawn, url)))
        assert cli("hold", "gamma", "--for", "5m").code == 0
        router.close()
        for command in (("ps",), ("ls",), ("unload", "--all"), ("load", "alpha")):
            gone = cli(*command)
            assert gone.code == 3, command
            assert "router" in gone.err
        assert "gamma" in cli("holds").out, "what is promised is known all the same"


def test_router_not_there_yet(spawn: Spawn, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A gateway that has never seen its router is not taken for a server of one model."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    with serving(spawn, f"http://127.0.0.1:{pick_free_port()}") as url:
        monkeypatch.setenv("CORRAL_URL", url)
        for command in (("ps",), ("load", "alpha"), ("unload", "--all"), ("hold", "--all", "--for", "5m"), ("doctor",)):
            gone = cli(*command)
            assert gone.code == 3, command
            assert "The gateway answers, but" in gone.out + gone.err, command


def test_pins_and_sets(sim: Simulation, cli: Cli) -> None:
    """Pins and sets of a gateway are kept by the gateway, and every command on them finds them there."""
    assert cli("pin", "alpha").code == 0
    assert [pin["id"] for pin in read(cli("pins", "--json"))["pins"]] == ["alpha"]
    assert cli("pins", "-q").out == "alpha\n"
    assert "PINNED" in cli("ls").out
    assert read(cli("ls", "--json"))["models"][0]["pinned"] is True
    assert cli("unpin", "al", "--dry-run").code == 0
    assert cli("unpin", "al").out.split() == ["alpha", "unpinned"]
    assert cli("pins", "-q").out == ""

    assert read(cli("save", "evening", "--dry-run", "--json"))["replaced"] is None
    assert "No sets" in cli("sets").err
    assert cli("save", "evening").code == 0
    assert read(cli("sets", "--json"))["sets"][0]["models"] == ["alpha", "beta"]
    assert cli("unload", "--all").code == 0
    assert cli("restore", "evening").code == 0
    assert (sim.state("alpha"), sim.state("beta"), sim.state("gamma")) == ("loaded", "loaded", "unloaded")
    assert cli("restore", "morning").code == 1
    assert cli("forget", "evening").code == 0
    assert "No sets" in cli("sets").err


def test_marks(sim: Simulation, cli: Cli) -> None:
    """ls at a gateway shows what is held there."""
    assert cli("hold", "gamma", "--for", "5m").code == 0

    (row,) = [line for line in cli("ls").out.splitlines() if line.startswith("gamma")]
    assert row.split()[-1] == "HELD"
    assert read(cli("ls", "--json"))["models"][2]["hold_enforced"] is True


def test_release_puts_back(sim: Simulation, cli: Cli) -> None:
    """release --restore at a gateway loads again what its hold had unloaded, and what is let out of one."""
    assert cli("hold", "--all", "--unload", "--for", "5m").code == 0
    assert read(cli("release", "--all", "--restore", "--dry-run", "--json"))["restore"] == ["alpha", "beta"]
    assert cli("release", "al", "--restore").code == 0
    assert (sim.state("alpha"), sim.state("beta")) == ("loaded", "unloaded")

    ended = read(cli("release", "--all", "--restore", "--json"))

    assert [row["id"] for row in ended["models"]] == ["alpha", "beta"]
    assert (sim.state("alpha"), sim.state("beta"), sim.state("gamma")) == ("loaded", "loaded", "unloaded")
    assert "Nothing to release" in cli("release", "--all").err


def test_run(sim: Simulation, spawn: Spawn, cli: Cli, tmp_path: Path) -> None:
    """run at a gateway: clients are kept out at the door, nothing is loaded for them, and what is pinned stays."""
    assert cli("pin", "beta").code == 0
    before = {name: sim.spawn_count(name) for name in ("alpha", "beta", "gamma")}
    process = spawn("run", "--all", "--", "sh", "-c", f"echo x > {tmp_path}/ready; read line", stdin=-1)
    sim.wait_until((tmp_path / "ready").exists)
    assert (sim.state("alpha"), sim.state("beta")) == ("unloaded", "loaded"), "what is pinned stays"
    held = read(cli("holds", "--json"))["holds"]
    assert [(one["enforced"], one["models"]) for one in held] == [(True, None)]
    for name in ("alpha", "gamma"):
        refused = cli("load", name)
        assert (refused.code, "is held by" in refused.out) == (8, True)
    assert {name: sim.spawn_count(name) for name in before} == before
    process.communicate("\n", timeout=20)

    assert process.returncode == 0
    assert (sim.state("alpha"), sim.state("gamma")) == ("loaded", "unloaded")
    assert read(cli("holds", "--json"))["holds"] == []


def test_run_beside_another_ledger(sim: Simulation, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """run at a gateway that would not know of its hold touches nothing, and says where to ask."""
    monkeypatch.setenv("CORRAL_TOKEN_FILE", str(tmp_path / "state" / "token"))
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "other"))
    refused = cli("run", "alpha", "--", "true")

    assert (refused.code, sim.state("alpha")) == (125, "loaded")
    assert "another ledger" in refused.err and f"--url {sim.url}" in refused.err


def test_without_the_routers_key(spawn: Spawn, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the gateway lacks the router's key, nobody is told that theirs is wrong; what any client may goes on."""
    monkeypatch.setenv("CORRAL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CORRAL_API_KEY", "secret")
    with simulate(models=SPECS, api_keys=("secret",)) as sim, serving(spawn, sim.url) as url:
        monkeypatch.setenv("CORRAL_URL", url)
        seen, refused = cli("ps"), cli("hold", "--all", "--for", "5m")

        assert (seen.code, "alpha" in seen.out) == (0, True)
        assert (refused.code, sim.state("alpha")) == (9, "loaded")
        assert all("does not have the router's key" in result.err for result in (seen, refused))
        assert cli("load", "gamma").code == 0

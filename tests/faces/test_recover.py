"""``corral recover``: whatever step a run was killed at, its set comes back, its hold ends, and one acts only once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from corral.client import identify
from corral.ledger import Ledger, has_open_leases, read_moment
from corral.machine import read_process
from corral.ops.measurement import Process
from corral.ops.promises import RUNNING, SAVED, STEPS, Actor, Lease, Moment, Owner
from corral.sim import simulate
from corral.sim.config import ModelSpec
from corral.sim.control import Simulation

if TYPE_CHECKING:
    from tests.faces.kit import Result

    Cli = Callable[..., Result]
    Spawn = Callable[..., subprocess.Popen[str]]
    Finish = Callable[[subprocess.Popen[str]], Result]

ROOT = Path(__file__).resolve().parent.parent.parent
STEPS_OF_A_RUN = 40
"""At so many points the run below is killed; ``test_steps_are_walked`` keeps the number true."""


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """A router with two residents, a and b, and a model c that is not."""
    models = (ModelSpec("a", status="loaded", stop_timeout_s=1), ModelSpec("b", status="loaded", stop_timeout_s=1), "c")
    with simulate(models=models) as running:
        monkeypatch.setenv("CORRAL_URL", running.url)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """Where the commands keep their ledger."""
    return str(tmp_path / ".local" / "state" / "corral")


def run_killed(step: int, *words: str) -> tuple[int, str]:
    """A command that is killed at a step; returns its exit code and what it said."""
    environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
    program = [sys.executable, "-m", "tests.faces.killed", str(step), *words]
    done = subprocess.run(program, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=30)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def left(folder: str) -> list[Lease]:
    """The leases that are not over."""
    with Ledger.look(folder) as ledger:
        return ledger.leases.list_open()


def test_steps_are_walked(sim: Simulation, tmp_path: Path) -> None:
    """An undisturbed run has as many steps as are tried below."""
    code, said = run_killed(-1, "run", "--", "touch", str(tmp_path / "ran"))
    assert (0, STEPS_OF_A_RUN) == (code, int(said.rpartition("steps: ")[2]))


@pytest.mark.parametrize("step", range(STEPS_OF_A_RUN))
def test_killed_at_every_step(cli: Cli, sim: Simulation, folder: str, tmp_path: Path, step: int) -> None:
    """Killed with SIGKILL at any step, the next command says so, recover brings the set back, and no hold is left."""
    mark = tmp_path / "ran"
    assert -signal.SIGKILL == run_killed(step, "run", "--", "touch", str(mark))[0]
    leases = left(folder)
    notice = cli("ls").err
    result = cli("recover")

    assert bool(leases) == ("'corral recover r1' puts back" in notice), notice
    assert 0 == result.code, result
    assert ["loaded", "loaded", "unloaded"] == [sim.state(name) for name in "abc"]
    assert [] == left(folder) and not has_open_leases(folder)
    with Ledger.look(folder) as ledger:
        assert [] == ledger.holds.list_in_force(read_moment())
    assert "recover" not in cli("ls").err
    if leases and leases[0].step not in STEPS[STEPS.index(RUNNING) :]:
        assert not mark.exists(), "the command runs only after it was written down"


def test_killed_while_the_command_runs(spawn: Spawn, cli: Cli, sim: Simulation, folder: str, tmp_path: Path) -> None:
    """While the command lives nothing is put back, and its pid is told; --force does it all the same."""
    process = spawn("run", "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60")
    pid = int(wait_for(tmp_path / "pid"))
    process.kill()
    process.wait(20)
    try:
        notice, refused, planned = cli("ls").err, cli("recover"), cli("recover", "-n")
        document = json.loads(cli("recover", "r1", "--json").out)
        assert ["unloaded", "unloaded"] == [sim.state(name) for name in "ab"]
        forced = cli("recover", "--force")
    finally:
        os.kill(pid, signal.SIGKILL)

    assert f"its command goes on (pid {pid})" in notice
    assert (8, 8) == (refused.code, planned.code) and f"its command still runs (pid {pid})" in refused.err
    assert ("command_lives", "refused", pid) == (
        *(document["leases"][0][key] for key in ("verdict", "outcome", "command_pid")),
    )
    assert 0 == forced.code and ["loaded", "loaded"] == [sim.state(name) for name in "ab"]
    assert [] == left(folder)


def test_when_the_command_has_ended(spawn: Spawn, cli: Cli, sim: Simulation, folder: str, tmp_path: Path) -> None:
    """When the command has ended as well, the set comes back without --force."""
    process = spawn("run", "--", "sh", "-c", f"echo $$ > {tmp_path}/pid; read line", stdin=-1)
    pid = int(wait_for(tmp_path / "pid"))
    process.kill()
    process.communicate(timeout=20)
    deadline = time.monotonic() + 20
    while read_process(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)

    assert 0 == cli("recover").code and ["loaded", "loaded"] == [sim.state(name) for name in "ab"]


def wait_for(path: Path) -> str:
    """The text of a file, as soon as there is any."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.005)
    raise AssertionError(f"{path} never came")


def begin(ledger: Ledger, url: str, *, corral_actor: Actor, step: str = RUNNING, now: Moment | None = None) -> Lease:
    """A lease on a and b of some process, with its hold."""
    moment = now or read_moment()
    owner = Owner("ann", moment.host)
    lease = ledger.leases.begin(identify(url), ("b", "a"), owner=owner, corral=corral_actor, now=moment)
    if step != SAVED:
        hold = ledger.holds.add(identify(url), None, owner=owner, duration_s=600.0, now=moment)
        ledger.leases.advance(lease.id, step, hold=hold.id, unloaded=("a", "b"))
    return ledger.leases.list_open()[-1]


def gone() -> Actor:
    """A process that is no more."""
    return Actor(Process(2**22 - 7, 1), read_moment().boot_id)


def test_two_at_once(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, folder: str) -> None:
    """Of two recoveries one acts: each model is loaded once."""
    for name in "ab":
        sim.unload(name)
        sim.wait_for(name, "unloaded")
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=gone())
    before = len(sim.requests("POST", "/models/load"))
    results = [finish(process) for process in [spawn("recover", "-q"), spawn("recover", "-q")]]

    assert [0, 0] == [result.code for result in results], results
    assert ["loaded", "loaded"] == [sim.state(name) for name in "ab"]
    assert 2 == len(sim.requests("POST", "/models/load")) - before
    assert [] == left(folder)


@pytest.mark.parametrize("step", range(0, 14, 2))
def test_recover_killed_in_turn(cli: Cli, sim: Simulation, folder: str, step: int) -> None:
    """A recovery that is killed as well is taken up by the next one."""
    for name in "ab":
        sim.unload(name)
        sim.wait_for(name, "unloaded")
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=gone())
    assert -signal.SIGKILL == run_killed(step, "recover")[0]

    assert 0 == cli("recover").code and ["loaded", "loaded"] == [sim.state(name) for name in "ab"]
    assert [] == left(folder) and "No holds" in cli("holds").err


def test_nothing_to_put_back(cli: Cli, sim: Simulation, folder: str) -> None:
    """A run with --no-restore that was killed owes nothing but the end of its hold, and that is what is said."""
    sim.unload("a")
    sim.wait_for("a", "unloaded")
    with Ledger.open(folder) as ledger:
        owner, now = Owner("ann", read_moment().host), read_moment()
        ledger.leases.begin(identify(sim.url), ("a",), owner=owner, corral=gone(), now=now, restores=False)
    before = len(sim.requests("POST"))

    assert "'corral recover r1' ends its hold." in cli("ls").err
    assert 0 == cli("recover").code and before == len(sim.requests("POST")) and [] == left(folder)


def test_what_is_left_alone(cli: Cli, sim: Simulation, folder: str) -> None:
    """A run that is at work, and one on another machine, are not touched; named, that is exit 8."""
    process = read_process(os.getppid())
    assert process is not None
    now = read_moment()
    elsewhere = Moment(now.wall, 5.0, "another-boot", "another-box")
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=Actor(process, now.boot_id))
        begin(ledger, sim.url, corral_actor=Actor(Process(1, 1), "another-boot"), now=elsewhere)
    both, named, far = cli("recover"), cli("recover", "r1"), cli("recover", "r2", "--force")

    assert (0, [8, 8]) == (both.code, [named.code, far.code])
    assert "at work" in both.err and "r2 was left alone: it was taken on another-box" in both.err
    assert "at work" in named.err and "Say it there." in far.err
    assert "recover" not in cli("ls").err and 2 == len(left(folder))
    assert ["leave", "leave"] == [line.split()[1] for line in cli("recover", "-n").out.splitlines()[1:]]


def test_each_on_its_own_router(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, folder: str) -> None:
    """Without --url leases of all routers are recovered, each on its own; where one is away, its lease stays."""
    sim.unload("a")
    sim.wait_for("a", "unloaded")
    with simulate(models=(ModelSpec("a"), ModelSpec("b"))) as other, Ledger.open(folder) as ledger:
        begin(ledger, other.url, corral_actor=gone())
        begin(ledger, sim.url, corral_actor=gone())
        begin(ledger, "http://127.0.0.1:1", corral_actor=gone())
        notice = cli("ls").err
        only = json.loads(cli("recover", "--url", sim.url, "--json").out)
        rest = finish(spawn("recover"))
        assert ["loaded", "loaded"] == [other.state(name) for name in "ab"]

    assert "r1 (" in notice and "r2 (" in notice and "and 1 more" not in notice
    assert (0, ["r2"], "recovered") == (
        only["exit_code"],
        [lease["id"] for lease in only["leases"]],
        only["leases"][0]["outcome"],
    )
    assert "loaded" == sim.state("a") and 5 == rest.code and "r3 was not recovered" in rest.err
    assert ["r3"] == [lease.id for lease in left(folder)]
    assert 3 == cli("recover", "r3").code


def test_after_a_reboot(cli: Cli, sim: Simulation, folder: str) -> None:
    """A lease from before this boot is left behind, whatever process has its number now."""
    now = read_moment()
    before = Moment(now.wall - 60, 5.0, "an-earlier-boot", now.host)
    process = read_process()
    assert process is not None
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=Actor(process, "an-earlier-boot"), now=before)

    assert "corral recover r1" in cli("ls").err
    assert 0 == cli("recover").code and [] == left(folder)


def test_a_stop_that_was_under_way(cli: Cli, sim: Simulation, folder: str) -> None:
    """A model that was asked to go before the crash, and has not gone yet, is waited for and then put back."""
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=gone(), step="draining")
    with sim.busy("a"):
        sim.unload("a")
        assert "loaded" == sim.state("a"), "its stop takes until the router kills it"
        first = sim.port_of("a")
        result = cli("recover")

    assert 0 == result.code and "loaded" == sim.state("a") and first != sim.port_of("a")


def test_not_all_can_come_back(cli: Cli, sim: Simulation, folder: str) -> None:
    """What the router does not have any more is reported, and the lease is over: a second try would change nothing."""
    sim.unload("a")
    sim.wait_for("a", "unloaded")
    sim.set_fault("vanishes", model="a")
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=gone())
    result = cli("recover", "--json")
    document = json.loads(result.out)

    assert 5 == result.code and "not_all_recovered" == document["leases"][0]["outcome"]
    assert ["already_loaded", "vanished"] == [item["outcome"] for item in document["leases"][0]["models"]]
    assert [] == left(folder)


def test_mistakes(cli: Cli, sim: Simulation, folder: str) -> None:
    """An unknown lease is exit 1 and says which there are; a lease that is over is nothing to do."""
    with Ledger.open(folder) as ledger:
        begin(ledger, sim.url, corral_actor=gone(), step=SAVED)
    unknown = cli("recover", "r9")
    assert (1, "Open leases: r1.") == (unknown.code, unknown.err.splitlines()[-1])
    assert ["r1"] == cli("__complete", "leases").out.split()
    assert [0, 0] == [cli("recover", "r1").code for _ in range(2)]
    assert [] == sim.requests("POST")


def test_notice_costs_nothing_without_a_lease(cli: Cli, sim: Simulation, folder: str) -> None:
    """A command loads no database to find that nothing is owed; a mark without a lease is removed."""
    code = "import sys; from corral.faces.cli import main; main(['ls', '-q']); print('sqlite3' in sys.modules)"

    def look() -> str:
        environ = dict(os.environ) | {"PYTHONPATH": str(Path(corral.__file__).parent.parent)}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()[-1]

    assert "False" == look()
    with Ledger.open(folder) as ledger:
        ledger.leases.end(begin(ledger, sim.url, corral_actor=gone()).id, 1.0)
        ledger.holds.release("h1", read_moment())
    Path(folder, "leases.open").touch()
    cli("ls")
    assert not has_open_leases(folder)

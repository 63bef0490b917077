"""``corral run`` as a process, on a simulated router: what goes comes back, and the command is none the wiser."""

from __future__ import annotations

import json
import os
import pty
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
from corral.faces.cli.enforcer import begin
from corral.faces.cli.exits import CAME_BACK, DONE, INTERRUPTED, NEVER_RUN, STILL_BUSY
from corral.faces.cli.tenure import judge_drain
from corral.ledger import Ledger, read_moment
from corral.ops import Outcome, UnloadReport
from corral.ops.promises import Owner
from corral.sim import simulate
from corral.sim.config import ModelSpec
from corral.sim.control import Simulation
from corral.wire import CorralError

if TYPE_CHECKING:
    from tests.faces.kit import Result

    Cli = Callable[..., Result]
    Spawn = Callable[..., subprocess.Popen[str]]
    Finish = Callable[[subprocess.Popen[str]], Result]

SOURCE = str(Path(corral.__file__).parent.parent)
CORRAL = f"PYTHONPATH={SOURCE} {sys.executable} -m corral"
OBEYED_S = 1.0
"""A release is obeyed within this time: that is promised."""


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulation]:
    """A router with two residents, a and b, and two models that are not: c, and busy."""
    models = (ModelSpec("a", status="loaded"), ModelSpec("b", status="sleeping"), "c", "busy")
    with simulate(models=models, stop_timeout_s=1.0) as running:
        monkeypatch.setenv("CORRAL_URL", running.url)
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands keep their ledger."""
    return tmp_path / ".local" / "state" / "corral"


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where commands leave their marks."""
    made = tmp_path / "marks"
    made.mkdir()
    return made


def wait_for(path: Path) -> str:
    """The text of a file, as soon as there is any."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.005)
    raise AssertionError(f"{path} never came")


def states(sim: Simulation, names: str = "abc") -> list[str]:
    """What the models are now."""
    return [sim.state(name) for name in names]


def test_models_are_away_while_the_command_runs(spawn: Spawn, finish: Finish, sim: Simulation) -> None:
    """The command finds nothing resident and a hold in force; then all is back, and its code and output are its own."""
    look = f"{CORRAL} ps -q; {CORRAL} holds --json; echo done; exit 7"
    result = finish(spawn("run", "--reason", "a game", "--", "sh", "-c", look))

    holds, last = result.out.splitlines()
    assert (7, "done") == (result.code, last)
    held = json.loads(holds)["holds"][0]
    assert (None, [], True, "a game (r1)") == (held["models"], held["excepted"], held["enforced"], held["reason"])
    assert ["loaded", "loaded", "unloaded"] == states(sim)
    assert "Unloaded 2 models" in result.err and "Restored 2 models" in result.err


def test_afterwards_nothing_is_owed(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, folder: Path) -> None:
    """After a run no hold and no lease is left, the log tells what was done, and no command says a word of it."""
    assert 0 == finish(spawn("run", "--all", "--", "true")).code
    with Ledger.look(str(folder)) as ledger:
        assert [] == ledger.holds.list_in_force(read_moment()) == ledger.leases.list_open()
    entries = json.loads(cli("log", "--json").out)["entries"]
    assert {"run"} == {entry["command"] for entry in entries}
    assert [
        ("a", "unloaded"),
        ("b", "unloaded"),
        ("r1", "started"),
        ("r1", "ended"),
        ("a", "loaded"),
        ("b", "loaded"),
    ] == [(entry["name"], entry["outcome"]) for entry in entries]
    assert "true" == entries[2]["reason"] and entries[3]["reason"].startswith("exit 0 after ")
    assert "corral recover" not in cli("ls").err
    assert "Nothing to recover." in cli("recover").err


@pytest.mark.parametrize(
    ("words", "gone", "held"),
    [
        (["a"], ["unloaded", "sleeping"], ["a"]),
        (["--except", "b"], ["unloaded", "sleeping"], None),
        (["--all", "--no-restore"], ["unloaded", "unloaded"], None),
    ],
)
def test_what_is_taken(
    spawn: Spawn, finish: Finish, sim: Simulation, words: list[str], gone: list[str], held: list[str] | None
) -> None:
    """Names and exceptions say what goes and what is held; the rest is not touched."""
    look = f"{CORRAL} holds --json"
    before = sim.spawn_count("b")
    process = spawn("run", *words, "--", "sh", "-c", f"{look}; read line", stdin=-1)
    assert process.stdout is not None and process.stdin is not None
    found = json.loads(process.stdout.readline())["holds"][0]
    assert gone == states(sim, "ab")
    process.stdin.write("go\n")
    result = finish(process)

    assert 0 == result.code and held == found["models"]
    assert (["b"] if "--except" in words else []) == found["excepted"]
    if "--no-restore" in words:
        assert gone == states(sim, "ab") and "Left unloaded: a, b." in result.err
    else:
        assert ["loaded", "sleeping"] == states(sim, "ab") and before == sim.spawn_count("b")


def test_pinned_models_stay(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation) -> None:
    """Without its name a pinned model stays, is not held, and that is said; --include-pinned takes it."""
    cli("pin", "b")
    result = finish(spawn("run", "--", "sh", "-c", f"{CORRAL} ps -q"))
    assert (0, "b\n") == result[:2] and "because pinned: b." in result.err
    assert (0, "") == finish(spawn("run", "--include-pinned", "--", "sh", "-c", f"{CORRAL} ps -q"))[:2]


# The command: whether it is there, its streams, signals and codes.


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "no-such-program"], 127, "There is no program no-such-program."),
        (["--", "./no/such"], 127, "There is no program ./no/such."),
        (["--", "/"], 126, "no program that may be run"),
        (["--", "/etc/passwd"], 126, "no program that may be run"),
        ([], 125, "no command was given"),
        (["--"], 125, "no command was given"),
        (["--", ""], 125, "the command is empty"),
        (["--for", "999d", "--", "true"], 125, "--for: 999d is too long"),
        (["a", "true"], 125, "no command was given"),
        (["a", "--all", "--", "true"], 125, "do not go together"),
        (["--free", "lots", "--", "true"], 125, "--free"),
        (["--device", "0", "--", "true"], 125, "--device"),
        (["nobody", "--", "true"], 125, "Unknown model: nobody."),
        (["--url", "http://127.0.0.1:1", "--", "true"], 125, "127.0.0.1:1"),
    ],
)
def test_failures_before_anything_is_touched(
    cli: Cli, sim: Simulation, folder: Path, words: list[str], code: int, said: str
) -> None:
    """A command that cannot be run, or words that cannot be meant, touch no model and write nothing down."""
    result = cli("run", *words)

    assert (code, "") == result[:2]
    assert said in result.err.splitlines()[0] and 2 == len(result.err.splitlines())
    assert [] == sim.requests("POST") and not folder.exists()


def test_dry_run(cli: Cli, sim: Simulation, folder: Path) -> None:
    """--dry-run shows what would go and come back, runs nothing, and writes nothing."""
    cli("pin", "a")
    shown, document = cli("run", "-n", "--", "false"), json.loads(cli("run", "-n", "--json", "b", "--", "false").out)

    assert [["b", "unload,"], ["a", "leave"]] == [line.split()[:2] for line in shown.out.splitlines()[1:]]
    assert (0, True) == (shown.code, "not run" in shown.err)
    assert ([{"id": "b", "action": "unload, restore", "reason": "it is resident"}], ["b"]) == (
        document["models"],
        document["held"],
    )
    assert [] == sim.requests("POST")


def test_json_leaves_stdout_to_the_command(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation) -> None:
    """With --json the document is the last line of stderr; where the command was not started it is on stdout."""
    result = finish(spawn("run", "--json", "a", "--", "sh", "-c", "echo mine; exit 3"))
    document = json.loads(result.err.splitlines()[-1])
    assert (3, "mine\n") == result[:2]
    assert (3, "r1", "h1", True, False) == (
        *(document[key] for key in ("exit_code", "lease", "hold", "started", "owed")),
    )
    assert ["unloaded"] == [item["outcome"] for item in document["models"]]
    assert ["loaded"] == [item["outcome"] for item in document["restored"]]
    missing = cli("run", "--json", "--", "no-such-program")
    assert (127, 127) == (missing.code, json.loads(missing.out)["exit_code"])


def test_a_script_without_interpreter_runs_in_the_shell(
    spawn: Spawn, finish: Finish, sim: Simulation, marks: Path
) -> None:
    """As shells do it, a file that may be run and names no interpreter is the shell's; arguments are as they are."""
    script = marks / "my script"
    script.write_text('printf "%s|" "$0" "$@"; cat')
    script.chmod(0o755)
    process = spawn("run", "a", "--", str(script), "--json", "--", "ü \n", stdin=-1)
    out, _ = process.communicate("typed", timeout=20)

    assert (0, f"{script}|--json|--|ü \n|typed") == (process.returncode, out)


def test_surroundings_are_as_they_were(spawn: Spawn, finish: Finish, sim: Simulation) -> None:
    """The command has no file, no signal and no variable that Corral opened, changed or set."""
    look = (
        "import os, signal; print(sorted(os.listdir('/proc/self/fd'))[:3], "
        "signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN, signal.pthread_sigmask(signal.SIG_BLOCK, []), "
        "len(os.listdir('/proc/self/fd')), [n for n in os.environ if n.startswith('CORRAL')])"
    )
    plain = finish(spawn("run", "a", "--", sys.executable, "-c", look))

    assert "['0', '1', '2'] True set() 4 ['CORRAL_URL']\n" == plain.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_a_signal_ended(spawn: Spawn, finish: Finish, sim: Simulation, number: int, code: int) -> None:
    """Ended by signal N, the command's code is 128 and N, and its models are back."""
    result = finish(spawn("run", "a", "--", "sh", "-c", f"kill -{number} $$"))

    assert code == result.code and "loaded" == sim.state("a") and "Traceback" not in result.err


def test_started_by_a_program_that_ignores_its_children(sim: Simulation) -> None:
    """The command's code is known though the end of children was being ignored when corral was started."""
    start = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    words = [sys.executable, "-c", start, sys.executable, "-m", "corral", "run", "a", "--"]
    environ = dict(os.environ) | {"PYTHONPATH": SOURCE}
    done = subprocess.run([*words, "sh", "-c", "exit 7"], env=environ, check=False, timeout=30)

    assert 7 == done.returncode and "loaded" == sim.state("a")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_command(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path, number: int) -> None:
    """A signal that another process sends to corral is the command's to answer, once, and its code stands."""
    script = f"trap 'echo got; exit 9' {number}; echo ready > {marks}/ready; while :; do sleep 0.01; done"
    process = spawn("run", "a", "--", "sh", "-c", script)
    wait_for(marks / "ready")
    process.send_signal(number)
    result = finish(process)

    assert (9, "got\n") == result[:2] and "loaded" == sim.state("a")


def read_states(*pids: int) -> set[str]:
    """What the system says of processes: T is stopped."""
    return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in pids}


def test_stop_and_continue(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """Stopped as by Ctrl-Z and woken again, corral and its command stop and go on together."""
    words = ("run", "a", "--", "sh", "-c", f"echo $$ > {marks}/pid; read line; exit 4")
    # A job of its own, as a shell makes it.
    process = spawn(*words, stdin=-1, process_group=0)
    pid = int(wait_for(marks / "pid"))
    for number, wanted in ((signal.SIGTSTP, {"T"}), (signal.SIGCONT, {"S"})):
        process.send_signal(number)
        deadline = time.monotonic() + 20
        while read_states(process.pid, pid) != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert process.stdin is not None
    process.stdin.write("\n")

    assert 4 == finish(process).code and "loaded" == sim.state("a")


def test_ctrl_z_without_a_shell(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """Where no shell could wake them again, as with ssh -t, neither stops."""
    script = "trap 'echo x > got' USR1; echo x > ready; while [ ! -e go ]; do sleep 0.01; done; exit 4"
    process = spawn("run", "a", "--", "sh", "-c", script, cwd=marks, start_new_session=True)
    wait_for(marks / "ready")
    process.send_signal(signal.SIGTSTP)
    process.send_signal(signal.SIGUSR1)
    wait_for(marks / "got")
    (marks / "go").touch()

    assert 4 == finish(process).code and "loaded" == sim.state("a")


def test_ctrl_c_at_a_terminal_reaches_the_command_once(sim: Simulation, marks: Path) -> None:
    """Of a terminal's Ctrl-C the command hears once; corral lives on and puts the models back."""
    ours, theirs = pty.openpty()
    # SIGUSR1 by way of corral: whatever would have come a second time has come before it.
    script = """if True:
        import os, signal, sys, time
        interrupts, answers, end = [], [], time.monotonic() + 20
        signal.signal(signal.SIGINT, lambda *_: interrupts.append(1))
        signal.signal(signal.SIGUSR1, lambda *_: answers.append(1))
        open(sys.argv[1], "w").write("x")
        while not interrupts and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getppid(), signal.SIGUSR1)
        while not answers and time.monotonic() < end:
            time.sleep(0.01)
        sys.exit(40 + len(interrupts))
    """
    # The first of a new session that opens a terminal has it for its own.
    words = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs), sys.executable, "-m", "corral"]
    words += ["run", "a", "--", sys.executable, "-c", script, str(marks / "ready")]
    process = subprocess.Popen(words, env=dict(os.environ) | {"PYTHONPATH": SOURCE}, start_new_session=True)
    wait_for(marks / "ready")
    os.write(ours, b"\x03")
    said = b""
    os.close(theirs)
    while chunk := _read(ours):
        said += chunk
    os.close(ours)

    assert 41 == process.wait(20), said
    assert "loaded" == sim.state("a") and b"Traceback" not in said


def test_a_terminal_that_is_closed(sim: Simulation, marks: Path) -> None:
    """The command hears that its terminal is gone where corral is the first process there, as with ssh -t."""
    ours, theirs = pty.openpty()
    script = f"trap 'echo x >{marks}/hup; exit 43' HUP; echo x >{marks}/ready; for i in $(seq 300); do sleep 0.05; done"
    words = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(theirs), sys.executable, "-m", "corral"]
    words += ["run", "a", "--", "sh", "-c", script]
    process = subprocess.Popen(words, env=dict(os.environ) | {"PYTHONPATH": SOURCE}, start_new_session=True)
    wait_for(marks / "ready")
    os.close(theirs)
    os.close(ours)

    assert 43 == process.wait(20) and (marks / "hup").exists()
    assert "loaded" == sim.state("a")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:
        # On Linux the end of the last process at a terminal is an error.
        return b""


# While the command runs.


def test_what_does_not_come_back_is_named(
    spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, folder: Path
) -> None:
    """A model that fails to load again stops no other; it is told, quiet or not, with the command that loads it."""
    sim.set_fault("load-fails", model="a")
    result = finish(spawn("run", "-q", "--", "true"))

    assert (0, "") == result[:2]
    assert "corral: a: " in result.err and "'corral load a' does" in result.err
    assert ("unloaded", "loaded") == (sim.state("a"), sim.state("b"))
    assert not (folder / "leases.open").exists() and "Nothing to recover" in cli("recover").err


def test_clients_do_not_bring_models_back(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """What a client loads meanwhile is unloaded again, whether it was resident before or not, and that is said."""
    process = spawn("run", "--", "sh", "-c", f"echo x > {marks}/ready; read line", stdin=-1)
    wait_for(marks / "ready")
    for name in ("a", "c"):
        sim.load(name)
    for name in ("a", "c"):
        sim.wait_for(name, "unloaded")
    assert process.stdin is not None
    process.stdin.write("\n")
    result = finish(process)

    assert (0, ["loaded", "loaded", "unloaded"]) == (result.code, states(sim))
    assert "loaded what was held, and it was unloaded again: a (1), c (1)." in result.err


def test_what_an_older_hold_keeps_away_is_left_to_it(
    spawn: Spawn, finish: Finish, sim: Simulation, marks: Path
) -> None:
    """What comes up of an older hold is not unloaded by the run as well, not even in its command's first moment."""
    older = begin(sim.url, None, (), 600.0, "")
    try:
        process = spawn("run", "--", "sh", "-c", f"echo x > {marks}/ready; read line", stdin=-1)
        wait_for(marks / "ready")
        sim.load("c")
        time.sleep(OBEYED_S)
        assert process.stdin is not None
        process.stdin.write("\n")
        result = finish(process)
    finally:
        older.close()

    assert 0 == result.code and "loaded" == sim.state("c"), result.err
    assert b'"c"' not in b"".join(asked.body for asked in sim.requests("POST", "/models/unload"))


def test_a_stop_under_way_when_the_command_ends(
    spawn: Spawn, finish: Finish, monkeypatch: pytest.MonkeyPatch, marks: Path
) -> None:
    """A model that is just being sent away again when the command ends is waited for, and then put back."""
    with simulate(models=(ModelSpec("a", status="loaded", exit_s=0.8),)) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        process = spawn("run", "--", "sh", "-c", f"echo x > {marks}/ready; read line", stdin=-1)
        wait_for(marks / "ready")
        before = len(sim.requests("POST", "/models/unload"))
        sim.load("a")
        port = sim.port_of("a")
        sim.wait_until(lambda: len(sim.requests("POST", "/models/unload")) > before)
        assert process.stdin is not None
        process.stdin.write("\n")
        result = finish(process)

        assert 0 == result.code and "loaded" == sim.state("a"), result.err
        assert port != sim.port_of("a")


def test_release_is_obeyed_meanwhile(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, marks: Path) -> None:
    """Within a second of its release from the run's hold a model may come up; so may all when the hold is released."""
    process = spawn("run", "--", "sh", "-c", f"echo x > {marks}/ready; read line", stdin=-1)
    wait_for(marks / "ready")
    for released, model in (("c", "c"), ("h1", "busy")):
        assert 0 == cli("release", released).code
        time.sleep(OBEYED_S)
        sim.load(model)
    assert process.stdin is not None
    process.stdin.write("\n")
    result = finish(process)

    assert 0 == result.code and ["loaded", "loaded", "loaded"] == states(sim)
    assert "unloaded again" not in result.err and "loaded" == sim.state("busy")


def test_a_hold_ends_at_its_expiry(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, marks: Path) -> None:
    """After the time that --for gives models may come up again, though the command goes on."""
    process = spawn("run", "--for", "1s", "--", "sh", "-c", f"echo x > {marks}/ready; read line", stdin=-1)
    wait_for(marks / "ready")
    deadline = time.monotonic() + 20
    while cli("holds", "-q").out and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(OBEYED_S)
    sim.load("c")
    assert process.stdin is not None
    process.stdin.write("\n")
    result = finish(process)

    assert 0 == result.code and ["loaded", "loaded", "loaded"] == states(sim)
    assert "unloaded again" not in result.err


# When it does not come to the command.


def test_busy_models(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """If a model stays busy the command is not started, what went is back, and the code is 6."""
    sim.load("busy")
    sim.wait_for("busy", "loaded")
    with sim.busy("busy"):
        result = finish(spawn("run", "--grace", "1500ms", "--", "touch", str(marks / "ran")))

    assert 6 == result.code and not (marks / "ran").exists()
    assert 1 == result.err.count("Waiting for busy"), "once, however often it is looked at"
    assert ["loaded", "loaded", "unloaded", "loaded"] == [*states(sim), sim.state("busy")]
    assert "The command was not started." in result.err and "--force" in result.err


def test_force(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """With --force what is busy is cut after the grace, and the command runs."""
    sim.load("busy")
    sim.wait_for("busy", "loaded")
    with sim.busy("busy"):
        result = finish(spawn("run", "--grace", "100ms", "--force", "--", "touch", str(marks / "ran")))

    assert 0 == result.code and (marks / "ran").exists() and "loaded" == sim.state("busy")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_while_it_waits(
    spawn: Spawn, finish: Finish, sim: Simulation, folder: Path, number: int, code: int
) -> None:
    """Interrupted before the command, it puts back what went, ends its hold, and owes nothing."""
    sim.load("busy")
    sim.wait_for("busy", "loaded")
    with sim.busy("busy"):
        process = spawn("run", "--", "false")
        sim.wait_for("a", "unloaded")
        sim.wait_for("b", "unloaded")
        process.send_signal(number)
        result = finish(process)

    assert code == result.code and "Interrupted" in result.err
    assert ["loaded", "loaded"] == states(sim, "ab")
    with Ledger.look(str(folder)) as ledger:
        assert [] == ledger.holds.list_in_force(read_moment()) == ledger.leases.list_open()


def test_a_router_that_goes_away(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation, marks: Path) -> None:
    """If the router is gone when the command ends, its code stands, and it is said who puts the models back."""
    process = spawn("run", "--", "sh", "-c", f"echo x > {marks}/ready; read line; exit 5", stdin=-1)
    wait_for(marks / "ready")
    sim.set_fault("status", code=503)
    assert process.stdin is not None
    process.stdin.write("\n")
    result = finish(process)
    sim.clear_faults()

    assert 5 == result.code and "'corral recover r1' puts back" in result.err
    assert "corral recover r1" in cli("ls").err
    assert 0 == cli("recover").code and ["loaded", "loaded"] == states(sim, "ab")


@pytest.mark.parametrize("place", ["/dev/null/state", "/proc/state"])
def test_no_lease_no_run(
    spawn: Spawn, finish: Finish, sim: Simulation, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Where the lease cannot be written down nothing is touched: a crash would leave the models unloaded for good."""
    monkeypatch.setenv("CORRAL_STATE_DIR", place)
    result = finish(spawn("run", "--no-restore", "--", "true"))

    assert (125, "") == result[:2] and "CORRAL_STATE_DIR" in result.err
    assert [] == sim.requests("POST")


@pytest.mark.parametrize("loss", ["rm -r {0}", "rm -r {0}; touch {0}", "mv {0} {0}-elsewhere"])
def test_a_ledger_that_is_lost_meanwhile(
    spawn: Spawn, finish: Finish, sim: Simulation, folder: Path, loss: str
) -> None:
    """If the ledger goes away while the command runs, the models come back all the same."""
    # Long enough that corral looks at the ledger meanwhile.
    result = finish(spawn("run", "--", "sh", "-c", f"{loss.format(folder)}; sleep 0.5; exit 8"))

    assert 8 == result.code and ["loaded", "loaded"] == states(sim, "ab"), result.err
    assert "Traceback" not in result.err


def test_a_disk_that_fills_meanwhile(spawn: Spawn, finish: Finish, cli: Cli, sim: Simulation) -> None:
    """If nothing can be written when the command ends, the models come back all the same, and recover ends the rest."""
    fill = "import os, resource as r; r.prlimit(os.getppid(), r.RLIMIT_FSIZE, (0, r.RLIM_INFINITY))"
    result = finish(spawn("run", "--", sys.executable, "-c", fill))

    assert 0 == result.code and ["loaded", "loaded"] == states(sim, "ab"), result.err
    assert "disk" in result.err and "'corral recover r1'" in result.err
    assert "corral recover r1" in cli("ls").err
    before = sim.requests("POST")
    assert (0, before) == (cli("recover", "r1").code, sim.requests("POST"))
    assert "" == cli("ls").err and "No holds" in cli("holds").err


# Several at once.


def test_two_at_once(spawn: Spawn, finish: Finish, sim: Simulation, folder: Path) -> None:
    """Two runs at once both end, and what was resident is resident after the last: none loses the other's set."""
    first, second = spawn("run", "--", "sleep", "0.3"), spawn("run", "--", "sleep", "0.6")
    results = [finish(first), finish(second)]

    assert [0, 0] == [result.code for result in results], results
    assert ["loaded", "loaded", "unloaded"] == states(sim), results
    with Ledger.look(str(folder)) as ledger:
        assert [] == ledger.holds.list_in_force(read_moment()) == ledger.leases.list_open()


def test_one_within_the_other(spawn: Spawn, finish: Finish, sim: Simulation, marks: Path) -> None:
    """A run that ends while another still needs the memory leaves its set to that one, which puts it back."""
    outer = spawn("run", "--", "sh", "-c", f"echo x > {marks}/outer; read line", stdin=-1)
    wait_for(marks / "outer")
    inner = spawn("run", "--", "sh", "-c", f"echo x > {marks}/inner; read line", stdin=-1)
    wait_for(marks / "inner")
    assert outer.stdin is not None and inner.stdin is not None
    outer.stdin.write("\n")
    result = finish(outer)
    assert ["unloaded", "unloaded"] == states(sim, "ab") and 0 == result.code
    assert "is held by another run, which puts it back in the end (r2)" in result.err
    inner.stdin.write("\n")

    assert 0 == finish(inner).code and ["loaded", "loaded"] == states(sim, "ab")


def test_one_begins_while_the_other_puts_back(spawn: Spawn, finish: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one run has not put back yet when another begins comes back when that one ends."""
    models = (ModelSpec("a", status="loaded", load_s=1.0), ModelSpec("b", status="loaded"))
    with simulate(models=models) as sim:
        monkeypatch.setenv("CORRAL_URL", sim.url)
        first = spawn("run", "--", "true")
        sim.wait_for("a", "unloaded")
        sim.wait_for("a", "loading")
        results = [finish(process) for process in (spawn("run", "--", "true"), first)]

        assert [0, 0] == [result.code for result in results], results
        assert ["loaded", "loaded"] == states(sim, "ab"), results


def test_somebody_elses_hold(spawn: Spawn, finish: Finish, sim: Simulation, folder: Path) -> None:
    """What somebody else holds when the command ends is left away, and reported."""
    with Ledger.open(str(folder)) as ledger:
        key = identify(sim.url)
        ledger.holds.add(key, ("a",), owner=Owner("ann", "box"), duration_s=600, now=read_moment(), reason="a game")
        result = finish(spawn("run", "--", "true"))

    assert 0 == result.code and ["unloaded", "loaded"] == states(sim, "ab")
    assert "held by ann@box (h1): a game" in result.err


# The rule.


def outcome(name: str) -> Outcome:
    """An outcome of some model."""
    return Outcome("m", name, None)


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ([], DONE),
        (["unloaded", "already_unloaded"], DONE),
        (["unloaded", "still_busy"], STILL_BUSY),
        (["work_unseen"], STILL_BUSY),
        (["still_busy", "came_back"], STILL_BUSY),
        (["unloaded", "came_back"], CAME_BACK),
        (["not_seen_free"], CAME_BACK),
        (["refused"], NEVER_RUN),
        (["vanished", "unloaded"], NEVER_RUN),
    ],
)
def test_when_the_command_may_start(names: list[str], code: int) -> None:
    """Only when all was seen to be free; else the code says what stands in the way."""
    assert code == judge_drain(UnloadReport(tuple(map(outcome, names)), 1.0))


def test_when_it_was_cut_short() -> None:
    """An interruption, or a router that went away, never starts the command."""
    assert INTERRUPTED == judge_drain(UnloadReport((outcome("unloaded"),), 1.0, True))
    assert NEVER_RUN == judge_drain(UnloadReport((outcome("unloaded"),), 1.0, False, CorralError("gone")))

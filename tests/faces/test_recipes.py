"""The recipes in contrib and docs/recipes.md: the very lines of the files are run, on a simulated router."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest

from corral.client import Router
from corral.gateway.settings import Limits
from corral.sim import ModelSpec, SimConfig, Simulation, simulate
from tests.faces.conftest import SOURCE
from tests.faces.kit import Result

ROOT = Path(__file__).resolve().parents[2]
SYSTEMD = ROOT / "contrib" / "systemd"
UNITS = sorted(SYSTEMD.iterdir())
MODELS = ("embedder", "llama-3.2-3b", 'my "odd" model/v1', "qwen3-8b")
RESIDENT = ("llama-3.2-3b", 'my "odd" model/v1', "embedder")
Run = Callable[..., Result]


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Simulation]:
    """A router that the user's configuration leads to: three of four models are resident."""
    specs = tuple(ModelSpec(name, status="loaded" if name in RESIDENT else "unloaded") for name in MODELS)
    with simulate(SimConfig(models=specs)) as simulation:
        folder = tmp_path / ".config" / "corral"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(f'url = "{simulation.url}"\n', encoding="utf-8")
        yield simulation


@pytest.fixture
def run_shell(tmp_path: Path) -> Run:
    """Runs a line in a shell, with the little that cron gives it, and a ``corral`` and an ``ssh`` of its own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tools = {
        "corral": f'exec env PYTHONPATH={shlex.quote(SOURCE)} {shlex.quote(sys.executable)} -m corral "$@"',
        # What ssh does: the words after the host are one line for a shell, whose exit code is ssh's own.
        "ssh": 'test "$1" = gpu-box || exit 255; shift; exec /bin/sh -c "$*"',
    }
    for name, line in tools.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)

    def run(line: str) -> Result:
        environ = {"HOME": str(tmp_path), "PATH": f"{folder}:/usr/bin:/bin", "LOGNAME": "ann"}
        done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, env=environ, timeout=60)
        return Result(done.returncode, done.stdout, done.stderr)

    return run


def lead_nowhere(home: Path) -> None:
    """Let the user's configuration lead to where no router answers."""
    (home / ".config" / "corral" / "config.toml").write_text('url = "http://127.0.0.1:1"\n', encoding="utf-8")


def residents(router: Simulation) -> list[str]:
    """The ids of what is resident."""
    with Router(router.url) as client:
        return [model.id for model in client.residents()]


def read_unit(name: str) -> dict[str, dict[str, list[str]]]:
    """A unit file: sections, keys, and the values of each in order."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (SYSTEMD / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals, line
            found.setdefault(section, {}).setdefault(key, []).append(value)
    return found


def run_unit(name: str, run_shell: Run, key: str = "ExecStart") -> list[Result]:
    """Run a unit's commands one after another as systemd does: a failure ends them unless its line begins with -."""
    results = []
    for line in read_unit(name)["Service"][key]:
        command = line.removeprefix("-")
        assert command.startswith("/usr/local/bin/corral ")
        results.append(run_shell(command.removeprefix("/usr/local/bin/")))
        if results[-1].code and not line.startswith("-"):
            break
    return results


def find_blocks(heading: str) -> list[str]:
    """The shell blocks below a heading of the page."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def test_sleep_hook(router: Simulation, run_shell: Run) -> None:
    """Before the machine sleeps all is unloaded; after, exactly what was resident is back, and nothing else."""
    before = residents(router)
    started = run_unit("corral-sleep@.service", run_shell)
    asleep = residents(router)
    stopped = run_unit("corral-sleep@.service", run_shell, "ExecStop")

    assert [0, 0, 0] == [result.code for result in [*started, *stopped]], [*started, *stopped]
    assert (sorted(RESIDENT), [], sorted(RESIDENT)) == (sorted(before), asleep, sorted(residents(router)))


def test_sleep_hook_twice(router: Simulation, run_shell: Run) -> None:
    """A second sleep takes what is resident then, even nothing: what an earlier one saved does not come back."""
    run_unit("corral-sleep@.service", run_shell)
    started = run_unit("corral-sleep@.service", run_shell)
    stopped = run_unit("corral-sleep@.service", run_shell, "ExecStop")

    assert ([0, 0, 0], []) == ([result.code for result in [*started, *stopped]], residents(router))


def test_sleep_hook_leaves_what_is_pinned(router: Simulation, run_shell: Run) -> None:
    """What is pinned stays loaded over the sleep."""
    assert 0 == run_shell("corral pin embedder").code
    started = run_unit("corral-sleep@.service", run_shell)

    assert ([0, 0], ["embedder"]) == ([result.code for result in started], residents(router))


def test_sleep_hook_without_a_router(router: Simulation, run_shell: Run, tmp_path: Path) -> None:
    """Where no router answers, the hook fails at once, and so holds up nothing and puts nothing back later."""
    lead_nowhere(tmp_path)

    assert [3] == [result.code for result in run_unit("corral-sleep@.service", run_shell)]


def test_nightly_unload(router: Simulation, run_shell: Run) -> None:
    """The timer's service unloads all but what is pinned; where all is pinned, its exit code counts as success."""
    assert 0 == run_shell("corral pin embedder").code
    first, again = run_unit("corral-unload@.service", run_shell) + run_unit("corral-unload@.service", run_shell)

    assert (0, ["embedder"]) == (first.code, residents(router))
    assert str(again.code) in read_unit("corral-unload@.service")["Service"]["SuccessExitStatus"]
    assert not read_unit("corral-unload@.timer")["Timer"].get("Unit"), "by its name it starts the service"


def test_cron_line(router: Simulation, run_shell: Run) -> None:
    """The line of the crontab unloads all, and gives cron nothing to mail when all went well."""
    lines = (ROOT / "contrib" / "crontab").read_text(encoding="utf-8").splitlines()
    jobs = [line.split(None, 5) for line in lines if line and not line.startswith("#") and "=" not in line.split()[0]]
    results = [run_shell(job[5]) for job in jobs]

    assert [(0, "", "")] == results and residents(router) == []
    assert all(re.fullmatch(r"[\d*]+", field) for job in jobs for field in job[:5])


def test_cron_mails_what_goes_wrong(router: Simulation, run_shell: Run, tmp_path: Path) -> None:
    """What could not be unloaded is told where cron reads it."""
    lead_nowhere(tmp_path)
    job = next(line for line in (ROOT / "contrib" / "crontab").read_text().splitlines() if line[0].isdigit())
    result = run_shell(job.split(None, 5)[5])

    assert 3 == result.code and "Nothing listens" in result.err


def test_ssh_line(router: Simulation, run_shell: Run, tmp_path: Path) -> None:
    """The line for another machine goes on only where all was unloaded."""
    line = find_blocks("From another machine: SSH")[0]
    free = run_shell(line)
    lead_nowhere(tmp_path)
    failed = run_shell(line)

    assert (0, "gpu-box is free") == (free.code, free.out.splitlines()[-1])
    assert "gpu-box is free" not in failed.out and failed.code == 3


def test_job_and_game(router: Simulation, run_shell: Run, tmp_path: Path) -> None:
    """A job or a game runs with nothing resident and its exit code comes through; then all is back."""
    before = residents(router)
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (game,) = re.findall(r"^(.*)%command%$", page, re.MULTILINE)
    (job,) = find_blocks("While a game or a job needs the memory")
    script = tmp_path / "train.sh"
    script.write_text(f"#!/bin/sh\ncorral ps -q >{tmp_path}/seen; exit 3\n", encoding="utf-8")
    script.chmod(0o755)
    for line in (f"{game}{script}", f"cd {tmp_path} && {job}"):
        (tmp_path / "seen").write_text("nothing was run", encoding="utf-8")
        assert 3 == run_shell(line).code
        assert ("", before) == ((tmp_path / "seen").read_text(encoding="utf-8"), residents(router))


def test_game_under_gamemode(router: Simulation, run_shell: Run) -> None:
    """What GameMode runs before a game unloads all, and what it runs after puts the same back."""
    before = residents(router)
    parser = RawConfigParser()
    parser.read_string((ROOT / "contrib" / "gamemode.ini").read_text(encoding="utf-8"))
    hooks = parser["custom"]
    started = run_shell(hooks["start"])
    during = residents(router)
    ended = run_shell(hooks["end"])

    assert (0, 0, []) == (started.code, ended.code, during)
    assert before == residents(router)


def test_keeper_service(router: Simulation, run_shell: Run) -> None:
    """The service's line is understood; on a router whose processes are not seen here it ends with the status that
    is not restarted. That it keeps a real router is tested live.
    """
    unit = read_unit("corral-keep@.service")["Service"]
    (result,) = run_unit("corral-keep@.service", run_shell)

    assert 6 == result.code and "cannot be seen" in result.err
    assert "6" in unit["RestartPreventExitStatus"][0].split() and ["143"] == unit["SuccessExitStatus"]
    assert "AF_NETLINK" in unit["RestrictAddressFamilies"][0].split(), "the kernel is asked for connections"


def test_changed_keeper_service(router: Simulation, run_shell: Run) -> None:
    """The page's example of another limit is understood as well."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    line = re.findall(r"^ExecStart=/usr/local/bin/(corral keep .*)$", page, re.MULTILINE)[0]

    assert 0 == run_shell("corral load embedder").code
    assert 6 == run_shell(line).code


def test_gateway_service(router: Simulation, run_shell: Run, tmp_path: Path) -> None:
    """The service's line and the page's check are understood; time to stop is longer than the gateway takes."""
    unit = read_unit("corral-serve@.service")["Service"]
    (tmp_path / ".config" / "corral" / "config.toml").write_text(f'[serve]\nrouter = "{router.url}"\n')
    check = find_blocks("Stand in front of the router: the gateway as a service")[0].splitlines()[0]

    assert ["/usr/local/bin/corral serve"] == unit["ExecStart"]
    assert 0 == run_shell(check).code
    assert int(unit["TimeoutStopSec"][0]) > Limits().stop_s


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_are_whole(unit: Path) -> None:
    """Each unit parses, runs as the user that it is called by, and is one that the page tells how to install."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys are told apart by case
    parser.read_string(unit.read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")

    assert f"contrib/systemd/{unit.name}" in page
    assert unit.suffix != ".service" or "%i" == parser["Service"]["User"]
    assert unit.suffix == ".service" or parser["Timer"]["OnCalendar"]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """systemd itself finds nothing wrong with any unit."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd is not installed here")
    program = tmp_path / "corral"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/usr/local/bin/corral", str(program))
        (tmp_path / unit.name.replace("@.", "@root.")).write_text(text, encoding="utf-8")
    paths = [str(path) for path in tmp_path.glob("*@root.*")]
    done = subprocess.run([tool, "verify", *paths], capture_output=True, text=True, env=dict(os.environ), timeout=60)

    assert (0, "") == (done.returncode, done.stderr)

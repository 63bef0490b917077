"""Measures Corral beside the shell recipe it replaces, on one real router, and writes docs/benchmarks.md.

    python scripts/bench.py [--rounds 15] [--llama-server PATH] [--check]

The two take turns within each round, so that a slow moment of the machine meets both; what counts is the median of
the ratios per pair. ``--check`` fails when a figure misses its bound.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from corral import Router, __version__
from corral.sim.launch import RealRouter
from corral.sim.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "contrib" / "unload-all.sh"
CORRAL = Path(sys.executable).parent / "corral"
COUNTS = (1, 4, 16)
BOUNDS = {1: 1.2, 4: 0.6, 16: 0.25}
TAIL_BOUND_MS = 40.0
LS_BOUND = 9.0
LIST_BOUND = 1.5


class Pair(NamedTuple):
    """One round: wall seconds of each, and how long the router itself took in Corral's run."""

    corral_s: float
    recipe_s: float
    router_s: float


def main() -> int:
    """Measure, write the page, and with ``--check`` judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--llama-server", help="binary to use (default: the cached build)")
    parser.add_argument("--check", action="store_true", help="fail when a figure misses its bound")
    args = parser.parse_args()
    binary = args.llama_server or find_binary()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model)
        names = [f"model-{number:02}" for number in range(1, max(COUNTS) + 1)]
        with RealRouter(binary, dict.fromkeys(names, model), models_max=max(COUNTS)) as router:
            build = read_build(router.url)
            pairs = {count: measure_pairs(router.url, names[:count], args.rounds) for count in COUNTS}
            tails = measure_tails(router.url, names, args.rounds)
        with RealRouter(binary, dict.fromkeys(names[:4], model)) as router:
            start_up = measure_start_up(router.url, 3 * args.rounds)
    lists = measure_long_lists()
    page = write_page(build, args.rounds, pairs, tails, start_up, lists)
    (ROOT / "docs" / "benchmarks.md").write_text(page)
    print(page)
    return judge(pairs, tails, start_up, lists) if args.check else 0


def find_binary() -> str:
    """The llama-server that the tests use."""
    found = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "llama_server.py")], check=True, stdout=subprocess.PIPE, text=True
    )
    return found.stdout.strip()


def read_build(url: str) -> str:
    """What the router calls itself."""
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(f"{url}/props") as reply:
        return str(json.load(reply).get("build_info", "unknown"))


def run_timed(*command: str) -> float:
    """Wall seconds of a command that must succeed."""
    began = time.perf_counter()
    # Without a timeout: with one, subprocess looks for the end in steps of up to 50 ms.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure_pairs(url: str, names: list[str], rounds: int) -> list[Pair]:
    """Corral and the recipe in turn, each on the same freshly loaded models; who begins changes every round."""
    pairs = []
    with Router(url) as client:
        for number in range(rounds):
            times: dict[str, float] = {}
            router_s = 0.0
            for who in ("corral", "recipe") if number % 2 == 0 else ("recipe", "corral"):
                load_all(client, names)
                if who == "corral":
                    with watch_events(url, set(names)) as watch:
                        times[who] = run_timed(str(CORRAL), "--url", url, "unload", "--all")
                    router_s = watch.span_s
                else:
                    times[who] = run_timed("sh", str(RECIPE), url)
                    wait_until_unloaded(client)
            pairs.append(Pair(times["corral"], times["recipe"], router_s))
    return pairs


def measure_tails(url: str, names: list[str], rounds: int) -> list[float]:
    """Seconds from the last ``unloaded`` event, heard by somebody else, to the end of the process."""
    tails = []
    with Router(url) as client:
        for _ in range(rounds):
            load_all(client, names)
            with watch_events(url, set(names)) as watch:
                run_timed(str(CORRAL), "--url", url, "unload", "--all")
                ended = time.monotonic()
            tails.append(ended - watch.last_at)
    return tails


def load_all(client: Router, names: list[str]) -> None:
    """Have exactly these models loaded."""
    report = client.load(*names)
    if not report.ok:
        raise SystemExit(f"bench: a model did not load: {report}")


def wait_until_unloaded(client: Router) -> None:
    """The recipe does not wait for the models to be gone; the next round must."""
    while client.residents():
        time.sleep(0.01)


class Watch:
    """An independent subscriber to the event stream: when the first and last of some models were unloaded."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.left = set(names)
        self.opened = threading.Event()
        self.done = threading.Event()
        self.last_at = 0.0
        self.began_at = 0.0

    @property
    def span_s(self) -> float:
        """From the start of the command to the last model's end, as the router tells it."""
        return self.last_at - self.began_at


@contextmanager
def watch_events(url: str, names: set[str]) -> Iterator[Watch]:
    """Subscribe, run the block, and return when all models were heard unloaded."""
    watch = Watch(names)

    def follow() -> None:
        with Router(url) as client:
            for event in client.follow(lambda state: watch.opened.set(), time.monotonic() + 60):
                if event.status == "unloaded" and event.model in watch.left:
                    watch.left.discard(event.model)
                    watch.last_at = time.monotonic()
                    if not watch.left:
                        break
        watch.done.set()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    if not watch.opened.wait(10):
        raise SystemExit("bench: the event stream did not open")
    watch.began_at = time.monotonic()
    yield watch
    if not watch.done.wait(10):
        raise SystemExit(f"bench: not heard unloaded: {sorted(watch.left)}")
    thread.join()


def measure_cpu(command: list[str]) -> float:
    """User and system seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_start_up(url: str, rounds: int) -> dict[str, float]:
    """CPU of commands as multiples of the bare interpreter's, each beside a bare run of its own."""
    commands = {
        "corral --version": [str(CORRAL), "--version"],
        "corral ls": [str(CORRAL), "--url", url, "ls"],
    }
    ratios: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            bare = measure_cpu([sys.executable, "-c", "pass"])
            ratios[name].append(measure_cpu(command) / bare)
    return {name: median(values) for name, values in ratios.items()}


_BARE_LIST = (
    "import json,sys,urllib.request as u\nsys.stdout.write(json.dumps(json.loads(u.urlopen(sys.argv[1]).read())))"
)
_REPORT_PEAK = """import atexit, resource, sys
atexit.register(lambda: sys.stderr.write(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)))
"""


def measure_long_lists() -> dict[int, tuple[float, float]]:
    """For lists of 1,000 and 10,000 models: peak memory as a multiple of the bare one's, and CPU seconds."""
    from corral.sim import simulate

    found = {}
    for count in (1_000, 10_000):
        with simulate(models=count) as sim:
            bare = measure_peak(_REPORT_PEAK + _BARE_LIST, f"{sim.url}/models")
            main = "import sys\nfrom corral.faces.cli import main\nmain(sys.argv[1:])"
            peak = measure_peak(_REPORT_PEAK + main, "--url", sim.url, "ls", "--json")
            cpu_s = min(measure_cpu([str(CORRAL), "--url", sim.url, "ls", "--json"]) for _ in range(3))
            found[count] = (peak / bare, cpu_s)
    return found


def measure_peak(program: str, *words: str) -> float:
    """The largest resident size of a Python program, as it reports it at its end."""
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
    )
    return float(done.stderr.split()[-1])


def write_page(
    build: str,
    rounds: int,
    pairs: dict[int, list[Pair]],
    tails: list[float],
    start_up: dict[str, float],
    lists: dict[int, tuple[float, float]],
) -> str:
    """The page, figures and how they came about."""
    rows = "\n".join(
        f"| {count} | {ms(pairs[count], lambda p: p.corral_s)} | {ms(pairs[count], lambda p: p.recipe_s)} | "
        f"{ratio(pairs[count]):.2f} | {BOUNDS[count]} | {ms(pairs[count], lambda p: p.router_s)} |"
        for count in COUNTS
    )
    starts = "\n".join(f"| `{name}` | {value:.1f} |" for name, value in start_up.items())
    long_rows = "\n".join(f"| {count:,} | {peak:.2f} | {cpu_s:.2f} s |" for count, (peak, cpu_s) in lists.items())
    return f"""# Benchmarks

Written by `make bench`; run it to get your own. Corral {__version__}, llama-server `{build}`, Python
{platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, tiny models on the CPU, {rounds} rounds.
Times are wall time of the whole process, median; a machine that does other things moves them, so the ratios are what
to read.

## Unload all

`corral unload --all`, which returns when every model was seen unloaded, against the shell recipe it replaces
(`contrib/unload-all.sh`: curl and jq, corrected so that it works), which asks and verifies nothing.

| resident models | Corral | recipe | ratio, median of pairs | bound | until the router was done, from Corral's start |
|---|---|---|---|---|---|
{rows}

The last column is measured by a subscriber of its own: from the start of Corral's process to the router's last
`unloaded` event. What is left of Corral's time is the final look and the end of the process:
{1000 * median(tails):.0f} ms with {max(COUNTS)} models (bound: {TAIL_BOUND_MS:.0f} ms). The router itself sees some
exits only after about 50 ms, with either tool.

## Start-up

CPU time as a multiple of `python -c pass` of the same interpreter; `ls` shows 4 models.

| command | times bare Python |
|---|---|
{starts}

## Long lists

`corral ls --json` against the simulator: peak memory of the process as a multiple of a program that only does
`json.dumps(json.loads(...))` with the same reply, and CPU time.

| models | peak, times bare | CPU |
|---|---|---|
{long_rows}
"""


def ms(pairs: list[Pair], read: Callable[[Pair], float]) -> str:
    """The median of one figure in milliseconds."""
    return f"{1000 * median(read(pair) for pair in pairs):.0f} ms"


def ratio(pairs: list[Pair]) -> float:
    """The median of the ratios per pair."""
    return median(pair.corral_s / pair.recipe_s for pair in pairs)


def judge(
    pairs: dict[int, list[Pair]],
    tails: list[float],
    start_up: dict[str, float],
    lists: dict[int, tuple[float, float]],
) -> int:
    """Print what misses its bound; 1 when something does."""
    missed = [f"{count} models: {ratio(pairs[count]):.2f}" for count in COUNTS if ratio(pairs[count]) > BOUNDS[count]]
    if 1000 * median(tails) > TAIL_BOUND_MS:
        missed.append(f"end of the process: {1000 * median(tails):.0f} ms")
    if start_up["corral ls"] > LS_BOUND:
        missed.append(f"corral ls: {start_up['corral ls']:.1f}")
    missed += [f"peak with {count} models: {peak:.2f}" for count, (peak, _) in lists.items() if peak > LIST_BOUND]
    for line in missed:
        print(f"bench: over its bound: {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""How long ``corral unload --all`` takes beside the shell recipe that it replaces, start-up, and long lists.

The two take turns within each round, so that a slow moment of the machine meets both; what counts is the median of
the ratios per pair.
"""

from __future__ import annotations

import os
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

from corral.client import Router
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


class Figures(NamedTuple):
    """All that is measured here."""

    rounds: int
    pairs: dict[int, list[Pair]]
    """By the number of resident models."""
    tails: list[float]
    """Seconds from the last ``unloaded`` event to the end of the process."""
    start_up: dict[str, float]
    """CPU of commands as multiples of the bare interpreter's."""
    lists: dict[int, tuple[float, float]]
    """By the number of models: peak memory as a multiple of the bare one's, and CPU seconds."""


def measure(binary: str, rounds: int = 15) -> Figures:
    """Measure on routers of its own."""
    with tempfile.TemporaryDirectory() as folder, own_ledger(folder):
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model)
        names = [f"model-{number:02}" for number in range(1, max(COUNTS) + 1)]
        with RealRouter(binary, dict.fromkeys(names, model), models_max=max(COUNTS)) as router:
            fill_ledger(router.url, names[0])
            pairs = {count: measure_pairs(router.url, names[:count], rounds) for count in COUNTS}
            tails = measure_tails(router.url, names, rounds)
        with RealRouter(binary, dict.fromkeys(names[:4], model)) as router:
            start_up = measure_start_up(router.url, 3 * rounds)
    return Figures(rounds, pairs, tails, start_up, measure_long_lists())


@contextmanager
def own_ledger(folder: str) -> Iterator[None]:
    """A ledger apart from the user's own."""
    before = os.environ.get("CORRAL_STATE_DIR")
    os.environ["CORRAL_STATE_DIR"] = f"{folder}/state"
    try:
        yield
    finally:
        del os.environ["CORRAL_STATE_DIR"]
        if before is not None:
            os.environ["CORRAL_STATE_DIR"] = before


def fill_ledger(url: str, name: str) -> None:
    """Have a ledger with something in it, which each command must ask for pins."""
    for command in (("load", name), ("save", "bench")):
        subprocess.run([str(CORRAL), "--url", url, *command, "-q"], check=True, stdout=subprocess.DEVNULL)


def run_timed(*command: str) -> float:
    """Wall seconds of a command that must succeed."""
    began = time.perf_counter()
    # Without a timeout: with one, subprocess looks for the end in steps of up to 50 ms.
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def measure_pairs(url: str, names: list[str], rounds: int) -> list[Pair]:
    """Corral and the recipe in turn, each on the same freshly loaded models; who begins changes every round."""
    pairs = []
    commands = {"corral": (str(CORRAL), "--url", url, "unload", "--all"), "recipe": ("sh", str(RECIPE), url)}
    with Router(url) as client:
        for number in range(rounds):
            times: dict[str, float] = {}
            router_s = 0.0
            for who in ("corral", "recipe") if number % 2 == 0 else ("recipe", "corral"):
                load_all(client, names)
                # Whoever runs has the same company: a subscriber that hears of each model's end.
                with watch_events(url, set(names)) as watch:
                    times[who] = run_timed(*commands[who])
                if who == "corral":
                    router_s = watch.span_s
                # The recipe does not wait for the models to be gone; the next round must.
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
    """Until the list says that nothing is resident."""
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


def render(found: Figures) -> str:
    """The section of the page."""
    rows = "\n".join(
        f"| {count} | {ms(pairs, lambda p: p.corral_s)} | {ms(pairs, lambda p: p.recipe_s)} | "
        f"{ratio(pairs):.2f} | {BOUNDS[count]} | {ms(pairs, lambda p: p.router_s)} |"
        for count, pairs in found.pairs.items()
    )
    starts = "\n".join(f"| `{name}` | {value:.1f} |" for name, value in found.start_up.items())
    long_rows = "\n".join(f"| {count:,} | {peak:.2f} | {cpu_s:.2f} s |" for count, (peak, cpu_s) in found.lists.items())
    return f"""## Unload all

`corral unload --all`, which looks at connections and memory before and after, writes its log and returns when every
model was seen unloaded, against the shell recipe it replaces (`contrib/unload-all.sh`: curl and jq, corrected so that
it works), which asks and verifies nothing. {found.rounds} rounds.

| resident models | Corral | recipe | ratio, median of pairs | bound | until the router was done, from Corral's start |
|---|---|---|---|---|---|
{rows}

The last column is measured by a subscriber of its own: from the start of Corral's process to the router's last
`unloaded` event. What is left of Corral's time is the final look and the end of the process:
{1000 * median(found.tails):.0f} ms with {max(COUNTS)} models (bound: {TAIL_BOUND_MS:.0f} ms). The router itself sees
some exits only after about 50 ms, with either tool.

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


def judge(found: Figures) -> list[str]:
    """What misses its bound."""
    ratios = {count: ratio(pairs) for count, pairs in found.pairs.items()}
    missed = [f"{count} models: {value:.2f}" for count, value in ratios.items() if value > BOUNDS[count]]
    if 1000 * median(found.tails) > TAIL_BOUND_MS:
        missed.append(f"end of the process: {1000 * median(found.tails):.0f} ms")
    if found.start_up["corral ls"] > LS_BOUND:
        missed.append(f"corral ls: {found.start_up['corral ls']:.1f}")
    missed += [f"peak with {count} models: {peak:.2f}" for count, (peak, _) in found.lists.items() if peak > LIST_BOUND]
    return missed

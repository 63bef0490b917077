"""Measures a direct hold on one real router, with clients that keep asking for the held model.

    python scripts/bench_hold.py [--seconds 20] [--rounds 20] [--llama-server PATH]

Prints the section that docs/benchmarks.md has about it. ``measure`` and ``render`` are what scripts/bench.py calls.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from corral.client import Router
from corral.sim.launch import RealRouter
from corral.sim.tiny_model import write_tiny_model
from corral.wire.verbs import says_unheard

ROOT = Path(__file__).resolve().parent.parent
HELD, FREE = "held", "free"
EVERY_S = 0.2
LOOK_S = 0.02
RUN_S = 2.0
"""How long each of the short runs asks."""
PAUSES_S = [0.1, 0.3]
"""How often each of the two clients of the short runs asks."""
STOP_S = 1
"""The stop-timeout: so long the router waits for a request that slipped in, before it cuts it."""
HANG_S = 10.0
"""A request that has no answer after this time counts as hanging."""
UNHEARD = -1


class HoldResult(NamedTuple):
    """What was seen in one long run, and in many short ones."""

    seconds: float
    looks: int
    resident_looks: int
    """Looks that showed the held model resident, loading included."""
    loads: int
    answers_s: list[float]
    """How long each request for the held model took."""
    free_s: list[float]
    """How long each request for another model took, which was loaded for it."""
    release_s: float
    """From the start of ``corral release`` to the end of the hold's process."""
    runs: int
    run_requests: int
    hangs: int
    """Requests of all runs that had no answer in time."""
    cut: int
    """Requests of all runs that a model had and did not answer: they slipped in between a look and the stop."""
    turned_away: int
    """Requests of all runs that the router refused at such a moment, before any model's process had them."""
    reported: int
    """As many were reported by the hold."""
    unloads: int
    """Unloads of the held model in all runs."""

    @property
    def share(self) -> float:
        """The share of looks with the held model resident."""
        return self.resident_looks / max(1, self.looks)


class Client(threading.Thread):
    """Asks one model for a short answer, again and again, until it is stopped; a request under way is finished."""

    def __init__(self, url: str, model: str, every_s: float, after: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._url, self._model, self._every_s, self._after = url, model, every_s, after
        self._is_over = threading.Event()
        self.answers_s: list[float] = []
        self.hangs = self.cut = self.turned_away = 0

    def run(self) -> None:
        """Ask until it is over."""
        while not self._is_over.is_set():
            began = time.monotonic()
            status = ask(self._url, self._model)
            took_s = time.monotonic() - began
            if status is None:
                self.hangs += 1
            elif status == 200:
                self.answers_s.append(took_s)
            elif status == UNHEARD:
                self.turned_away += 1
            else:
                self.cut += 1
            self._after()
            self._is_over.wait(max(0.0, self._every_s - (time.monotonic() - began)))

    def stop(self) -> None:
        """Ask no more, and return when the last answer is there."""
        self._is_over.set()
        self.join()


def ask(url: str, model: str) -> int | None:
    """One request for a few tokens; its status, 0 for a connection that broke, None when it hangs.

    UNHEARD where the router says that no model's process ever had it.
    """
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=HANG_S)
    body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return UNHEARD if says_unheard(reply.status, reply.read()) else reply.status
    except TimeoutError:
        return None
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def measure(binary: str, rounds: int = 15, *, seconds: float = 20.0) -> HoldResult:
    """One long run with a client that asks every 200 ms, then short ones with two that ask at other times.

    From the usual number of rounds on there are at least 20 short runs; below that, as many as rounds.
    """
    runs = max(20, rounds) if rounds >= 15 else rounds
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny.gguf"
        write_tiny_model(model)
        preset = {"model": str(model), "stop-timeout": str(STOP_S)}
        with RealRouter(binary, dict.fromkeys((HELD, FREE), preset)) as router:
            long = run_once(router.url, seconds, [EVERY_S])
            short = [run_once(router.url, RUN_S, PAUSES_S) for _ in range(runs)]
    every = [long, *short]
    return long._replace(
        runs=runs,
        run_requests=sum(len(run.answers_s) + len(run.free_s) for run in short),
        hangs=sum(run.hangs for run in every),
        cut=sum(run.cut for run in every),
        turned_away=sum(run.turned_away for run in every),
        reported=sum(run.reported for run in every),
        unloads=sum(run.unloads for run in every),
    )


def run_once(url: str, seconds: float, clients: list[float]) -> HoldResult:
    """Hold one model while clients ask for it, and one for another that is unloaded after each answer."""
    with Router(url) as watcher:
        # What is resident when a hold begins would stay.
        watcher.unload(HELD)
    with Router(url) as unloader, Router(url) as watcher, holding(url) as hold:
        asking = [Client(url, HELD, every_s) for every_s in clients]
        other = Client(url, FREE, EVERY_S, lambda: unloader.unload(FREE))
        for client in [*asking, other]:
            client.start()
        looks = resident = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            looks += 1
            resident += any(model.id == HELD for model in watcher.residents())
            time.sleep(LOOK_S)
        release_s = hold.release()
        for client in [*asking, other]:
            client.stop()
    return HoldResult(
        seconds=seconds,
        looks=looks,
        resident_looks=resident,
        loads=sum(event["event"] == "came_up" for event in hold.events),
        answers_s=[took_s for client in asking for took_s in client.answers_s],
        free_s=other.answers_s,
        release_s=release_s,
        runs=0,
        run_requests=0,
        hangs=sum(client.hangs for client in [*asking, other]),
        cut=sum(client.cut for client in [*asking, other]),
        turned_away=sum(client.turned_away for client in [*asking, other]),
        reported=sum(count_told(event) for event in hold.events),
        unloads=sum(event["event"] == "went_again" for event in hold.events),
    )


def count_told(event: dict[str, Any]) -> int:
    """Requests that a hold says were cut, also by an unload that was under way at its end."""
    if event["event"] == "went_again":
        return event["cut"] or 0
    return sum(one["cut"] or 0 for one in event.get("stopping", ()))


class Holding:
    """A ``corral hold`` at work, and what it has told."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.events: list[dict[str, Any]] = []
        self._process = self._start("hold", HELD, "--for", "1h", "--json")
        assert self._process.stdout is not None
        # It holds as soon as it has said so.
        self.events.append(json.loads(self._process.stdout.readline()))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def release(self) -> float:
        """End it from elsewhere; seconds until its process has ended."""
        began = time.monotonic()
        self._start("release", HELD).communicate()
        self._process.wait(30)
        return time.monotonic() - began

    def close(self) -> None:
        """End it, however far it has come."""
        self._process.kill()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.events += map(json.loads, self._process.stdout)

    def _start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "corral", "--url", self._url, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


@contextmanager
def holding(url: str) -> Iterator[Holding]:
    """A hold for as long as the block lasts."""
    hold = Holding(url)
    try:
        yield hold
    finally:
        hold.close()


def render(result: HoldResult) -> str:
    """The section of the page."""
    rate = 60 * result.loads / result.seconds
    told = " and ".join(f"{1000 * pause_s:.0f} ms" for pause_s in PAUSES_S)
    return f"""## Hold, from beside the router

`corral hold` of one model while a client asks for it every {1000 * EVERY_S:.0f} ms, for {result.seconds:.0f} s; another
client asks all the while for a model that is not held, and that is unloaded after each answer. The models are tiny and
load in a few hundredths of a second: with larger ones a load takes longer, and so the share is larger.

| what | seen |
|---|---|
| share of looks with the held model resident | {100 * result.share:.0f} % of {result.looks:,} |
| loads of the held model | {rate:.0f} a minute |
| answers to the client that asks for it | {tell_times(result.answers_s)} |
| answers from the model that is not held, loaded for each | {tell_times(result.free_s)} |
| from `corral release` to the end of the hold | {1000 * result.release_s:.0f} ms |

{result.runs} short runs of {RUN_S:.0f} s, with two clients that ask for the held model every {told}, and
a release in the middle of it: {result.run_requests:,} answers. Of all requests of all runs {result.hangs} hung
(bound: 0), those that waited at the release included. From beside the router it can't be ruled out that a request slips
in between the last look and the stop: in {result.unloads:,} unloads of the held model {result.cut} answers were cut,
and the hold reported {result.reported}. Requests that the router turned away at such a moment, before any model had
them: {result.turned_away}.
"""


def tell_times(times_s: list[float]) -> str:
    """How many, and how long they took."""
    if not times_s:
        return "none"
    return f"{len(times_s):,}, median {1000 * median(times_s):.0f} ms, longest {1000 * max(times_s):.0f} ms"


def judge(result: HoldResult) -> list[str]:
    """What misses its bound, one line each."""
    missed = []
    if result.hangs:
        missed.append(f"hold: {result.hangs} requests hung")
    if result.cut > result.reported:
        missed.append(f"hold: {result.cut} requests were cut, {result.reported} reported")
    if not result.free_s or not result.answers_s:
        missed.append("hold: a client was never answered")
    return missed


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=20, help="short runs (default: %(default)s)")
    parser.add_argument("--llama-server", help="binary to use (default: the cached build)")
    args = parser.parse_args()
    from bench import find_binary

    with tempfile.TemporaryDirectory() as folder:
        os.environ["CORRAL_STATE_DIR"] = folder
        result = measure(args.llama_server or find_binary(), args.rounds, seconds=args.seconds)
    print(render(result))
    for line in judge(result):
        print(f"bench: over its bound: {line}", file=sys.stderr)
    return 1 if judge(result) else 0


if __name__ == "__main__":
    raise SystemExit(main())

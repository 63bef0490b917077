"""How many answers are cut by ``corral unload --all`` and by the shell recipe that it replaces.

Clients stream answers from a real router. First in batches, with nothing new arriving while the unload waits; then
steadily, where only a seat in the request path could keep a request from slipping in between the look and the stop.
An answer is cut when its stream ends without ``[DONE]``.
"""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from bench_unload import CORRAL, RECIPE, wait_until_unloaded

from corral.client import Router
from corral.sim.launch import RealRouter
from corral.sim.tiny_model import write_tiny_model
from corral.wire.verbs import says_unheard

MODELS = ("model-1", "model-2", "model-3", "model-4")
BATCH = 8
"""Streams of one batch, two for each model: as many as there are slots."""
TOKENS = 250
BUSY_CLIENTS = 3
GAP_S = 0.15
"""A steady client waits up to so long between two answers."""


class Batches(NamedTuple):
    """Answers already being written, nothing new arriving."""

    answers: int
    cut: int


class Steady(NamedTuple):
    """Answers that go on arriving."""

    answers: int
    unloads: int
    """Models seen unloaded."""
    cut: int
    """By what the clients saw."""
    reported: int | None
    """By what Corral said of it; None for the recipe, which says nothing."""
    unreported_rounds: int
    """Rounds in which clients saw more cuts than were reported."""
    turned_away: int
    """Requests that the router refused at such a moment, before any model's process had them."""


class Figures(NamedTuple):
    """All that is measured here, by who unloads."""

    batches: dict[str, Batches]
    steady: dict[str, Steady]


def measure(binary: str, rounds: int = 15) -> Figures:
    """Measure on one router; 25 batches are 200 answers, whatever ``rounds`` says."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "slow.gguf"
        write_tiny_model(model, layers=8, width=512)
        presets = {name: {"model": str(model), "stop-timeout": "1"} for name in MODELS}
        with RealRouter(binary, presets, models_max=len(MODELS), context=2048) as router:
            batches = {who: measure_batches(router.url, who, 200 // BATCH) for who in ("corral", "recipe")}
            steady = {who: measure_steady(router.url, who, 2 * rounds) for who in ("corral", "recipe")}
    return Figures(batches, steady)


class Answer:
    """One streamed answer, read in a thread."""

    def __init__(self, url: str, model: str, tokens: int) -> None:
        self.began = threading.Event()
        self.is_whole = False
        self._url, self._model, self._tokens = url, model, tokens
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def finish(self) -> bool:
        """Wait for its end; whether it came whole."""
        self._thread.join()
        return self.is_whole

    def _read(self) -> None:
        self.is_whole = bool(stream_answer(self._url, self._model, self._tokens, self.began.set))
        self.began.set()


def stream_answer(url: str, model: str, tokens: int, on_begin: Callable[[], None] = lambda: None) -> bool | None:
    """Ask for an answer and read it; whether it came whole, None where the router turned it away unheard."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 0, timeout=180)
    body = {"model": model, "max_tokens": tokens, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    data = b""
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        while piece := reply.read1(1 << 16):
            data += piece
            on_begin()
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
    if says_unheard(reply.status, data):
        return None
    return b"data: [DONE]" in data


def measure_batches(url: str, who: str, count: int) -> Batches:
    """Batch after batch: when every stream has begun, unload until nothing is resident."""
    cut = 0
    with Router(url) as client:
        for _ in range(count):
            load_all(client)
            answers = [Answer(url, MODELS[number % len(MODELS)], TOKENS) for number in range(BATCH)]
            for answer in answers:
                answer.began.wait()
            while client.residents():
                unload_all(url, who, "120s")
                if who == "recipe":
                    wait_until_unloaded(client)
            cut += sum(not answer.finish() for answer in answers)
    return Batches(count * BATCH, cut)


def measure_steady(url: str, who: str, rounds: int) -> Steady:
    """Clients ask on and on, and bring back what goes; again and again everything is unloaded."""
    unloads = reported = unreported_rounds = seen = 0
    with Router(url) as client, keep_asking(url) as tally:
        for _ in range(rounds):
            load_all(client)
            document = unload_all(url, who, "30s")
            if document is None:
                unloads += len(MODELS)
                continue
            gone = [item for item in document["models"] if item["outcome"] in ("unloaded", "came_back")]
            unloads += len(gone)
            said = sum(item["cut"] or 0 for item in document["models"])
            reported += said
            # A stream that was cut is known to its client when the model has gone, at the latest.
            unreported_rounds += tally.cut - seen > said
            seen = tally.cut
    is_corral = who == "corral"
    told = reported if is_corral else None
    return Steady(tally.answers, unloads, tally.cut, told, unreported_rounds, tally.turned_away)


class Tally:
    """What steady clients saw."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers = 0
        self.cut = 0
        self.turned_away = 0

    def count(self, *, is_whole: bool | None) -> None:
        """One answer more; None is one that no model had."""
        with self._lock:
            self.answers += 1
            self.cut += is_whole is False
            self.turned_away += is_whole is None


@contextmanager
def keep_asking(url: str) -> Iterator[Tally]:
    """Clients that ask for short answers, each of a model of its own, until the block ends."""
    tally, over = Tally(), threading.Event()

    def ask(number: int) -> None:
        pauses = random.Random(number)
        while not over.wait(pauses.uniform(0, GAP_S)):
            tally.count(is_whole=stream_answer(url, MODELS[number], 20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(BUSY_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        over.set()
        for thread in threads:
            thread.join()


def load_all(client: Router) -> None:
    """Have all models loaded; with clients about, some of them may go and come meanwhile."""
    client.load(*MODELS)


def unload_all(url: str, who: str, grace: str) -> dict[str, Any] | None:
    """One unload of everything; what Corral says of it."""
    if who == "recipe":
        subprocess.run(["sh", str(RECIPE), url], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return None
    command = [str(CORRAL), "--url", url, "unload", "--all", "--grace", grace, "--json"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def render(found: Figures) -> str:
    """The section of the page."""
    batches = "\n".join(
        f"| {NAMES[who]} | {figures.answers} | **{figures.cut}** |" for who, figures in found.batches.items()
    )
    steady = "\n".join(
        f"| {NAMES[who]} | {figures.answers:,} | {figures.unloads} | {100 * figures.cut / figures.unloads:.1f} | "
        f"{'nothing' if figures.reported is None else f'{figures.reported} of {figures.cut}'} | {figures.turned_away} |"
        for who, figures in found.steady.items()
    )
    return f"""## Answers cut

Streamed answers of {TOKENS} tokens, {BATCH} at a time from {len(MODELS)} models, all of them begun when everything is
unloaded, until nothing is resident (Corral with `--grace 120s`; the models' stop-timeout is 1 s):

| who unloads | answers | cut |
|---|---|---|
{batches}

{BUSY_CLIENTS} clients ask on and on for short answers, each of a model of its own, with pauses of up to
{1000 * GAP_S:.0f} ms, and bring back what goes. Straight to the router a request can slip in between the last look and
the stop; Corral looks once more just after it, and reports what it then sees. What the router turns away at such a
moment, before any model had it, is no cut. Behind the gateway none is cut.

| who unloads | answers | models unloaded | cut per 100 unloads | reported | turned away |
|---|---|---|---|---|---|
{steady}
"""


NAMES = {"corral": "`corral unload --all`", "recipe": "the recipe"}


def judge(found: Figures) -> list[str]:
    """What misses its bound."""
    missed = []
    if cut := found.batches["corral"].cut:
        missed.append(f"answers cut without arrivals: {cut}")
    if rounds := found.steady["corral"].unreported_rounds:
        missed.append(f"rounds with cuts that were not reported: {rounds}")
    return missed

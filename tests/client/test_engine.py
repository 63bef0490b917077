"""The blocking driver, where its timing matters: an interruption between a word and a deed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from queue import SimpleQueue
from threading import Thread

import pytest

from corral import AsyncRouter, Router, UnloadReport
from corral.client import Timeouts, parse_url
from corral.client.transport import Transport
from corral.ops import Ended, Requested, Selection, Unload
from corral.ops.guard import Guard
from corral.ops.guard_facts import GuardReport
from corral.ops.protocol import Input
from corral.sim import ModelSpec, simulate
from corral.wire import Call, list_models, unload_model


class InterruptedRouter(Router):
    """A router on which Ctrl-C comes in the middle of a POST, before or after it went out."""

    after = False

    def send(self, call: Call, until: float | None = None) -> object:
        """Send, and be interrupted at the POST."""
        if call.method != "POST":
            return super().send(call, until)
        if self.after:
            super().send(call, until)
        raise KeyboardInterrupt


@pytest.mark.parametrize(("after", "outcome"), [(False, "not_requested"), (True, "requested")])
def test_interrupted_in_a_request(after: bool, outcome: str) -> None:
    """What did not go out was not asked for; what did go out was."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        router = InterruptedRouter(sim.url)
        router.after = after
        with router:
            report: UnloadReport = router.run(Unload(Selection((), True)))

        assert report.interrupted and report.outcomes[0].outcome == outcome
        assert len(sim.requests("POST")) == after


class InterruptingHeader(str):
    """A header at whose turn Ctrl-C comes: the request is being put together."""

    def isprintable(self) -> bool:
        raise KeyboardInterrupt


def test_interrupted_before_the_first_byte() -> None:
    """A request that was still being put together did not go out; one whose bytes went out did."""
    with simulate(models=1) as sim:
        torn, whole = Transport(parse_url(sim.url), Timeouts()), Transport(parse_url(sim.url), Timeouts())
        call = unload_model("model-01")
        odd = Call(call.method, call.path, call.read, call.body, (("X-Odd", InterruptingHeader("x")),))
        with pytest.raises(KeyboardInterrupt):
            torn.send(odd, None)
        whole.send(list_models(), None)
        sent = [torn.writes > 0, whole.writes > 0]
        torn.close()
        whole.close()

        assert [False, True] == sent and [] == sim.requests("POST")


_WITHOUT_THREADS = """
import os, resource, sys, urllib.parse
from corral.client import Router
from corral.wire import BadArgumentError
router = Router(sys.argv[1])
router.list_models()
if os.getuid() == 0:
    # The limit does not hold for root; who then comes may not be able to import from here, so all is imported above.
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
print(router.unload_all().ok)
try:
    next(router.follow())
except BadArgumentError as error:
    print(error.message)
"""


def test_no_thread_for_the_event_stream() -> None:
    """Where the system allows no further thread, models are unloaded without the stream; who wants that is told why."""
    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim:
        command = [sys.executable, "-c", _WITHOUT_THREADS, sim.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)

    said = done.stdout.splitlines()
    assert (["True"], "") == (said[:1], done.stderr) and "no further thread" in said[1]


def test_interrupted_in_a_word() -> None:
    """Ctrl-C while the person is told leaves what was told of undone, and says so."""

    def interrupt(fact: object) -> None:
        if isinstance(fact, Requested):
            raise KeyboardInterrupt

    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim, Router(sim.url) as router:
        report = router.unload_all(say=interrupt)

        assert report.interrupted and report.outcomes[0].outcome == "not_requested"
        assert sim.requests("POST") == [] and sim.state("a") == "loaded"


def test_verb_is_ended_from_outside() -> None:
    """A verb that would run for ever ends as soon as another thread says so, also in the middle of a call."""
    inbox: SimpleQueue[Input] = SimpleQueue()

    with simulate(models=("a",)) as sim, Router(sim.url) as router:

        def end() -> None:
            # The second look is the one that the opened stream brings; with it the verb has come to rest.
            sim.wait_until(lambda: len(sim.requests("GET", "/models")) >= 2)
            asked = len(sim.requests("GET", "/models"))
            sim.set_fault("hang", path="/models")
            sim.load("a")
            sim.wait_until(lambda: len(sim.requests("GET", "/models")) > asked)
            inbox.put(Ended("released"))
            router.break_off()

        thread = Thread(target=end)
        thread.start()
        report: GuardReport = router.run(Guard(Selection((), True)), inbox=inbox)
        thread.join()

        assert report.ended == "released" and sim.requests("POST") == []


def test_verb_is_ended_in_its_first_look() -> None:
    """An end that breaks off the very first look is an end, and not a router that does not answer."""
    inbox: SimpleQueue[Input] = SimpleQueue()

    with simulate(models=("a",)) as sim, Router(sim.url) as router:
        sim.set_fault("hang", path="/models")

        def end() -> None:
            sim.wait_until(lambda: bool(sim.requests("GET", "/models")))
            inbox.put(Ended("released"))
            router.break_off()

        thread = Thread(target=end)
        thread.start()
        report: GuardReport = router.run(Guard(Selection((), True)), inbox=inbox)
        thread.join()

        assert report.ended == "released"


def test_nothing_is_sent_after_the_end() -> None:
    """A request that was decided on but not sent is not sent any more when the verb is ended from outside."""
    inbox: SimpleQueue[Input] = SimpleQueue()

    def end(fact: object) -> None:
        if isinstance(fact, Requested):
            inbox.put(Ended("released"))

    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim, Router(sim.url) as router:
        report = router.run(Guard(Selection((), True), takes_residents=True), end, inbox)

        assert (report.ended, report.resident) == ("released", ("a",))
        assert sim.requests("POST") == [] and sim.state("a") == "loaded"


def test_async_verb_is_ended_from_outside() -> None:
    """The async driver takes inputs of other tasks too."""

    async def run(url: str) -> GuardReport:
        inbox: asyncio.Queue[Input] = asyncio.Queue()
        async with AsyncRouter(url) as router:
            running = asyncio.create_task(router.run(Guard(Selection((), True)), None, inbox))
            inbox.put_nowait(Ended("released"))
            report: GuardReport = await running
            return report

    with simulate(models=("a",)) as sim:
        assert asyncio.run(run(sim.url)).ended == "released"

"""The blocking driver, where its timing matters: an interruption between a word and a deed."""

from __future__ import annotations

import pytest

from corral import Router, UnloadReport
from corral.ops import Requested, Selection, Unload
from corral.sim import ModelSpec, simulate
from corral.wire import Call


class InterruptedRouter(Router):
    """A router on which Ctrl-C comes in the middle of a POST, before or after it went out."""

    after = False

    def send(self, call: Call) -> object:
        """Send, and be interrupted at the POST."""
        if call.method != "POST":
            return super().send(call)
        if self.after:
            super().send(call)
        else:
            self._transport.is_sent = False
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


def test_interrupted_in_a_word() -> None:
    """Ctrl-C while the person is told leaves what was told of undone, and says so."""

    def interrupt(fact: object) -> None:
        if isinstance(fact, Requested):
            raise KeyboardInterrupt

    with simulate(models=(ModelSpec("a", status="loaded"),)) as sim, Router(sim.url) as router:
        report = router.unload_all(say=interrupt)

        assert report.interrupted and report.outcomes[0].outcome == "not_requested"
        assert sim.requests("POST") == [] and sim.state("a") == "loaded"

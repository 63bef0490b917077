"""``corral orphans``: what is listed, what is ended, and what is left alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import pytest

from corral.faces.cli.orphans import (
    DENIED,
    DOUBTFUL,
    ENDED,
    FOUND,
    NO_ORPHAN,
    STAYS,
    WOULD_END,
    Case,
    choose,
    describe,
    end_all,
    find_code,
    judge,
)
from corral.ops.measurement import DeviceUse, Orphan, Process
from corral.sim import simulate
from corral.wire import CorralError

if TYPE_CHECKING:
    from tests.faces.kit import Result

    Cli = Callable[..., Result]


def orphan(pid: int, *, port: int = 5000, router_port: int | None = 8080) -> Orphan:
    """A process that a router left behind."""
    return Orphan(
        Process(pid, 7, "llama-server"), f"m{pid}", port, router_port, 1 << 30, (DeviceUse("nvidia:0", None),)
    )


class FakeMachine:
    """A machine on which some processes do not end, or may not be signalled."""

    def __init__(self, *, stubborn: Collection[int] = (), guarded: Collection[int] = (), gone: Collection[int] = ()):
        self.stubborn, self.guarded, self.gone = stubborn, guarded, gone
        self.signalled: list[int] = []
        self.now = 0.0

    def kill_orphan(self, orphan: Orphan, listed_ports: Collection[int]) -> bool:
        """Signal it, unless that is forbidden or it is no orphan any more."""
        if orphan.process.pid in self.guarded:
            raise PermissionError
        if orphan.process.pid in self.gone:
            return False
        self.signalled.append(orphan.process.pid)
        return True

    def find_living(self, processes: Sequence[Process]) -> tuple[Process, ...]:
        """Those that do not end."""
        return tuple(process for process in processes if process.pid in self.stubborn)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def end(machine: FakeMachine, *cases: Case) -> list[str]:
    """The outcomes of ending these."""
    found = end_all(cases, machine, (), 5.0, lambda: machine.now, machine.sleep)
    return [case.outcome for case in found]


def test_child_that_a_living_router_lists_is_none() -> None:
    """What any router on this machine lists as its child is left alone."""
    cases = judge([orphan(1, port=5000), orphan(2, port=6000)], {8080: frozenset({5000})})

    assert [2] == [case.orphan.process.pid for case in cases]


def test_router_that_does_not_show_its_list_protects_its_children() -> None:
    """Where something answers at the router's port and tells nothing, its supposed orphans are doubtful."""
    cases = judge([orphan(1), orphan(2, router_port=9), orphan(3, router_port=None)], {8080: None})

    assert [DOUBTFUL, FOUND, FOUND] == [case.outcome for case in cases]


def test_one_can_be_chosen() -> None:
    """Process numbers choose; one that is no orphan ends the command before anything is done."""
    cases = [Case(orphan(1), FOUND), Case(orphan(2), FOUND)]

    assert cases == choose(cases, [])
    assert cases[1:] == choose(cases, ["2"])
    with pytest.raises(CorralError, match=r"Not an orphan: \$'\\e', 9\."):
        choose(cases, ["2", "9", "\x1b"])


def test_only_what_is_sure_is_signalled() -> None:
    """Each sure orphan is signalled once, a doubtful one never."""
    machine = FakeMachine()
    outcomes = end(machine, Case(orphan(1), FOUND), Case(orphan(2), DOUBTFUL), Case(orphan(3), FOUND))

    assert [ENDED, DOUBTFUL, ENDED] == outcomes
    assert [1, 3] == machine.signalled


def test_ended_is_said_of_what_was_seen_to_end() -> None:
    """A process that survives the signal for the whole time is said to be still there."""
    machine = FakeMachine(stubborn=(2,), guarded=(3,), gone=(4,))
    outcomes = end(machine, *(Case(orphan(pid), FOUND) for pid in (1, 2, 3, 4)))

    assert [ENDED, STAYS, DENIED, NO_ORPHAN] == outcomes
    assert machine.now >= 5.0


@pytest.mark.parametrize(
    ("outcomes", "is_kill", "code"),
    [
        ((), False, 0),
        ((FOUND, DOUBTFUL), False, 0),
        ((), True, 0),
        ((ENDED, ENDED), True, 0),
        ((WOULD_END,), True, 0),
        ((STAYS,), True, 1),
        ((DOUBTFUL, DENIED), True, 1),
        ((ENDED, STAYS), True, 5),
    ],
)
def test_exit_codes(outcomes: tuple[str, ...], is_kill: bool, code: int) -> None:
    """To list is success; to end is success when all ended, 5 when only some did."""
    cases = [Case(orphan(at), outcome) for at, outcome in enumerate(outcomes)]

    assert code == find_code(cases, is_kill=is_kill)


def test_json_has_the_proof() -> None:
    """Process, start, ports and what it holds are in the document; an unknown amount is null."""
    document = json.loads(json.dumps(describe([Case(orphan(1), WOULD_END)], 0)))
    found = document["orphans"][0]

    assert (1, True) == (document["schema_version"], document["ok"])
    assert (1, 7, 5000, 8080) == tuple(found[key] for key in ("pid", "started", "port", "router_port"))
    assert [{"device": "nvidia:0", "used_bytes": None}] == found["devices"]
    assert "would_be_ended" == found["outcome"]


def test_none_is_a_plain_sentence(cli: Cli) -> None:
    """Without orphans nothing is printed but a sentence on stderr; no router is needed for that."""
    result = cli("orphans", "--url", "http://127.0.0.1:9")
    document = json.loads(cli("orphans", "--json", "--url", "http://127.0.0.1:9").out)

    assert (0, 0) == (result.code, document["exit_code"])
    # The machine that runs the tests may have some of its own, which are none of ours.
    assert ("No orphans" in result.err) == (result.out == "")


def test_a_living_router_is_asked_for_its_list_alone(cli: Cli) -> None:
    """The configured router gets one harmless question."""
    with simulate(models=("a",)) as sim:
        result = cli("orphans", "--url", sim.url)

        assert 0 == result.code
        assert [("GET", "/models")] == [(request.method, request.target) for request in sim.request_log]

"""Which leases are recovered, which are left and which are refused."""

from __future__ import annotations

import pytest

from corral.ops.measurement import Process
from corral.ops.promises import RUNNING, Actor, Lease, Moment, Owner, RouterKey
from corral.ops.recovery import list_actors, plan_recovery

NOW = Moment(1000.0, 50.0, "boot-1", "box")
CORRAL, COMMAND = Process(10, 100), Process(11, 101)


def lease(**fields: object) -> Lease:
    """A lease whose command was started."""
    values: dict[str, object] = {"command": Actor(COMMAND, "boot-1"), **fields}
    router, owner = RouterKey("k", "l"), Owner("ann", "box")
    return Lease("r1", router, owner, NOW, RUNNING, ("a",), Actor(CORRAL, "boot-1"), **values)  # type: ignore[arg-type]  # its own


@pytest.mark.parametrize(
    ("living", "is_named", "force", "action"),
    [
        ([], False, False, "recover"),
        ([], True, False, "recover"),
        ([COMMAND], False, False, "refuse"),
        ([COMMAND], True, False, "refuse"),
        ([COMMAND], False, True, "recover"),
        ([CORRAL], False, False, "leave"),
        ([CORRAL], True, False, "refuse"),
        ([CORRAL, COMMAND], True, True, "refuse"),
    ],
)
def test_what_is_done(living: list[Process], is_named: bool, force: bool, action: str) -> None:
    """What nobody is left to put back is recovered; a command that lives stands in the way, but not of --force."""
    found = plan_recovery([lease()], NOW, living, is_named=is_named, force=force)[0]

    assert action == found.action and found.reason


@pytest.mark.parametrize(("is_named", "action"), [(False, "leave"), (True, "refuse")])
def test_other_machines(is_named: bool, action: str) -> None:
    """What was taken on another machine is left to that one, whatever is said."""
    elsewhere = Moment(1000.0, 50.0, "boot-9", "laptop")

    assert action == plan_recovery([lease()], elsewhere, [], is_named=is_named, force=True)[0].action


def test_nothing_is_owed() -> None:
    """A lease that is over is left, named or not."""
    assert "leave" == plan_recovery([lease(ended_wall=1.0)], NOW, [], is_named=True, force=True)[0].action


def test_pid_is_told() -> None:
    """Who stands in the way is told by number, and both processes of a lease are looked at."""
    assert "pid 11" in plan_recovery([lease()], NOW, [COMMAND], is_named=False, force=False)[0].reason
    assert [CORRAL, COMMAND, CORRAL] == list_actors([lease(), lease(command=None)])

"""The rules on holds, leases and routers, against clocks that jump and processes that end."""

from __future__ import annotations

import pytest

from corral.ops.measurement import Process
from corral.ops.promises import (
    AT_WORK,
    COMMAND_LIVES,
    ELSEWHERE,
    FREED,
    LEFT_BEHIND,
    OVER,
    RESTORING,
    RUNNING,
    STEPS,
    Actor,
    Hold,
    Lease,
    LogEntry,
    Moment,
    Owner,
    Pin,
    Promises,
    RouterKey,
    build_router_key,
    count_elapsed,
    count_left,
    find_hold,
    is_alive,
    is_enforced,
    is_in_force,
    judge_lease,
    list_owed,
)

ROUTER = RouterKey("http://127.0.0.1:8080", "http://localhost:8080")
OWNER = Owner("ann", "box")
START = Moment(1000.0, 50.0, "boot-1", "box")
GUARD = Actor(Process(10, 100, "corral"), "boot-1")
COMMAND = Actor(Process(11, 101, "train"), "boot-1")


def hold(models: tuple[str, ...] | None = ("a",), **fields: object) -> Hold:
    """A hold of ten seconds."""
    values: dict[str, object] = {"created": START, "duration_s": 10.0, "enforcer": GUARD, **fields}
    return Hold("h1", ROUTER, models, OWNER, **values)  # type: ignore[arg-type]  # the tests name the right fields


def lease(**fields: object) -> Lease:
    """A lease whose command runs."""
    values: dict[str, object] = {"step": RUNNING, "models": ("a", "b", "c"), "command": COMMAND, **fields}
    return Lease("r1", ROUTER, OWNER, START, corral=GUARD, **values)  # type: ignore[arg-type]  # a lease's own


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (Moment(1004.0, 54.0, "boot-1", "box"), 6.0),
        (Moment(9999.0, 54.0, "boot-1", "box"), 6.0),
        (Moment(0.0, 54.0, "boot-1", "box"), 6.0),
        (Moment(1004.0, 61.0, "boot-1", "box"), 0.0),
        (Moment(1004.0, 40.0, "boot-1", "box"), 10.0),
        (Moment(1004.0, 1.0, "boot-2", "box"), 6.0),
        (Moment(0.0, 1.0, "boot-2", "box"), 9.0),
        (Moment(0.0, 12.0, "boot-2", "box"), 0.0),
        (Moment(1004.0, 9999.0, "boot-7", "other"), 6.0),
        (Moment(1004.0, None, "", "box"), 6.0),
        (Moment(0.0, None, "", "box"), 10.0),
        (Moment(1011.0, None, "", "box"), 0.0),
    ],
)
def test_hold_ends_whatever_the_clock_does(now: Moment, left: float) -> None:
    """Within a boot only the boot clock counts; after it the wall clock, and the new boot's age at the least."""
    assert left == count_left(hold(), now)
    assert (left > 0) == is_in_force(hold(), now)


def test_time_never_runs_backwards() -> None:
    """Elapsed time is never negative."""
    assert 0.0 == count_elapsed(START, Moment(0.0, None, "", "box"))
    assert 0.0 == count_elapsed(START, START)


def test_hold_covers_what_it_names() -> None:
    """A hold is about the models that it names, or all, but for those that were released from it."""
    assert hold().covers("a") and not hold().covers("b")
    assert hold(None).covers("b") and not hold(None, excepted=("b",)).covers("b")
    assert is_in_force(hold(None, excepted=("b",)), START)
    assert not is_in_force(hold(("a", "b"), excepted=("b", "a")), START)
    assert not is_in_force(hold(released_wall=1001.0), START)


def test_longest_hold_is_the_one_that_counts() -> None:
    """Of several holds on a model the one that lasts longest is told."""
    short, long, other = hold(), hold(None, duration_s=90.0), hold(("b",), duration_s=900.0)

    assert long == find_hold([short, long, other], "a", START)
    assert None is find_hold([short, other], "c", START)


@pytest.mark.parametrize(
    ("now", "living", "enforced"),
    [
        (START, [GUARD.process], True),
        (START, [Process(10, 100, "renamed")], True),
        (START, [Process(10, 999, "corral")], False),
        (START, [], False),
        (Moment(1001.0, 1.0, "boot-2", "box"), [GUARD.process], False),
        (Moment(1001.0, 1.0, "boot-2", "other"), [], None),
    ],
)
def test_enforcer_is_known_by_pid_start_and_boot(now: Moment, living: list[Process], enforced: bool | None) -> None:
    """A hold is enforced while that very process lives; of another machine's nothing is known."""
    assert enforced is is_enforced(hold(), now, living)
    assert False is is_enforced(hold(enforcer=None), now, living)


@pytest.mark.parametrize(
    ("now", "living", "verdict"),
    [
        (START, [GUARD.process, COMMAND.process], AT_WORK),
        (START, [GUARD.process], AT_WORK),
        (START, [COMMAND.process], COMMAND_LIVES),
        (START, [], LEFT_BEHIND),
        (Moment(1001.0, 1.0, "boot-2", "box"), [GUARD.process], LEFT_BEHIND),
        (Moment(1001.0, 1.0, "boot-2", "other"), [], ELSEWHERE),
    ],
)
def test_what_became_of_a_lease(now: Moment, living: list[Process], verdict: str) -> None:
    """A lease is left behind only when neither its Corral nor its command can still be running."""
    assert verdict == judge_lease(lease(), now, living)
    assert OVER == judge_lease(lease(ended_wall=1001.0), now, living)


def test_machine_without_boot_marks() -> None:
    """Where boots have no mark, a process of this machine is known by its number, and another's not at all."""
    here, actor = Moment(1000.0, host="box"), Actor(Process(10, 0), "")

    assert [True, False] == [is_alive(actor, "box", here, living) for living in ([Process(10, 0)], [])]
    assert None is is_alive(actor, "other", here, [Process(10, 0)])


@pytest.mark.parametrize("step", STEPS)
def test_owed(step: str) -> None:
    """Until all was seen to be free, what was asked to unload is to be put back; from then on the set, in order."""
    is_free = step in (FREED, RUNNING, RESTORING)
    given = lease(step=step, models=("c", "a", "b"), unloaded=("a", "c"))

    assert (("c", "a", "b") if is_free else ("c", "a")) == list_owed(given)
    assert () == list_owed(lease(step=step, restores=False)) == list_owed(lease(step=step, ended_wall=1.0))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "127.0.0.1", "::1", "0.0.0.0", "web.localhost"])
def test_this_machine_has_one_key(host: str) -> None:
    """However this machine is called, it is the same router."""
    key = build_router_key("x", scheme="http", host=host, port=8080, prefix="/llm", addresses=[])

    assert "http://127.0.0.1:8080/llm" == key.key


def test_key_by_address() -> None:
    """A host is known by its address, chosen alike whatever the resolver's order; by its name where there is none."""

    def build(*addresses: str, host: str = "GPU-box.") -> str:
        return build_router_key("x", scheme="https", host=host, port=443, addresses=addresses).key

    assert "https://10.0.0.2:443" == build("fd00::1", "10.0.0.9", "10.0.0.2") == build("10.0.0.2", "10.0.0.9")
    assert "https://[fd00::1]:443" == build("fd00::1")
    assert "https://gpu-box:443" == build()
    assert "https://127.0.0.1:443" == build("127.0.0.1", host="me")


def test_key_of_a_socket() -> None:
    """A unix socket is known by its path, tidied up, and its prefix."""
    key = build_router_key("x", scheme="unix", path="/run//a/../b.sock", prefix="/p", addresses=[])

    assert "unix:/run/b.sock?prefix=/p" == key.key
    assert build_router_key("x", scheme="unix", path="/\udcff", addresses=[]).key.isascii()


def test_same_router_by_address_or_name() -> None:
    """Promises follow a router whose address changed, or that is called by another name."""
    assert RouterKey("k", "l").matches(RouterKey("k", "m"))
    assert RouterKey("k", "l").matches(RouterKey("j", "l"))
    assert not RouterKey("k", "l").matches(RouterKey("l", "k"))


def test_promises_of_one_router() -> None:
    """What is promised about another router is left out."""
    other = RouterKey("http://10.0.0.2:1", "http://gpu-box:1")
    pins = (Pin(ROUTER, "a", OWNER, 1.0), Pin(other, "b", OWNER, 1.0))
    chosen = Promises((hold(),), pins, (lease(),)).select(other)

    assert Promises((), pins[1:], ()) == chosen


def test_owner_label() -> None:
    """An owner is shown as user and host."""
    assert "ann@box" == LogEntry("1", 1.0, ROUTER, OWNER, "unload", "unload", "a", "unloaded").owner.label

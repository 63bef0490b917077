"""Making room: the fewest models, the right ones of as few, and a plain word where it cannot be."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.ops.measurement import Child, Device, DeviceUse, HostMemory, Measurement, Process
from corral.ops.room import (
    HOST,
    RoomPlan,
    Share,
    choose,
    find_idle_s,
    pick_device,
    pick_fewest,
    read_sleep_idle_s,
)
from corral.wire import BadArgumentError, CorralError, Listing, Model, UnknownModelError, read_model

GIB = 1 << 30
GPU = Device("nvidia:0", "NVIDIA One", 24 * GIB, 18 * GIB, 6 * GIB, ())
OTHER = Device("nvidia:1", "NVIDIA Two", 8 * GIB, 0, 8 * GIB, ())
LENT = Device("drm:0000:00:02.0", "Intel", None, None, None, (), "the driver does not tell", is_lent=True)
MEMORY = HostMemory(64 * GIB, 10 * GIB, 30 * GIB)


def model(name: str, status: str = "loaded", *args: str, **fields: Any) -> Model:
    """A model as the list shows it."""
    read = read_model({"id": name, "status": {"value": status, "args": ["--port", "5000", *args]}, **fields})
    assert read is not None
    return read


def child(name: str, gib: float | None = 1, *, device: str = GPU.id, **fields: Any) -> Child:
    """A child that holds so much on a device; None is an amount that the driver does not tell."""
    used = None if gib is None else round(gib * GIB)
    values: dict[str, Any] = {"in_flight": 0, "host_bytes": used, "devices": (DeviceUse(device, used),)}
    return Child(name, Process(1, 1), 5000, **(values | fields))


def plan(gib: float, *children: Child, devices: tuple[Device, ...] = (GPU,), **options: Any) -> RoomPlan:
    """Choose among models that are loaded, one for each child."""
    models = options.pop("models", None) or tuple(model(one.model) for one in children if not one.is_hidden)
    measured = Measurement(children, devices, MEMORY, Process(9, 1))
    return choose(round(gib * GIB), Listing(models, True), measured, **options)


def reasons(found: RoomPlan) -> dict[str, str]:
    """Why each that stays does."""
    return {share.model: share.stays for share in found.leave}


# Which models.


def test_nothing_goes_where_there_is_room() -> None:
    """Where so much is free already, nothing is chosen."""
    found = plan(6, child("a"), child("b"))

    assert (found.names, found.missing_bytes, found.is_reachable) == ((), 0, True)
    assert reasons(found) == {"a": "not_needed", "b": "not_needed"}


CHOICES = {
    "one is enough": ({"a": 1, "b": 4, "c": 2}, 9, {"b"}),
    "the smallest that is enough": ({"a": 8, "b": 4, "c": 3}, 9, {"c"}),
    "fewer rather than closer": ({"a": 2, "b": 2, "c": 6}, 10, {"c"}),
    "the two that are closest": ({"a": 5, "b": 4, "c": 3, "d": 2}, 12, {"b", "d"}),
    "all are needed": ({"a": 2, "b": 2}, 10, {"a", "b"}),
    "what holds nothing stays": ({"a": 0, "b": 4}, 10, {"b"}),
}


@pytest.mark.parametrize("case", CHOICES)
def test_choice(case: str) -> None:
    """As few as can be, and of as few those that free the least beyond what is wanted."""
    held, wanted, chosen = CHOICES[case]
    found = plan(wanted, *(child(name, gib) for name, gib in held.items()))

    assert found.is_reachable and set(found.names) == chosen


def test_longest_idle_goes_first() -> None:
    """Of as few, the one that was used longest ago goes, even if it frees more than another."""
    found = plan(8, child("used", 2, last_active_s=3.0), child("old", 5), child("older", 4))
    assert found.names == ("older",), "neither was active within the minute, and less is freed"

    found = plan(8, child("a", 3, last_active_s=20.0), child("b", 3, last_active_s=40.0))
    assert found.names == ("b",)


def test_sleep_tells_of_idleness() -> None:
    """A sleeping model has been idle for as long as it takes to fall asleep, and goes before an awake one."""
    asleep = model("asleep", "sleeping", "--sleep-idle-seconds", "600")
    found = plan(8, child("asleep", 4), child("awake", 3), models=(asleep, model("awake")))

    assert found.names == ("asleep",) and found.unload[0].reason == "it is asleep"


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 60), st.data())
def test_fewest_and_best(sizes: list[int], wanted: int, data: st.DataObject) -> None:
    """No smaller set is enough, and among sets of that size none is idle for longer, or as long and closer."""
    idle = data.draw(st.lists(st.sampled_from([None, 1.0, 60.0]), min_size=len(sizes), max_size=len(sizes)))
    shares = [Share(str(at), size, "", "", idle[at]) for at, size in enumerate(sizes)]
    chosen = pick_fewest(shares, wanted)
    subsets = [group for count in range(len(shares) + 1) for group in combinations(shares, count)]
    enough = [group for group in subsets if sum(share.used_bytes or 0 for share in group) >= wanted]

    if not enough:
        assert chosen == [share for share in shares if share.used_bytes], "all that there is"
        return
    fewest = [group for group in enough if len(group) == len(enough[0])]
    assert len(chosen) == len(enough[0])
    assert max(map(rate, fewest)) == rate(chosen)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 1000), min_size=30, max_size=60), st.floats(0.05, 0.9))
def test_many_models_are_still_the_fewest(sizes: list[int], part: float) -> None:
    """With too many models to compare all sets, the number is minimal all the same and the sum is enough."""
    shares = [Share(str(at), size, "", "", float(size % 7)) for at, size in enumerate(sizes)]
    wanted = max(1, int(sum(sizes) * part))
    chosen = pick_fewest(shares, wanted)
    largest = sorted(sizes, reverse=True)

    assert sum(share.used_bytes or 0 for share in chosen) >= wanted
    assert len({share.model for share in chosen}) == len(chosen)
    assert sum(largest[: len(chosen) - 1]) < wanted, "one fewer is never enough"


def rate(group: Any) -> tuple[list[float], int]:
    """The rule in other words."""
    idle = sorted(-1.0 if share.idle_s is None else share.idle_s for share in group)
    return idle, -sum(share.used_bytes or 0 for share in group)


# Which never.

STAYS: dict[str, tuple[Child, Model, dict[str, Any], str]] = {
    "pinned": (child("a"), model("a"), {"pinned": ("a",)}, "pinned"),
    "excepted": (child("a"), model("a", aliases=["other"]), {"excepted": ("other",)}, "excepted"),
    "busy": (child("a", in_flight=2), model("a"), {}, "busy"),
    "loading": (child("a"), model("a", "loading"), {}, "loading"),
    "elsewhere": (child("a", device=OTHER.id), model("a"), {}, "nothing_there"),
    "amount not told": (child("a", None), model("a"), {}, "not_visible"),
    "no device read": (child("a", devices=None), model("a"), {}, "not_visible"),
    "connections not read": (child("a", in_flight=None), model("a"), {}, "not_visible"),
    "hidden": (child("a", is_hidden=True), model("b", "unloaded"), {}, "hidden"),
}


@pytest.mark.parametrize("case", STAYS)
def test_who_stays(case: str) -> None:
    """What is pinned, excepted, at work, coming up, not seen or not there is never chosen, and it is said why."""
    one, listed, options, word = STAYS[case]
    found = plan(7, one, models=(listed,), **options)

    assert (found.names, found.is_reachable) == ((), False)
    assert reasons(found) == {"a": word} and found.leave[0].reason


def test_sleeping_model_needs_no_connections_seen() -> None:
    """Sleep says that nothing is being answered, also where connections cannot be read."""
    found = plan(7, child("a", in_flight=None), models=(model("a", "sleeping"),))

    assert found.names == ("a",)


def test_resident_that_is_not_seen_stays() -> None:
    """A model whose process is not found is left alone; one without a process yet is loading."""
    models = (model("a"), model("b", "loading"), model("c", "unloaded"))
    found = plan(7, models=models)

    assert reasons(found) == {"a": "not_visible", "b": "loading"}


def test_unknown_exception_is_an_error() -> None:
    """A name that was to be protected and is no model's stops everything."""
    with pytest.raises(UnknownModelError):
        plan(7, child("a"), excepted=("aa",))


# What cannot be.


def test_shortfall_is_told_with_all_that_may_go() -> None:
    """Where it cannot be reached, the plan has the best that can be done, and by how much that falls short."""
    found = plan(12, child("a", 2), child("b", 1))

    assert (found.names, found.short_bytes, found.obstacle) == (("a", "b"), 3 * GIB, "")


OBSTACLES = {
    "busy would do": ([child("a", 2), child("b", 4, in_flight=1)], "busy"),
    "pinned would do": ([child("a", 2), child("p", 4)], "pinned"),
    "busy and pinned would do": ([child("a", 2, in_flight=1), child("p", 4)], "pinned"),
    "busy or pinned would do": ([child("a", 6, in_flight=1), child("p", 6)], "busy"),
    "nothing would do": ([child("a", 2), child("b", 1, in_flight=1), child("p", 1)], ""),
}


@pytest.mark.parametrize("case", OBSTACLES)
def test_obstacle(case: str) -> None:
    """What stands in the way is named: work in flight if waiting would do, pins if only without them."""
    children, word = OBSTACLES[case]
    found = plan(12, *children, pinned=("p",))

    assert not found.is_reachable and found.obstacle == word


# Which device.


def test_device_by_default() -> None:
    """The only device; of several the first that a child uses; memory that the machine lends is the machine's."""
    measured = Measurement((child("a", device=OTHER.id),), (GPU, OTHER), MEMORY)

    assert pick_device(Measurement((), (GPU,), MEMORY)) == GPU
    assert pick_device(Measurement((), (GPU, OTHER), MEMORY)) == GPU
    assert pick_device(measured) == OTHER
    assert pick_device(Measurement((), (LENT,), MEMORY)).id == HOST
    assert pick_device(Measurement((), (), MEMORY)).id == HOST


def test_device_by_name() -> None:
    """A device is named by its place, its id, or as the host; another word is an error that lists them."""
    measured = Measurement((), (GPU, OTHER), MEMORY)

    assert [pick_device(measured, name) for name in ("1", "nvidia:0")] == [OTHER, GPU]
    assert pick_device(measured, HOST) == Device(HOST, "host memory", 64 * GIB, 54 * GIB, 10 * GIB, None)
    for wrong in ("2", "-1", "nvidia", "\x1b[31m"):
        with pytest.raises(BadArgumentError) as caught:
            pick_device(measured, wrong)
        assert "0 (nvidia:0), 1 (nvidia:1), host" in caught.value.hint and caught.value.message.isprintable()


def test_host_memory() -> None:
    """Without a device the machine's memory is meant: what is available, and what each child's end gives back."""
    found = plan(11, child("a", 3, devices=()), child("b", 2, devices=()), devices=())

    assert (found.device.id, found.free_bytes, found.names) == (HOST, 10 * GIB, ("b",))


@pytest.mark.parametrize(
    "measured",
    [
        Measurement((), reason="it is another machine"),
        Measurement((), (Device("nvidia:0", "NVIDIA", None, None, None, None, "no rights"),), MEMORY),
        Measurement((), (), None),
        Measurement((), (), HostMemory(None, None, None)),
    ],
)
def test_blindness_is_an_error(measured: Measurement) -> None:
    """What cannot be seen is not guessed: the refusal has the reason."""
    with pytest.raises(CorralError) as caught:
        choose(GIB, Listing((), None), measured)

    assert not isinstance(caught.value, BadArgumentError)
    assert "cannot be seen: " in caught.value.message and caught.value.hint


# How long idle.


@pytest.mark.parametrize(
    ("status", "args", "fields", "idle_s"),
    [
        ("loaded", (), {}, 60.0),
        ("loaded", (), {"last_active_s": 7.5}, 7.5),
        ("loaded", (), {"in_flight": 1, "last_active_s": 0.0}, 0.0),
        ("loaded", (), {"in_flight": None}, None),
        ("loaded", ("--sleep-idle-seconds", "600"), {}, 60.0),
        ("sleeping", ("--sleep-idle-seconds", "600"), {"last_active_s": 3.0}, 600.0),
        ("sleeping", ("--sleep-idle-seconds", "600"), {"in_flight": None}, 600.0),
        ("sleeping", ("--sleep-idle-seconds",), {}, 60.0),
        ("sleeping", ("--sleep-idle-seconds", "soon"), {}, 60.0),
    ],
)
def test_idle_time_of_one_look(status: str, args: tuple[str, ...], fields: dict[str, Any], idle_s: float) -> None:
    """One look tells a lower bound: what the system remembers, and the time that it takes to fall asleep."""
    assert find_idle_s(model("a", status, *args), child("a", **fields)) == idle_s


def test_odd_arguments_say_nothing_of_sleep() -> None:
    """A build that lists no arguments, or a status in words, is no error."""
    for entry in ({"id": "a", "status": "sleeping"}, {"id": "a", "status": {"value": "sleeping", "args": "x"}}):
        read = read_model(entry)
        assert read is not None and read_sleep_idle_s(read) is None

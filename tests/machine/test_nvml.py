"""NVIDIA cards by the driver's library: what its manual says that it answers. None of this ran on a card."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.machine.nvml import load_library, read_cards, start
from corral.machine.readings import Card, CardsUnreadableError, Use
from tests.machine.cards import FakeCard, FakeError, FakeLibrary, Memory, Usage


def test_compute_and_graphics_are_united() -> None:
    """A process that computes, one that draws and one that does both are each named once."""
    card = FakeCard("RTX", Memory(24_000, 9_000), (Usage(5, 700), Usage(6, 50)), (Usage(6, 60), Usage(7, 8)))

    assert [Card("nvidia:0", "RTX", 24_000, 9_000, 15_000, (Use(5, 700), Use(6, 60), Use(7, 8)))] == read_cards(
        FakeLibrary(card)
    )


def test_amount_that_is_not_told() -> None:
    """A process without an amount is named all the same, and its amount is unknown."""
    card = FakeCard(compute=(Usage(5, None), Usage(6, None)), graphics=(Usage(6, 60),))

    assert (Use(5, None), Use(6, 60)) == read_cards(FakeLibrary(card))[0].uses


def test_parts_of_a_card() -> None:
    """A card in MIG mode is told by those of its parts that there are."""
    parts = (FakeCard("part", Memory(10, 4), (Usage(5, 3),)), None, FakeCard("part", Memory(20, 0)))
    cards = read_cards(FakeLibrary(FakeCard(), FakeCard(parts=parts)))

    assert ["nvidia:0", "nvidia:1:0", "nvidia:1:2"] == [card.id for card in cards]
    assert (10, 4, 6, (Use(5, 3),)) == (cards[1].total_bytes, cards[1].used_bytes, cards[1].free_bytes, cards[1].uses)


def test_parts_that_may_not_be_seen() -> None:
    """Where no part of a card in MIG mode may be seen, the card itself is told."""
    assert ["nvidia:0"] == [card.id for card in read_cards(FakeLibrary(FakeCard(parts=(None, None))))]


def test_old_driver() -> None:
    """A driver that lacks the newest question is asked the one before."""
    names = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
    missing = dict.fromkeys(names, "Function Not Found")
    card = read_cards(FakeLibrary(FakeCard(compute=(Usage(5, 1),)), missing=missing))[0]

    assert ((Use(5, 1),), "") == (card.uses, card.reason)


def test_what_is_not_supported_is_unknown() -> None:
    """A card that shares the machine's memory tells none of its own; a refused list of processes is no empty one."""
    refused = FakeError("Not Supported")
    shared = FakeCard("GB10", refused, (Usage(5, 7),))
    silent = FakeCard(compute=refused, graphics=refused)
    partly = FakeCard(compute=(Usage(5, 7),), graphics=FakeError("Insufficient Permissions"))
    one, two, three = read_cards(FakeLibrary(shared, silent, partly))

    assert (None, None, (Use(5, 7),), "memory: Not Supported") == (
        one.total_bytes,
        one.free_bytes,
        one.uses,
        one.reason,
    )
    assert (None, "processes: Not Supported") == (two.uses, two.reason)
    assert ((Use(5, 7),), "processes: Insufficient Permissions") == (three.uses, three.reason)


def test_name_of_an_old_package() -> None:
    """Old releases of the package give names as bytes, and a card without one still has an entry."""
    cards = read_cards(FakeLibrary(FakeCard(b"Tesla"), FakeCard(FakeError("Unknown"))))

    assert ["Tesla", "NVIDIA"] == [card.name for card in cards]


def test_lost_card() -> None:
    """A card that has fallen off the bus does not hide the others."""

    class Losing(FakeLibrary):
        def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeCard:  # noqa: N802 - NVML's
            """The first card is gone."""
            if index == 0:
                raise FakeError("GPU is lost")
            return super().nvmlDeviceGetHandleByIndex(index)

    lost, well = read_cards(Losing(FakeCard(), FakeCard()))

    assert ("GPU is lost", None, "") == (lost.reason, lost.uses, well.reason)


def test_no_driver() -> None:
    """A library that finds no driver says why, in its own words."""
    with pytest.raises(CardsUnreadableError, match="NVML: Driver Not Loaded"):
        start(FakeLibrary(broken="Driver Not Loaded"))
    with pytest.raises(CardsUnreadableError, match="Uninitialized"):
        read_cards(FakeLibrary(missing={"nvmlDeviceGetCount": "Uninitialized"}))


def test_package_has_what_is_asked_of_it() -> None:
    """The package's newest release has every function that is called here; without a driver it says so."""
    library = pytest.importorskip("pynvml")
    names = [name for name in dir(FakeLibrary) if name.startswith("nvml")]

    assert not [name for name in names if not callable(getattr(library, name, None))]
    assert load_library() is library


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.integers(), st.text()), st.one_of(st.none(), st.integers(), st.text())))
)
def test_junk_never_raises(pairs: list[tuple[Any, Any]]) -> None:
    """Whatever a driver names, reading it ends in whole numbers or in None."""
    card = FakeCard(name=7, memory=object(), compute=tuple(Usage(*pair) for pair in pairs), graphics=object())
    found = read_cards(FakeLibrary(card))[0]

    assert all(isinstance(use.pid, int) and (use.used_bytes is None or use.used_bytes >= 0) for use in found.uses or ())

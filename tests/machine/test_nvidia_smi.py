"""NVIDIA cards by the program ``nvidia-smi``: the shapes of its lines. None of this ran on a card."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.machine.nvidia_smi import CARDS, USES, parse_cards, parse_uses, read_cards, run_tool
from corral.machine.readings import Card, CardsUnreadableError, Use

MIB = 1 << 20
PRINTED_CARDS = """0, GPU-aa, NVIDIA GeForce RTX 4090, 24564, 9000, 15564
1, GPU-bb, Odd, Name, 80, [N/A], [Not Supported]
"""
PRINTED_USES = "GPU-aa, 501, 8000, /opt/llama/llama-server\nGPU-aa, 9, [N/A], game, the\nGPU-bb, 7, 1, x\n"


class Tool:
    """A program that prints what it is told to, or fails."""

    def __init__(self, cards: str = PRINTED_CARDS, uses: str | None = PRINTED_USES) -> None:
        self._printed = {CARDS: cards, USES: uses}

    def __call__(self, command: Sequence[str]) -> str:
        printed = self._printed[tuple(command)]  # type: ignore[index]  # one of the two
        if printed is None:
            raise CardsUnreadableError("nvidia-smi failed")
        return printed


def test_cards_and_processes() -> None:
    """Cards are read with their processes, names with commas included; what is not told is unknown."""
    one, two = read_cards(Tool())

    assert (
        Card("nvidia:0", "NVIDIA GeForce RTX 4090", 24564 * MIB, 9000 * MIB, 15564 * MIB, one.uses, one.reason) == one
    )
    assert (Use(501, 8000 * MIB, "llama-server"), Use(9, None, "game, the")) == one.uses
    assert ("Odd,Name", 80 * MIB, None, None, (Use(7, MIB, "x"),)) == (
        two.name,
        two.total_bytes,
        two.used_bytes,
        two.free_bytes,
        two.uses,
    )
    assert "compute processes only" in one.reason


def test_processes_that_are_not_printed() -> None:
    """A program that prints cards and refuses processes leaves the processes unknown."""
    card = read_cards(Tool(uses=None))[0]

    assert (None, "nvidia-smi failed") == (card.uses, card.reason)


def test_program_itself() -> None:
    """A program's output is taken if it succeeds; a missing and a failing one say so."""
    assert "hello" == run_tool([sys.executable, "-c", "print('hello', end='')"])
    with pytest.raises(CardsUnreadableError, match="not installed"):
        run_tool(["/nowhere/nvidia-smi"])
    with pytest.raises(CardsUnreadableError, match="couldn't communicate"):
        run_tool([sys.executable, "-c", "print('NVIDIA-SMI has failed because it couldn\\'t communicate'); exit(9)"])


@given(st.text(max_size=200))
def test_junk_never_raises(junk: str) -> None:
    """Whatever is printed, reading it ends."""
    list(parse_cards(f"{junk}\n0, {junk}, a, 1, 2, 3"))
    list(parse_uses(f"{junk}\nGPU-aa, 7, {junk}"))

"""What is said of pinned models that a verb passed over."""

from __future__ import annotations

from corral.ops import Selection, Unload
from corral.ops.sparing import Sparing
from tests.ops.world import World, model

SELECTION = Selection((), True, pinned=("kept",))


def test_spared_models_are_those_of_the_newest_list() -> None:
    """The verb runs as ever; the pinned models that were resident when it ended are known beside its report."""
    sparing = Sparing(Unload(SELECTION, wait=False), SELECTION)
    world = World(sparing)
    world.show(model("kept"), model("other", "unloaded", None))

    assert () == world.report.outcomes
    assert ("kept",) == sparing.spared
    assert sparing.deadline is not None and world.now < sparing.deadline


def test_interruption_reaches_the_verb() -> None:
    """An interruption ends the verb that is run."""
    sparing = Sparing(Unload(SELECTION), SELECTION)
    world = World(sparing)
    world.interrupt()

    assert world.report.interrupted
    assert () == sparing.spared

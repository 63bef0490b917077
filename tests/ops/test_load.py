"""The load verb, input by input."""

from __future__ import annotations

import pytest

from corral.ops import Load, LoadProgress, Unsent
from corral.wire import (
    AuthError,
    BadArgumentError,
    BrokenCallError,
    Model,
    RefusedError,
    UnknownModelError,
    UnreachableError,
)
from tests.ops.world import World, model


def begin(names: tuple[str, ...], *models: Model, **options: bool | float | None) -> World:
    """Look, open the stream, look again: the first request is out."""
    world = World(Load(names, **options))  # type: ignore[arg-type]  # options are the verb's own
    world.show(*models)
    if world.listens:
        world.open_stream()
        world.show(*models)
    return world


def test_loads_one_after_another() -> None:
    """The second model is asked for when the first was seen loaded."""
    world = begin(("a", "b"), model("a", "unloaded", None), model("b", "unloaded", None))
    assert world.sent == ["a"]
    world.answer("a")
    world.show(model("a", "loading", 1), model("b", "unloaded", None))
    world.hear("a", "loaded")
    world.show(model("a", "loaded", 1), model("b", "unloaded", None))
    assert world.sent == ["a", "b"]
    world.answer("b")
    world.show(model("a", "loaded", 1), model("b", "loaded", 2))

    assert world.report.ok and [item.outcome for item in world.report.outcomes] == ["loaded", "loaded"]


def test_resident_models_are_left_alone() -> None:
    """Loaded and sleeping models need no request."""
    world = begin(("a", "b"), model("a"), model("b", "sleeping"))

    assert world.sent == [] and world.report.ok
    assert {item.outcome for item in world.report.outcomes} == {"already_loaded"}


def test_download_is_let_end_first() -> None:
    """The router would confirm the load of a model that is downloading, and do nothing: it is asked afterwards."""
    world = begin(("a",), model("a", "downloading", None))
    world.show(model("a", "downloading", None))
    assert world.sent == []
    world.show(model("a", "unloaded", None))
    assert world.sent == ["a"]
    world.answer("a")
    world.show(model("a", "loaded", 1))

    assert world.outcome("a") == "loaded" and world.report.outcomes[0].detail == ""


@pytest.mark.parametrize("options", [{"wait": False}, {"timeout_s": 1.0}])
def test_download_that_does_not_end_in_time(options: dict[str, bool | float | None]) -> None:
    """Nothing is asked for a model that is still downloading, and the report says why."""
    world = begin(("a",), model("a", "downloading", None), **options)
    while world.report is None:
        world.show(model("a", "downloading", None))

    assert world.sent == [] and world.outcome("a") == "not_requested"
    assert "downloading" in world.report.outcomes[0].detail


def test_load_under_way_is_watched() -> None:
    """A model that somebody else is loading is waited for without a request."""
    world = begin(("a",), model("a", "loading", 1))
    world.show(model("a", "loaded", 1))

    assert world.sent == [] and world.outcome("a") == "loaded"


def test_failed_load_has_its_exit_code() -> None:
    """A child that ended again is a failed load, told by its new port or by having been seen."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a")
    world.show(model("a", "unloaded", 7, exit_code=1))

    assert world.outcome("a") == "load_failed" and world.report.outcomes[0].exit_code == 1


def test_old_failure_is_not_taken_for_a_new_one() -> None:
    """An exit code from before the request does not end the wait."""
    before = model("a", "unloaded", 7, exit_code=1)
    world = begin(("a",), before)
    world.answer("a")
    world.show(before)
    assert world.report is None
    world.show(model("a", "loaded", 8))

    assert world.outcome("a") == "loaded"


def test_load_that_never_starts_ends() -> None:
    """A request that was accepted and then shows no child for 5 s has failed."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a")
    while world.report is None:
        world.show(model("a", "unloaded", None))

    assert world.outcome("a") == "load_failed" and world.now < 110


def test_evicted_model_is_named() -> None:
    """What the router unloaded for the newcomer is in the report; what was not resident is not."""
    world = begin(("c",), model("a"), model("b", "unloaded"), model("c", "unloaded", None))
    world.answer("c")
    world.show(model("a", "unloaded"), model("b", "unloaded"), model("c", "loaded", 3))

    assert world.report.outcomes[0].evicted == ("a",)


def test_refusals_have_their_words() -> None:
    """A refused and a denied load are told apart, and the next model still has its turn."""
    models = (model("a", "unloaded", None), model("b", "unloaded", None))
    world = begin(("a", "b"), *models)
    world.answer("a", RefusedError("model limit reached", status=500))
    world.answer("b", AuthError("no", status=401))

    assert (world.outcome("a"), world.outcome("b")) == ("refused", "denied")
    assert world.report.outcomes[0].detail == "model limit reached"


def test_model_that_the_router_no_longer_knows() -> None:
    """A 404 means that the model left the router between the look and the request."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a", RefusedError("The router refuses: File Not Found", status=404))

    assert world.outcome("a") == "vanished"


def test_already_running_is_watched() -> None:
    """The refusal ``already running`` means that the model is coming up for somebody else."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a", RefusedError("model is already running", status=400))
    world.show(model("a", "loaded", 1))

    assert world.outcome("a") == "loaded"


def test_broken_post_is_repeated_once_after_a_look() -> None:
    """After a broken request: asked again only when a look shows that nothing came of it, and only once."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a", BrokenCallError("reset"))
    assert world.sent == ["a"]
    world.show(model("a", "unloaded", None))
    assert world.sent == ["a", "a"]
    world.answer("a", BrokenCallError("reset"))
    world.show(model("a", "unloaded", None))

    assert world.sent == ["a", "a"] and world.outcome("a") == "unreachable"


def test_look_that_fails_too_shows_nothing() -> None:
    """After a broken request a look that fails as well is no reason to ask again: the next one may show the child."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a", BrokenCallError("reset"))
    world.fail_look(UnreachableError("gone"))
    assert world.sent == ["a"]
    world.show(model("a", "loading", 1))
    world.show(model("a", "loaded", 1))

    assert world.sent == ["a"] and world.outcome("a") == "loaded"


def test_broken_post_that_was_acted_on_is_not_repeated() -> None:
    """After a broken request a child that is coming up is simply waited for."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a", BrokenCallError("reset"))
    world.show(model("a", "loading", 1))
    world.show(model("a", "loaded", 1))

    assert world.sent == ["a"] and world.outcome("a") == "loaded"


def test_progress_is_passed_on() -> None:
    """Load progress from the stream reaches the person."""
    world = begin(("a",), model("a", "unloaded", None))
    world.hear("a", "loading", progress=0.5, stage="text_model")

    assert LoadProgress("a", "text_model", 0.5) in world.said


def test_time_limit_and_interrupt() -> None:
    """A model not seen loaded in time, and one interrupted, are reported as such."""
    late = begin(("a",), model("a", "unloaded", None), timeout_s=3.0)
    late.answer("a")
    while late.report is None:
        late.show(model("a", "loading", 1))
    stopped = begin(("a", "b"), model("a", "unloaded", None), model("b", "unloaded", None))
    stopped.interrupt()

    assert late.outcome("a") == "not_seen_loaded"
    assert (stopped.outcome("a"), stopped.outcome("b")) == ("requested", "not_requested")


def test_no_wait_returns_with_the_answer() -> None:
    """Without waiting each model is asked for in turn, and the report says requested."""
    world = begin(("a", "b"), model("a", "unloaded", None), model("b", "unloaded", None), wait=False)
    world.answer("a")
    world.answer("b")

    assert world.sent == ["a", "b"]
    assert [item.outcome for item in world.report.outcomes] == ["requested", "requested"]


def test_vanished_model() -> None:
    """A model that leaves the list while loading is reported."""
    world = begin(("a",), model("a", "unloaded", None))
    world.answer("a")
    world.show()

    assert world.outcome("a") == "vanished"


def test_unknown_and_missing_names() -> None:
    """An unknown name stops before anything is asked; no name is a usage error."""
    with pytest.raises(UnknownModelError):
        begin(("x",), model("a"))
    with pytest.raises(BadArgumentError):
        Load(())


def test_interrupt_before_the_request_went_out() -> None:
    """A request that the driver had not yet sent is not reported as asked for."""
    world = begin(("a",), model("a", "unloaded", None))
    world.give(Unsent("a"))
    world.interrupt()

    assert world.outcome("a") == "not_requested"


def test_model_that_had_to_go_again_is_no_success() -> None:
    """Of more models than the router holds, those that were pushed out by the later ones are told."""
    world = World(Load(("a", "b")))
    world.show(model("a", "unloaded", None), model("b", "unloaded", None), has_events=False)
    world.answer("a")
    world.show(model("a", "loaded", 1), model("b", "unloaded", None), has_events=False)
    world.answer("b")
    world.show(model("a", "unloaded", 1), model("b", "loaded", 2), has_events=False)

    assert (world.outcome("a"), world.outcome("b")) == ("gone_again", "loaded") and not world.report.ok
    assert "when b was loaded" in world.report.outcomes[0].detail

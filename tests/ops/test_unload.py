"""The unload verb, input by input."""

from __future__ import annotations

import pytest

from corral.ops import Ended, Selection, Unload, Unsent, Waiting
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

ALL = Selection((), True)
NOT_RUNNING = RefusedError("The router refuses: model is not running", status=400)


def begin(*models: Model, selection: Selection = ALL, **options: bool | float | None) -> World:
    """Look, open the stream, look again: the requests are out."""
    world = World(Unload(selection, **options))  # type: ignore[arg-type]  # options are the verb's own
    world.show(*models)
    if world.report is None and world.listens:
        world.open_stream()
        world.show(*models)
    return world


def test_all_residents_are_unloaded_and_seen() -> None:
    """Loaded and sleeping models are asked for at once; the list, not the event, ends it."""
    world = begin(model("a", port=1), model("b", "sleeping", port=2), model("c", "unloaded", None))

    assert sorted(world.sent) == ["a", "b"]
    world.answer("a")
    world.answer("b")
    world.hear("a", "unloaded")
    assert world.looks == 0, "one more is still expected, so no look yet"
    world.hear("b", "unloaded")
    world.show(model("a", "unloaded", 1), model("b", "unloaded", 2), model("c", "unloaded", None))

    assert world.report.ok
    assert [item.model for item in world.report.outcomes] == ["a", "b"]
    assert all(item.seconds is not None and 0 < item.seconds < 1 for item in world.report.outcomes)


def test_nothing_resident_is_success_without_a_call() -> None:
    """With nothing to do no stream is opened and nothing is sent."""
    world = begin(model("a", "unloaded"))

    assert world.report.ok and world.report.outcomes == () and world.sent == [] and world.listens == 0


def test_success_of_the_router_is_not_enough() -> None:
    """A model that stays listed is not called unloaded, however often the router said success."""
    world = begin(model("a", stop_timeout=10))
    world.answer("a")
    for _ in range(200):
        if world.report is not None:
            break
        world.show(model("a"))

    assert world.outcome("a") == "not_seen_unloaded" and not world.report.ok
    assert world.now - 100.0 == pytest.approx(30.0, abs=2.5), "stop-timeout plus 20 s"


def test_looks_keep_coming_while_the_stream_is_silent() -> None:
    """A stream that says nothing delays a look by 2 s at most."""
    world = begin(model("a"))
    world.answer("a")
    before = world.now
    world.show(model("a", "unloaded"))

    assert world.report.ok and world.now - before <= 2.1


def test_without_a_stream_the_list_is_polled() -> None:
    """On a build without events no stream is asked for, and looks follow quickly."""
    world = World(Unload(ALL))
    world.show(model("a"), has_events=False)
    world.answer("a")
    before = world.now
    world.show(model("a", "unloaded"), has_events=False)

    assert world.listens == 0 and world.report.ok and world.now - before < 0.1


def test_loading_model_is_let_up_first() -> None:
    """A loading model is asked for only when the list shows it up, and then unloaded."""
    world = begin(model("a", "loading", 1))
    assert world.sent == []
    world.hear("a", "loaded")
    world.show(model("a", "loaded", 1))
    assert world.sent == ["a"]
    world.answer("a")
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1))

    assert world.report.ok


def test_loading_model_is_killed_only_at_once() -> None:
    """``at_once`` asks for a loading model right away."""
    assert begin(model("a", "loading", 1), at_once=True).sent == ["a"]


def test_loading_model_that_never_comes_up_is_left_alone() -> None:
    """At the end of the time a loading model was not asked for, and the report says so."""
    world = begin(model("a", "loading", 1), timeout_s=5.0)
    while world.report is None:
        world.show(model("a", "loading", 1))

    assert world.outcome("a") == "still_loading" and world.sent == []


def test_load_that_fails_meanwhile_is_unloaded() -> None:
    """A model whose load ends by itself was seen unloaded."""
    world = begin(model("a", "loading", 1))
    world.hear("a", "unloaded")
    world.show(model("a", "unloaded", 1, exit_code=1))

    assert world.outcome("a") == "unloaded" and "load ended" in world.report.outcomes[0].detail


def test_changed_port_means_it_came_back() -> None:
    """A model under a new port went and came between two looks, and its end counts as seen."""
    world = begin(model("a", port=1))
    world.answer("a")
    world.show(model("a", "loaded", 2))

    assert world.outcome("a") == "came_back"


def test_resident_after_its_end_was_heard_means_it_came_back() -> None:
    """A new child under the very same port is still a new child."""
    world = begin(model("a", port=1))
    world.answer("a")
    world.hear("a", "unloaded")
    world.show(model("a", "loading", 1))

    assert world.outcome("a") == "came_back"


def test_back_while_others_still_stop() -> None:
    """A model seen gone is watched until the last one is gone."""
    world = begin(model("a", port=1), model("b", port=2))
    world.show(model("a", "unloaded", 1), model("b", "loaded", 2))
    world.show(model("a", "loading", 3), model("b", "loaded", 2))
    world.show(model("a", "loaded", 3), model("b", "unloaded", 2))

    assert (world.outcome("a"), world.outcome("b")) == ("came_back", "unloaded")


def test_event_from_before_the_request_counts_for_nothing() -> None:
    """An end that was heard before the request is not this request's."""
    world = World(Unload(ALL))
    world.show(model("a", port=1))
    world.open_stream()
    early = world.now
    world.show(model("a", port=1))
    from corral.ops import Heard
    from tests.ops.world import event

    world.give(Heard(event("a", "unloaded"), early))
    world.show(model("a", port=1))

    assert world.report is None, "the same child is still stopping"


def test_not_running_counts_only_after_a_look() -> None:
    """The refusal ``model is not running`` is success when the list shows it unloaded."""
    world = begin(model("a"))
    world.answer("a", NOT_RUNNING)
    assert world.report is None
    world.show(model("a", "unloaded"))

    assert world.outcome("a") == "unloaded"


def test_not_running_while_still_listed_is_asked_once_more_and_then_refused() -> None:
    """A refusal that the list contradicts is tried once more, and no more."""
    world = begin(model("a"))
    world.answer("a", NOT_RUNNING)
    world.show(model("a"))
    assert world.sent == ["a", "a"]
    world.answer("a", NOT_RUNNING)
    world.show(model("a"))

    assert world.sent == ["a", "a"] and world.outcome("a") == "refused"


def test_broken_post_is_not_repeated_before_a_look() -> None:
    """After a broken request the list decides: gone means done, the same child means one more try."""
    world = begin(model("a"), model("b"))
    world.answer("a", BrokenCallError("reset"))
    world.answer("b", BrokenCallError("reset"))
    assert world.sent == ["a", "b"]
    world.show(model("a", "unloaded"), model("b"))
    assert world.sent == ["a", "b", "b"]
    world.answer("b")
    world.hear("b", "unloaded")
    world.show(model("a", "unloaded"), model("b", "unloaded"))

    assert world.report.ok


def test_one_refusal_stops_no_other() -> None:
    """A model that the router refuses leaves the others as they are."""
    world = begin(model("a"), model("b"))
    world.answer("a", RefusedError("boom", status=500))
    world.answer("b")
    world.show(model("a"), model("b", "unloaded"))

    assert (world.outcome("a"), world.outcome("b")) == ("refused", "unloaded")
    assert world.report.outcomes[0].error is not None


def test_denied_has_its_own_word() -> None:
    """A 401 to the request is told apart."""
    world = begin(model("a"))
    world.answer("a", AuthError("no", status=401))
    world.show(model("a"))

    assert world.outcome("a") == "denied"


def test_vanished_model_is_not_called_unloaded() -> None:
    """A model that leaves the list unheard is reported as vanished, one heard to end as unloaded."""
    world = begin(model("a"), model("b"))
    world.hear("b", "unloaded")
    while world.report is None:
        world.show()

    assert (world.outcome("a"), world.outcome("b")) == ("vanished", "unloaded")


def test_model_that_reappears_is_followed_on() -> None:
    """A model missing from one look and back in the next is still waited for."""
    world = begin(model("a"))
    world.answer("a")
    world.show()
    world.show(model("a"))
    world.show(model("a", "unloaded"))

    assert world.outcome("a") == "unloaded"


def test_killed_at_stop_timeout_is_said_and_no_crash() -> None:
    """An exit code after the unload is reported as the router's kill."""
    world = begin(model("a"))
    world.answer("a")
    world.show(model("a", "unloaded", exit_code=1))

    assert world.outcome("a") == "unloaded"
    assert "killed" in world.report.outcomes[0].detail and world.report.outcomes[0].exit_code == 1


def test_no_wait_ends_with_the_answers() -> None:
    """Without waiting the report says requested, and a loading model is left alone."""
    world = begin(model("a"), model("b", "loading"), wait=False)
    world.answer("a")

    assert (world.outcome("a"), world.outcome("b")) == ("requested", "still_loading")
    assert world.listens == 0


def test_names_choose_and_not_resident_is_said() -> None:
    """A named model that is not resident is reported, and a downloading one is asked for last and apart."""
    models = (model("a", "unloaded"), model("d", "downloading"), model("z"))
    world = begin(*models, selection=Selection(("d", "a", "z")))

    assert world.sent == ["z", "d"]
    world.answer("z")
    world.answer("d")
    world.show(model("a", "unloaded"), model("d", "unloaded"), model("z", "unloaded"))
    assert world.outcome("a") == "already_unloaded" and world.report.ok


def test_downloading_is_taken_only_when_named() -> None:
    """``all`` leaves a download alone."""
    assert begin(model("d", "downloading")).report.outcomes == ()


def test_router_that_goes_away_ends_the_wait() -> None:
    """Looks that fail for 5 s end the verb, with the error and what is known."""
    world = begin(model("a"))
    world.answer("a")
    while world.report is None:
        world.fail_look(UnreachableError("gone"))

    assert isinstance(world.report.error, UnreachableError) and not world.report.ok
    assert world.now - 100.0 < 10


def test_router_that_goes_away_before_a_model_was_asked_for() -> None:
    """A model still loading when the router goes away was not asked for: it is not said to be loading, or too slow."""
    world = begin(model("a", port=1), model("b", "loading", 2))
    while world.report is None:
        world.fail_look(UnreachableError("gone"))
    outcome = world.report.outcomes[1]

    assert ("not_requested", "the router went away before it could be asked for") == (outcome.outcome, outcome.detail)


def test_look_that_had_no_time_left_blames_nobody() -> None:
    """The last look, cut because the time was up, is no sign that the router is gone."""
    world = begin(model("a"), timeout_s=2.0)
    world.answer("a")
    while world.report is None:
        while not world.looks and world.report is None:
            world.tick()
        if world.now >= 101.85:
            world.now = 102.0
            world.fail_look(UnreachableError("cut"))
        else:
            world.show(model("a"))

    assert world.report.error is None and "not_seen_unloaded" == world.outcome("a")


def test_router_that_restarts_is_waited_for() -> None:
    """A short absence is survived."""
    world = begin(model("a", port=1))
    world.answer("a")
    world.fail_look(UnreachableError("gone"))
    world.show(model("a", "unloaded", None))

    assert world.report.ok


def test_first_look_that_fails_raises() -> None:
    """As long as nothing was asked, an unreachable router is an exception."""
    world = World(Unload(ALL))

    with pytest.raises(UnreachableError):
        world.fail_look(UnreachableError("gone"))


def test_interrupted_report_says_what_was_not_done() -> None:
    """Ctrl-C leaves a report with what was asked and what was not."""
    world = begin(model("a"), model("b", "loading"))
    world.answer("a")
    world.interrupt()

    assert world.report.interrupted and not world.report.ok
    assert (world.outcome("a"), world.outcome("b")) == ("requested", "not_requested")


def test_ended_from_elsewhere_is_an_interruption() -> None:
    """Somebody else may end it, between two calls; its report says what was not done."""
    world = begin(model("a", "loading"))
    world.give(Ended("released"))

    assert world.report.interrupted and "not_requested" == world.outcome("a")


def test_interrupt_before_anything() -> None:
    """Ctrl-C before the first look gives an empty report."""
    world = World(Unload(ALL))
    world.interrupt()

    assert world.report.interrupted and world.report.outcomes == ()


def test_person_hears_why_it_takes_long() -> None:
    """While models are waited for, each is named with its reason."""
    world = begin(model("a", "loading"), timeout_s=5.0)
    waiting = [fact for fact in world.said if isinstance(fact, Waiting)]

    assert waiting and waiting[-1].models[0][0] == "a" and "loading" in waiting[-1].models[0][1]


@pytest.mark.parametrize(
    "selection",
    [Selection(), Selection(("a",), True), Selection(("a",), tags=("t",)), Selection(("a",), patterns=("*",))],
)
def test_contradicting_selections_are_refused(selection: Selection) -> None:
    """Nothing at all, and a name beside --all, are usage errors before anything is sent."""
    with pytest.raises(BadArgumentError):
        Unload(selection)


def test_unknown_exception_is_an_error() -> None:
    """A misspelt --except stops everything: it was meant to protect a model."""
    world = World(Unload(Selection((), True, excepted=("emebdder",))))

    with pytest.raises(UnknownModelError) as caught:
        world.show(model("embedder"), model("b"))
    assert caught.value.nearest == ("embedder",)


def test_interrupt_before_the_request_went_out() -> None:
    """A request that the driver had not yet sent is not reported as asked for."""
    world = begin(model("a"), model("b"))
    world.answer("a")
    world.give(Unsent("b"))
    world.interrupt()

    assert (world.outcome("a"), world.outcome("b")) == ("requested", "not_requested")


def test_failed_load_that_is_loaded_anew_came_back() -> None:
    """A model whose load ended by itself and that a client then loads again is not called unloaded."""
    world = begin(model("a", "loading", 1), model("b", port=2))
    world.show(model("a", "unloaded", 1, exit_code=1), model("b", port=2))
    world.show(model("a", "loaded", 3), model("b", port=2))
    world.answer("b")
    world.show(model("a", "loaded", 3), model("b", "unloaded", 2))

    assert (world.outcome("a"), world.outcome("b")) == ("came_back", "unloaded") and not world.report.ok


@pytest.mark.parametrize("selection", [Selection(("a", "b")), ALL])
def test_model_that_comes_up_meanwhile_is_told(selection: Selection) -> None:
    """What was not resident at first and is at the end is no success, named or meant by ``all``."""
    world = begin(model("a", "unloaded", 1), model("b", port=2), selection=selection)
    world.answer("b")
    world.show(model("a", "loaded", 3), model("b", "unloaded", 2))

    assert (world.outcome("a"), world.outcome("b")) == ("came_back", "unloaded")


def test_post_that_broke_twice_is_still_watched() -> None:
    """A request that breaks after it was acted on is no refusal: the model is watched to its end."""
    world = begin(model("a", port=1))
    world.answer("a", BrokenCallError("reset"))
    world.show(model("a", port=1))
    world.answer("a", BrokenCallError("reset"))
    for _ in range(5):
        world.show(model("a", port=1))
    assert world.report is None and world.sent == ["a", "a"]
    world.show(model("a", "unloaded", 1))

    assert world.outcome("a") == "unloaded"


def test_model_that_vanishes_for_long_and_reappears_is_followed_on() -> None:
    """A model missing for seconds and listed again is waited for as before."""
    world = begin(model("a", port=1), model("b", port=2))
    world.answer("a")
    world.answer("b")
    for _ in range(4):
        world.show(model("b", port=2))
    world.show(model("a", port=1), model("b", port=2))
    world.show(model("a", "unloaded", 1), model("b", "unloaded", 2))

    assert (world.outcome("a"), world.outcome("b")) == ("unloaded", "unloaded")


def test_kill_is_claimed_only_for_the_codes_of_a_kill() -> None:
    """A child that ended with another code was not killed by the router."""
    world = begin(model("a"))
    world.answer("a")
    world.show(model("a", "unloaded", exit_code=139))

    assert "killed" not in world.report.outcomes[0].detail and "139" in world.report.outcomes[0].detail


def test_event_of_one_is_looked_at_soon() -> None:
    """When one of several is heard to have gone, the list is read within a moment: an interruption tells the truth."""
    world = begin(model("a", port=1), model("b", port=2))
    world.answer("a")
    world.answer("b")
    world.hear("a", "unloaded")
    heard = world.now
    while not world.looks:
        world.tick()
    assert world.now - heard <= 0.15
    world.show(model("a", "unloaded", 1), model("b", port=2))
    world.interrupt()

    assert (world.outcome("a"), world.outcome("b")) == ("unloaded", "requested")


def test_silence_about_the_stream_holds_nothing_up() -> None:
    """A driver that never says whether the stream opened delays the requests by a few seconds at most."""
    world = World(Unload(ALL))
    world.show(model("a", port=1))
    while not world.sent:
        if world.looks:
            world.show(model("a", port=1))
        else:
            world.tick()

    assert world.now - 100 < 4


def test_restarted_router_is_told() -> None:
    """A list that has forgotten the child's port means a new router: what the old one left may live on."""
    world = begin(model("a", port=1))
    world.answer("a")
    world.show(model("a", "unloaded", None))

    assert "the router itself was restarted meanwhile; a child that hung may have outlived it" == (
        world.report.outcomes[0].detail
    )

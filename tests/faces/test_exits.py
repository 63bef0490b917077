"""Exit codes: every outcome and error has the one that the contract gives it."""

from __future__ import annotations

import pytest

from corral.faces.cli.exits import SUCCESS, code_of_error, code_of_report, code_of_wait, went_well
from corral.faces.cli.words import NEXT_STEPS
from corral.ops import LoadReport, Outcome, UnloadReport, WaitReport
from corral.ops import outcome as words
from corral.wire import (
    AuthError,
    BadArgumentError,
    BrokenCallError,
    CorralError,
    NotARouterError,
    RefusedError,
    UnknownModelError,
    UnreachableError,
)

GONE = UnreachableError("gone")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadArgumentError("x"), 2),
        (UnreachableError("x"), 3),
        (BrokenCallError("x"), 3),
        (NotARouterError("x"), 3),
        (UnknownModelError("x", "", ("a",), ()), 4),
        (AuthError("x", status=401), 9),
        (RefusedError("x", status=500), 1),
        (CorralError("x"), 1),
    ],
)
def test_errors(error: CorralError, code: int) -> None:
    """Each class of error has its code."""
    assert code == code_of_error(error)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((), 0),
        ((words.UNLOADED,), 0),
        ((words.UNLOADED, words.ALREADY_UNLOADED, words.REQUESTED), 0),
        ((words.CAME_BACK, words.CAME_BACK), 7),
        ((words.STILL_LOADING,), 6),
        ((words.NOT_SEEN_UNLOADED,), 1),
        ((words.VANISHED,), 1),
        ((words.REFUSED,), 1),
        ((words.NOT_REQUESTED,), 1),
        ((words.DENIED,), 9),
        ((words.UNREACHABLE,), 3),
        ((words.UNLOADED, words.CAME_BACK), 5),
        ((words.REFUSED, words.VANISHED), 5),
        ((words.CAME_BACK, words.STILL_LOADING), 5),
    ],
)
def test_unload_reports(outcomes: tuple[str, ...], code: int) -> None:
    """One kind of outcome has its own code, several kinds are 5."""
    report = UnloadReport(tuple(Outcome(f"m{at}", name, None) for at, name in enumerate(outcomes)), 1.0)

    assert code == code_of_report(report)
    assert (code == 0) == report.ok


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((words.LOADED, words.ALREADY_LOADED), 0),
        ((words.LOAD_FAILED,), 1),
        ((words.NOT_SEEN_LOADED,), 1),
        ((words.LOADED, words.LOAD_FAILED), 5),
    ],
)
def test_load_reports(outcomes: tuple[str, ...], code: int) -> None:
    """Loads follow the same rule."""
    report = LoadReport(tuple(Outcome(f"m{at}", name, None) for at, name in enumerate(outcomes)), 1.0)

    assert code == code_of_report(report)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((words.NOT_SEEN_UNLOADED, words.NOT_REQUESTED), 3),
        ((words.UNLOADED, words.NOT_SEEN_UNLOADED), 5),
        ((words.CAME_BACK, words.NOT_SEEN_UNLOADED), 5),
    ],
)
def test_router_that_went_away(outcomes: tuple[str, ...], code: int) -> None:
    """What a router that went away leaves open is one kind of outcome: unreachable."""
    report = UnloadReport(tuple(Outcome(f"m{at}", name, None) for at, name in enumerate(outcomes)), 1.0, error=GONE)

    assert code == code_of_report(report)


def test_every_outcome_has_a_next_step() -> None:
    """What was not wanted is never the last word: each such outcome comes with what to try."""
    outcomes = {value for name, value in vars(words).items() if name.isupper() and isinstance(value, str)}
    unwanted = outcomes - SUCCESS - {words.BY_MEMORY, words.BY_STATUS, words.KILLED_WHILE_LOADING}

    assert unwanted
    assert unwanted <= NEXT_STEPS.keys()


def test_a_request_alone_is_no_success_when_the_wait_was_cut() -> None:
    """`requested` is what was asked for only where nobody waited for more."""
    asked = Outcome("a", words.REQUESTED, "loaded")

    assert went_well(asked, UnloadReport((asked,), 1.0))
    assert not went_well(asked, UnloadReport((asked,), 1.0, True))
    assert not went_well(asked, LoadReport((asked,), 1.0, True))


def test_interruption_goes_before_everything() -> None:
    """An interrupted command says 130, whatever was done before."""
    report = UnloadReport((Outcome("a", words.UNLOADED, None), Outcome("b", words.REQUESTED, None)), 1.0, True)

    assert 130 == code_of_report(report)
    assert 130 == code_of_wait(WaitReport("loaded", (), (("a", None),), 1.0, True))


def test_wait_reports() -> None:
    """A wait is done, over time (1), or cut short by what happened to the router."""
    assert 0 == code_of_wait(WaitReport("loaded", ("a",), (), 1.0))
    assert 1 == code_of_wait(WaitReport("loaded", (), (("a", "loading"),), 1.0))
    assert 3 == code_of_wait(WaitReport("loaded", (), (("a", "loading"),), 1.0, error=GONE))

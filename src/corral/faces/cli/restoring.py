"""Putting models back, as the commands do it that end with that: within the router's room, and heeding holds."""

from __future__ import annotations

from corral.faces.cli.records import look_at_ledger
from corral.faces.cli.times import tell_duration, tell_time
from corral.faces.cli.words import count
from corral.ledger import LedgerError
from corral.ops.restore import Restore
from corral.wire import escape_controls, quote_name, shorten, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.client import Router
    from corral.faces.cli.console import Console
    from corral.ops import LoadReport
    from corral.ops.promises import Hold, Moment

_LONGEST_REASON = 80
_NAMED = 8
_NOT_MISSING = frozenset({"loaded", "already_loaded", "requested", "not_seen_loaded", "vanished"})
"""Outcomes of models that are there, on their way, or cannot come back."""


def restore(
    router: Router,
    names: Sequence[str],
    console: Console,
    *,
    proven_max: int = 0,
    has_evicted: bool = False,
    timeout_s: float | None = None,
    own_hold: str | None = None,
) -> LoadReport:
    """Load models again, in order, but none that is held and none that another would have to go for.

    ``proven_max`` and ``has_evicted`` are as for ``Restore``; the hold with the id ``own_hold`` does not count.

    Where it cannot be read what is held, that is said, and nothing is taken to be. Raises what ``Restore`` raises.
    """
    from corral.faces.cli.progress import Progress

    held: dict[str, str] = {}
    try:
        held = find_held(router.url, names, own_hold)
    except LedgerError as error:
        console.warn(f"What is held is not known: {error.message}")
    verb = Restore(names, held=held, proven_max=proven_max, has_evicted=has_evicted, timeout_s=timeout_s)
    report: LoadReport = router.run(verb, Progress(console))
    return report


def list_holds(url: str, now: Moment) -> list[Hold]:
    """The holds in force on this router. Raises LedgerError."""
    from corral.client import identify

    with look_at_ledger() as ledger:
        return ledger.holds.list_in_force(now, identify(url))


def find_held(url: str, names: Sequence[str], own_hold: str | None = None) -> dict[str, str]:
    """Of these models the held ones, and why, in words. Raises LedgerError."""
    from corral.ledger import read_moment

    now = read_moment()
    return pick_held([hold for hold in list_holds(url, now) if hold.id != own_hold], names, now)


def pick_held(holds: Sequence[Hold], names: Sequence[str], now: Moment) -> dict[str, str]:
    """Of these models the ones that the holds cover, and why, in words."""
    from corral.ops.promises import find_hold

    found = {name: find_hold(holds, name, now) for name in names}
    return {name: _tell_hold(hold, now) for name, hold in found.items() if hold is not None}


def conclude(report: LoadReport, url: str, console: Console) -> None:
    """Say in a sentence or two what came of it."""
    outcomes = [item.outcome for item in report.outcomes]
    done, already = outcomes.count("loaded"), outcomes.count("already_loaded")
    left = len(outcomes) - done - already
    for item in report.outcomes:
        for evicted in item.evicted:
            console.say(
                f"While {show_name(item.model)} was loaded, {show_name(evicted)} went; somebody else loads too."
            )
    if report.interrupted:
        console.warn(f"Interrupted: {done + already} are resident, {left} are not, or not yet.")
        return
    sentences = [f"Restored {count(done)} on {url}."] if done else []
    if already:
        sentences.append(f"Resident already: {count(already)}.")
    if left:
        sentences.append(f"Not restored: {count(left)}.")
    console.say(" ".join(sentences))


def tell_rest(report: LoadReport, console: Console) -> None:
    """How what did not come back is had all the same, where nothing remembers any more that it was to."""
    rest = [item.model for item in report.outcomes if item.outcome not in _NOT_MISSING]
    if rest:
        named = " ".join([quote_name(name) for name in rest[:_NAMED]] + ["..."] * (len(rest) > _NAMED))
        console.warn(f"Nothing puts back the rest by itself: 'corral load {named}' does, when that is mended.")


def _tell_hold(hold: Hold, now: Moment) -> str:
    from corral.ops.promises import count_left

    left_s = count_left(hold, now)
    reason = f": {shorten(escape_controls(hold.reason), _LONGEST_REASON)}" if hold.reason else ""
    until = f"until {tell_time(now.wall + left_s)}, for another {tell_duration(left_s)}"
    return f"held by {escape_controls(hold.owner.label)} ({hold.id}){reason}; {until}"

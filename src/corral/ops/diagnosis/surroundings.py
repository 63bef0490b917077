"""Corral's own side: clock, state directory, key files, versions."""

from __future__ import annotations

from corral.ops.diagnosis.facts import Facts, Folder
from corral.ops.diagnosis.finding import Finding, name_some, ok, tell_count, tell_duration, warn
from corral.wire import escape_controls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTER_MODE_BEGAN = 1764547200.0
"""1 December 2025: no router is older, so a clock that says less is wrong."""
_MAX_AHEAD_S = 30.0
_MAX_JUMP_S = 2.0
_OTHERS_READ = 0o044
_OTHERS_WRITE = 0o022


def check_clock(facts: Facts) -> Iterator[Finding]:
    """Whether the clock can be trusted with the expiry of holds and the times in the log."""
    here, ahead = facts.here, facts.answer.clock_ahead_s
    do = "Set the clock and switch on its time service: holds end, and log entries count, by it."
    if here.now < ROUTER_MODE_BEGAN:
        yield warn("clock", "This machine's clock is before December 2025, when routers first existed.", do)
    elif abs(here.clock_jumped_s) > _MAX_JUMP_S:
        yield warn("clock", f"The clock jumped by {tell_duration(abs(here.clock_jumped_s))} while Corral looked.", do)
    elif ahead is not None and abs(ahead) > _MAX_AHEAD_S:
        side = "ahead of" if ahead > 0 else "behind"
        seen = f"The router's clock is {tell_duration(abs(ahead))} {side} this machine's."
        yield warn("clock", seen, "Set the wrong one: times in the router's log and in Corral's cannot be compared.")
    elif here.is_clock_synchronised is False:
        yield warn("clock", "The time service has not set this machine's clock since it started.", do)
    else:
        yield ok("clock", "The clock is plausible" + (" and agrees with the router's." if ahead is not None else "."))


def check_state(facts: Facts) -> Iterator[Finding]:
    """Whether Corral can write down what it does, and whether nobody else can."""
    state = facts.here.state
    if state is None:
        return
    if state.path is None:
        seen = "There is no place for Corral's state: neither CORRAL_STATE_DIR, XDG_STATE_HOME nor HOME names one."
        yield warn("state", seen, "Set CORRAL_STATE_DIR; without it, commands work but remember nothing.")
        return
    path = escape_controls(state.path)
    if not state.is_writable:
        seen = f"{path} cannot be {'written' if state.exists else 'made'}: holds, sets and the log are not kept."
        yield warn("state", seen, "Make it writable for this user, or set CORRAL_STATE_DIR to a place that is.")
    elif state.problem:
        yield warn("state", state.problem, state.cure)
    elif state.is_network:
        seen = f"{path} lies on a network file system, where holds, sets and the log can get damaged."
        yield warn("state", seen, "Set CORRAL_STATE_DIR to a folder of this machine's own.")
    elif _is_open(state):
        seen = f"{path} can be written by other users, who could so set and end holds."
        yield warn("state", seen, f"Take that right away: chmod go-w {path}")
    else:
        yield ok("state", f"{path} {'can be written' if state.exists else 'is made when it is first needed'}.")


def check_promises(facts: Facts) -> Iterator[Finding]:
    """Whether what Corral promised about this router is kept."""
    kept = facts.here.kept
    if kept is None:
        return
    if kept.left_behind:
        seen = f"{tell_count(len(kept.left_behind), 'run')} ended without putting its models back"
        yield warn("runs", f"{seen}: {name_some(kept.left_behind)}.", "'corral recover' puts them back.")
    if kept.unenforced:
        seen = f"Nobody sees to {tell_count(len(kept.unenforced), 'hold')} any more: {name_some(kept.unenforced)}."
        yield warn("holds", seen, "'corral release HOLD' ends one, 'corral hold' sets it anew.")
    elif kept.holds:
        yield ok("holds", f"{tell_count(kept.holds, 'hold')} in force and seen to.", "'corral holds' shows more.")


def check_key_files(facts: Facts) -> Iterator[Finding]:
    """Whether other users of this machine can read the API key."""
    for kept in facts.here.key_files:
        path = escape_controls(kept.path)
        if kept.mode & (_OTHERS_READ | _OTHERS_WRITE):
            seen = f"The {kept.what} {path} holds a key that other users of this machine can read or replace."
            yield warn("key file", seen, f"Take that right away: chmod 600 {path}")
        else:
            yield ok("key file", f"The {kept.what} {path} can be read by its owner alone.")


def check_versions(facts: Facts) -> Iterator[Finding]:
    """What is running here."""
    yield ok("corral", f"Corral {facts.here.corral} on Python {facts.here.python}.")


def _is_open(state: Folder) -> bool:
    return state.exists and state.mode is not None and bool(state.mode & _OTHERS_WRITE)

"""What ``corral hold`` prints while it lasts: a line for each event, in words or as NDJSON."""

from __future__ import annotations

import time
from json import dumps

from corral.faces.cli.documents import SCHEMA_VERSION
from corral.faces.cli.times import tell_duration
from corral.faces.cli.words import describe_error, tell_seconds
from corral.ops import LetOut, Waiting
from corral.ops.guard_facts import CameUp, NotMoved, RouterBack, RouterLost, WentAgain, WorkUnseen
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from corral.faces.cli.console import Console
    from corral.ops.measurement import Peer

_NAMED = 4
_FOR_EVER_S = 1e9


class HoldTalk:
    """Takes the facts of one hold; called by the router.

    ``find_peers`` tells who is connected to the router, None where that can't be seen.
    """

    def __init__(
        self, console: Console, hold_id: str, find_peers: Callable[[], Sequence[Peer] | None], *, as_json: bool
    ) -> None:
        self._console = console
        self._hold_id = hold_id
        self._find_peers = find_peers
        self._as_json = as_json

    def __call__(self, fact: object) -> None:
        """Tell of one fact, if it is one to be told."""
        if isinstance(fact, Waiting):
            self._show_status(fact)
        elif isinstance(fact, CameUp):
            self._tell_newcomer(fact)
        elif isinstance(fact, WentAgain):
            self.tell(
                "went_again",
                f"{show_name(fact.model)}  went again after {tell_seconds(fact.seconds)}{tell_cut(fact.cut)}",
                {"model": fact.model, "seconds": round(fact.seconds, 3), "cut": fact.cut},
            )
        elif isinstance(fact, LetOut):
            names = ", ".join(map(show_name, fact.models))
            self.tell("let_out", f"{names}  was released from the hold", {"models": fact.models})
        else:
            self._tell_trouble(fact)

    def begin(self, fields: dict[str, Any]) -> None:
        """It holds from now on; when quiet, its id is all that is printed."""
        if self._console.quiet and self._hold_id and not self._as_json:
            self._console.line(self._hold_id)
        self.tell("begun", "", fields)

    def tell(self, event: str, words: str, fields: dict[str, Any]) -> None:
        """One event: its words, and for programs its fields."""
        if self._as_json:
            head = {"schema_version": SCHEMA_VERSION, "time": round(time.time(), 3), "event": event}
            self._console.line(dumps(head | {"hold": self._hold_id or None} | fields))
        elif words and not self._console.quiet:
            self._console.line(f"{time.strftime('%H:%M:%S')}  {words}")
        self._console.flush()

    def _tell_newcomer(self, fact: CameUp) -> None:
        peers = self._find_peers()
        rate = "" if fact.per_minute == 1 else f"; {fact.per_minute} loads within the last minute"
        gone = "" if not fact.evicted else f"; the router may have evicted {_list_names(fact.evicted)} for it"
        self.tell(
            "came_up",
            f"{show_name(fact.model)}  was asked for and comes up{rate}{gone}{_tell_peers(peers)}",
            {
                "model": fact.model,
                "loads_per_minute": fact.per_minute,
                "peers": None if peers is None else [_describe_peer(peer) for peer in peers],
            },
        )
        for evicted in fact.evicted:
            self.tell("evicted", "", {"model": evicted, "by": fact.model})

    def _tell_trouble(self, fact: object) -> None:
        """What keeps the hold from being kept is said, quiet or not."""
        if isinstance(fact, NotMoved):
            why = f": {fact.error.message}" if fact.error is not None else "."
            error = None if fact.error is None else describe_error(fact.error)
            self._warn(f"The router does not unload {show_name(fact.model)}{why} Asking again until it does.")
            self.tell("not_moved", "", {"model": fact.model, "error": error})
        elif isinstance(fact, WorkUnseen):
            self._warn(
                f"{show_name(fact.model)} stays: whether it is answering can't be seen from here.\n"
                "On the router's own machine Corral sees connections; --force unloads without, and may cut answers."
            )
            self.tell("work_unseen", "", {"model": fact.model})
        elif isinstance(fact, RouterLost):
            self._warn(f"The router is gone: {fact.error.message} Trying again until it is back.")
            self.tell("lost", "", {"error": describe_error(fact.error)})
        elif isinstance(fact, RouterBack):
            self._console.say("The router is back.")
            self.tell("back", "", {})

    def _warn(self, text: str) -> None:
        self._console.warn(f"corral: {text}")

    def _show_status(self, fact: Waiting) -> None:
        named = ", ".join(f"{show_name(model, 40)} ({reason})" for model, reason in fact.models[:2])
        more = len(fact.models) - 2
        left = f"; {tell_duration(fact.left_s)} left" if fact.left_s < _FOR_EVER_S else ""
        self._console.status(f"{named}{f', {more} more' if more > 0 else ''}{left}")


def tell_cut(cut: int | None) -> str:
    """What a request that slipped in has come to; empty when there was none, or it is not known."""
    if not cut:
        return ""
    return f"; {cut} {'request that slipped in was' if cut == 1 else 'requests that slipped in were'} cut"


def _list_names(models: Sequence[str]) -> str:
    shown = [show_name(model) for model in models[:_NAMED]]
    more = len(models) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)


def _tell_peers(peers: Sequence[Peer] | None) -> str:
    """Who was connected then: one of them has asked, or somebody behind one of them."""
    if not peers:
        return ""
    shown = [_name_peer(peer) for peer in peers[:_NAMED]]
    more = len(peers) - len(shown)
    return f"; connected: {', '.join([*shown, f'{more} more'] if more else shown)}"


def _name_peer(peer: Peer) -> str:
    if peer.process is not None:
        return f"{escape_controls(peer.process.name)} (pid {peer.process.pid})"
    return escape_controls(peer.address) if peer.user is None else f"{escape_controls(peer.address)} (user {peer.user})"


def _describe_peer(peer: Peer) -> dict[str, Any]:
    return {
        "address": peer.address,
        "connections": peer.connections,
        "pid": None if peer.process is None else peer.process.pid,
        "name": None if peer.process is None else peer.process.name,
        "user": peer.user,
    }

"""What a verb says while it runs, as talk and as a status line."""

from __future__ import annotations

from corral.ops import LoadProgress, Requested, Waiting
from corral.wire import escape_controls, show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.faces.cli.console import Console

_NAMED = 2
_VERBS = {"unload": "Unloading", "load": "Loading"}


class Progress:
    """Takes the facts of one run; called by the router."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._load = ""
        self._told: set[str] = set()

    def __call__(self, fact: object) -> None:
        """Tell the person who waits."""
        if isinstance(fact, Requested):
            self._load = ""
            self._console.say(f"{_VERBS.get(fact.verb, fact.verb)} {show_name(fact.model)}")
        elif isinstance(fact, LoadProgress):
            self._load = describe_progress(fact.stage, fact.fraction)
            self._console.status(f"{show_name(fact.model, 40)}: {self._load}")
        elif isinstance(fact, Waiting):
            self._console.status(self._describe(fact))
            if not self._console.is_live:
                self._tell_lasting(fact)

    def _tell_lasting(self, fact: Waiting) -> None:
        """Where no status line is seen, as in a log: once for each model that is let finish something."""
        for model, reason in fact.models:
            if model in fact.lasting and model not in self._told:
                self._told.add(model)
                self._console.say(f"Waiting for {show_name(model)}: {reason}")

    def _describe(self, fact: Waiting) -> str:
        shown = [f"{show_name(model, 40)} ({self._load or reason})" for model, reason in fact.models[:_NAMED]]
        more = len(fact.models) - len(shown)
        named = ", ".join([*shown, f"{more} more"] if more else shown)
        return f"waiting for {named}; {fact.left_s:.0f} s left"


def describe_progress(stage: str | None, fraction: float | None) -> str:
    """How far a load has come, such as ``text_model 45 %``."""
    parts = [] if stage is None else [escape_controls(stage)]
    if fraction is not None:
        parts.append(f"{fraction:.0%}".replace("%", " %"))
    return " ".join(parts)

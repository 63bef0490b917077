"""Notices which resident models a verb leaves alone because they are pinned, so that it can be said."""

from __future__ import annotations

from corral.ops.protocol import Listed
from corral.ops.selection import Selection, find_spared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.ops.protocol import Effect, Input, Verb


class Sparing:
    """A verb that runs another one and looks at the same lists; the pins themselves are in the selection."""

    def __init__(self, verb: Verb, selection: Selection) -> None:
        self._verb = verb
        self._selection = selection
        self.spared: tuple[str, ...] = ()
        """The ids of the pinned models that were resident in the newest list."""

    @property
    def deadline(self) -> float | None:
        """When it ends at the latest; None is never."""
        return self._verb.deadline

    def start(self, now: float) -> list[Effect]:
        """Begin."""
        return self._verb.start(now)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input."""
        if isinstance(given, Listed):
            self.spared = tuple(model.id for model in find_spared(given.listing, self._selection))
        return self._verb.on(given, now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop at once."""
        return self._verb.interrupt(now)

"""What a selection comes to on a list: tags and patterns that nothing matches are most likely misspelt, and told."""

from __future__ import annotations

from corral.ops import Selection, select
from corral.ops.protocol import Done, Listed
from corral.wire import show_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.faces.cli.console import Console
    from corral.ops.protocol import Effect, Input, Verb
    from corral.wire import Listing


class Witness:
    """A verb that runs another one and keeps the first list that this was given.

    Where ``is_elsewhere`` says after that list that the verb is somebody else's to run, it ends with no report.
    """

    def __init__(self, verb: Verb, is_elsewhere: Callable[[], bool] = lambda: False) -> None:
        self._verb = verb
        self._is_elsewhere = is_elsewhere
        self.listing: Listing | None = None
        """None when none came."""

    @property
    def deadline(self) -> float | None:
        """When it ends at the latest; None is never."""
        return self._verb.deadline

    def start(self, now: float) -> list[Effect]:
        """Begin."""
        return self._verb.start(now)

    def on(self, given: Input, now: float) -> list[Effect]:
        """Take one input."""
        if isinstance(given, Listed) and self.listing is None:
            self.listing = given.listing
            if self._is_elsewhere():
                return [Done(None)]
        return self._verb.on(given, now)

    def interrupt(self, now: float) -> list[Effect]:
        """Stop at once."""
        return self._verb.interrupt(now)


def find_unmatched(listing: Listing | None, selection: Selection) -> tuple[str, ...]:
    """The tags and patterns that no listed model has, resident or not; none where there was no list."""
    if listing is None:
        return ()
    tags = [tag for tag in selection.tags if not select(listing, Selection((), True, (tag,)))]
    patterns = [glob for glob in selection.patterns if not select(listing, Selection((), True, (), (glob,)))]
    return (*tags, *patterns)


def warn_of_unmatched(unmatched: tuple[str, ...], selection: Selection, url: str, console: Console) -> None:
    """One line for each, quiet or not: it is no error, but hardly meant."""
    for text in unmatched:
        shown = show_name(text)
        quoted = shown if shown.startswith("$'") else f"'{shown}'"
        what = f"has the tag {quoted}" if text in selection.tags else f"matches {quoted}"
        console.warn(f"corral: No model on {url} {what}.")
    if unmatched:
        console.warn("'corral ls -o wide' shows ids, aliases and tags.")
